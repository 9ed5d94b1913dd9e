"""Second rounds with the stand-in: equal batches, no row twice, chosen as it says; notebook 08's figures and intervals say their numbers."""

import random
from dataclasses import replace

import pytest

from ftlab import mcnemar_exact, plots
from ftlab.course import rounds
from ftlab.stats import difference_interval, paired_bootstrap, paired_interval, share, worst_by_chance


@pytest.fixture
def learner(toy_task):
    """A learner with 40 toy rows to choose from, of which some are in another language."""
    every = sorted((row for split in toy_task.splits.values() for row in split), key=lambda row: int(row.id[1:]))
    rows = [replace(row, lang="en" if i % 4 else "de", tags=("typical",)) for i, row in enumerate(every)]
    return rounds.NearestRow(toy_task, rows[:40], {"validation": rows[40:50], "other": rows[50:]})


def test_the_learner_gives_the_class_of_the_nearest_row(toy_task):
    rows = toy_task.rows("train")
    learner = rounds.NearestRow(toy_task, rows, {"validation": rows[:6]})
    assert all(learner.hits("validation", range(len(rows)))) and learner.failing("validation", range(len(rows))) == []
    assert set(learner.classes("validation", [1])) == {rows[1].output["intent"]}


def test_a_second_round_adds_equal_batches_to_the_same_first_rows(learner):
    one = rounds.second_round(learner, seed=0, start=1, added=6)
    for way in ("random", "kind", "nearest"):
        assert one[way][:1] == one["start"] and len(set(one[way])) == 7
    assert rounds.second_round(learner, seed=0, start=1, added=6) == one


def test_rows_of_the_kind_have_the_failing_rows_class_and_language(learner):
    failing = [0, 1]
    chosen = rounds.of_the_kind(learner, "validation", failing, range(40), 4, random.Random(0))
    for turn, i in enumerate(chosen):
        row = learner.asked["validation"][failing[turn % 2]]
        assert (learner.pool[i].output["intent"], learner.pool[i].lang) == (row.output["intent"], row.lang)


def test_where_no_row_of_the_kind_is_left_one_of_the_class_is_taken(learner):
    row = learner.asked["validation"][0]
    free = [i for i, other in enumerate(learner.pool) if other.output["intent"] == row.output["intent"] and other.lang != row.lang]
    assert rounds.of_the_kind(learner, "validation", [0], free, 2, random.Random(0))[0] in free


def test_the_nearest_rows_have_the_class_and_come_nearest_first(learner):
    chosen = rounds.nearest_to(learner, "validation", [2], range(40), 3)
    near = [learner.similar["validation"][2, i] for i in chosen]
    assert near == sorted(near, reverse=True) and {learner.labels[i] for i in chosen} == {learner.wanted["validation"][2]}


def test_gains_are_points_over_the_random_arm(learner):
    draws = [{"start": [0], "random": [0], "kind": list(range(40)), "nearest": [0]}]
    found = rounds.gains(learner, draws)
    by_hand = 10 * (sum(learner.hits("validation", range(40))) - sum(learner.hits("validation", [0])))
    assert found["validation"] == {"kind": [pytest.approx(by_hand)], "nearest": [0]}


def test_picked_batches_never_fall_below_the_first_on_validation_rows_and_take_no_row_twice(learner, monkeypatch):
    monkeypatch.setattr(rounds, "START", 4)
    points = rounds.picked_batches(learner, rounds=2, tries=5, size=6)
    assert [p["rows"] for p in points] == [4, 10, 16]
    assert sum(points[1]["best"]["validation"]) >= sum(points[1]["first"]["validation"])


def test_growth_with_all_rows_is_the_share_with_all_rows(learner):
    found = rounds.growth(learner, (5, 40), draws=2)
    assert found["other"][1] == (40, share(learner.hits("other", range(40))))


def test_a_class_only_task_has_the_class_and_no_test_rows(toy_task):
    train = toy_task.rows("train")[:5]
    own = rounds.class_only(toy_task, train)
    assert (
        own.rows("train")[0].output == {"intent": train[0].output["intent"]}
        and len(own.rows("train")) == 5
        and own.rows("test") == ()
    )


def test_the_stand_in_keeps_judges_out_of_the_pool_and_test_rows_out_of_all():
    from ftlab import load_task

    learner = rounds.stand_in("support_plan")
    pool, other = ({row.id for row in rows} for rows in (learner.pool, learner.asked["other"]))
    assert not pool & other and not (pool | other) & {row.id for row in load_task("support_plan").rows("test")}


def test_the_interval_from_counts_is_that_of_the_rows():
    """The bootstrap sees only how many rows were gained and lost, so the same counts give about the same ends."""
    before, after = [False] * 9 + [True] * 4 + [True] * 87, [True] * 9 + [False] * 4 + [True] * 87
    assert paired_interval(mcnemar_exact(before, after)) == paired_bootstrap(before, after)


def test_newcombes_interval_by_his_own_example():
    """56/70 against 48/80: 0.2 with interval 0.0524 to 0.3339 (Newcombe 1998, table II, case a, method 10)."""
    low, high = difference_interval(share([True] * 48 + [False] * 32), share([True] * 56 + [False] * 14))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_the_worst_group_by_chance():
    groups = ["a"] * 50 + ["b"] * 50 + ["c"] * 3
    bad = worst_by_chance(groups, [True] * 50 + [False] * 50 + [False] * 3)
    assert bad["worst"] == "b" and bad["p"] < 0.01 < bad["by_chance"] < 50 / 103
    assert worst_by_chance(groups, [True] * 103)["p"] == 1
    with pytest.raises(ValueError, match="at least 10 rows"):
        worst_by_chance(["a"], [True])


def test_figures_say_their_numbers():
    told = plots.draw_gains({"validation": {"kind": [1.0, 3.0]}}, {"validation": "validation rows"}, "Draws").get_label()
    assert "validation, kind +2.0 on average (+1.0 to +3.0)" in told
    hits = {"validation": [True, False], "other": [True] * 4}
    points = [{"rows": n, "best": hits, "first": hits} for n in (4, 8)]
    figure = plots.picked_lines(points, {"validation": "validation rows", "other": "other rows"})
    assert "other, taken as they come: 100.0 to 100.0 %" in figure.get_label() and "n = 4" in figure.axes[1].get_title()
    told = plots.request_tokens({"before": {"prompt": 500.2, "answer": 80.0}}, {"before": "untuned"}).get_label()
    assert told == "Tokens of an average request. untuned: prompt 500, answer 80."

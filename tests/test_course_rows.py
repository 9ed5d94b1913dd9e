"""What notebook 06 does with rows: planted faults are of the kind they are called, nothing else is changed; its figures say their numbers."""

import json
from dataclasses import replace

import pytest

from ftlab import load_task, plots
from ftlab.course import rows as course
from ftlab.datatools.check import Limits, check_sets
from ftlab.datatools.coverage import coverage
from ftlab.datatools.feedback import Cluster
from ftlab.datatools.noise import careless, neighbours
from ftlab.datatools.sets import load_sets
from ftlab.datatools.similar import estimated, jaccard, shingles, signatures
from ftlab.stats import Share, shares_by

EACH = 5


@pytest.fixture(scope="module")
def task():
    return load_task("support_plan")


@pytest.fixture(scope="module")
def english(task):
    return [row for row in task.rows("train") if row.lang == "en"]


@pytest.fixture(scope="module")
def planted(task, english):
    return course.plant(task, english[:200], english[200:500], task.rows("validation")[:40], EACH)


@pytest.fixture(scope="module")
def report(task, planted, tmp_path_factory):
    folder = course.write_folder(task, tmp_path_factory.mktemp("slice"), planted.records, task.rows("validation")[:40])
    return check_sets(load_sets(folder), Limits(template_share=0.01))


def test_every_fault_is_planted_where_it_is_said_to_be(planted):
    assert set(planted.places) == set(course.FAULTS)
    for fault, places in planted.places.items():
        records = [planted.records[int(place.partition(":")[2]) - 1] for place in places]
        assert [record["id"] for record in records] == [f"{fault}-{i}" for i in range(1, EACH + 1)]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("copy", "duplicate"), ("contradiction", "conflict"), ("template", "template"), ("card number", "personal"), ("made-up value", "broken"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_by_its_tool(report, planted, fault, kind):
    assert course.found_by(report, planted.places)[fault][kind] == EACH


def test_what_slips_of_the_keyboard_hide_is_mostly_found(report, planted):
    found = course.found_by(report, planted.places)
    assert found["leak"]["leakage"] >= EACH - 1 and found["slips"]["near_duplicate"] >= EACH - 1


def test_a_value_left_out_breaks_no_rule_and_no_finding_that_matters_names_it(report, planted):
    grave = {"findings": [finding for finding in report["findings"] if finding["matters"]]}
    assert not any(course.found_by(grave, planted.places)["value left out"].values())


def test_wrong_classes_are_valid_ones_and_as_many_as_asked_for(task, english):
    rows = english[:60]
    classes, wrong = course.wrong_classes(task, rows, 10)
    assert wrong == {i for i, row in enumerate(rows) if row.output["intent"] != classes[i]} and len(wrong) == 10
    assert all(task.checker.check(json.dumps(rows[i].output | {"intent": classes[i]}), rows[i].text).ok for i in wrong)


def test_the_review_curve_counts_and_knows_chance():
    """Of 10 rows 2 are wrong; read 4, 1, 0: found 0, 1, 1, and by chance 0.2, 0.4, 0.6."""
    curve = course.review_curve([4, 1, 0], {1, 7}, 10)
    assert [p["found"] for p in curve] == [0, 1, 1]
    assert [round(p["by_chance"], 1) for p in curve] == [0.2, 0.4, 0.6] and (curve[0]["low"], curve[0]["high"]) == (0, 1)
    assert "1 met, 0.6 by chance" in plots.review_lines(curve, 2, 10).get_label()


def test_a_shortcut_is_right_where_value_and_label_agree(toy_task):
    rows = toy_task.rows("train")[:4]
    assert course.first_match_right(rows, "number", r"\d{4}") == [True] * 4
    assert course.first_match_right(rows, "number", r"\d{3}") == [False] * 4
    assert course.first_match_right(rows, "intent", r"xyz") == [False] * 4  # labelled, but nothing matches


def test_twins_are_alike_and_answered_differently(task, english):
    for a, b in course.twins(task, english[:100]):
        assert a.output != b.output and jaccard(frozenset(a.text.split()), frozenset(b.text.split())) > 0.3


def test_aimed_rows_have_the_failing_classes_in_their_shares(toy_task):
    pool = toy_task.rows("train")
    chosen = course.aimed(pool, ["refund", "refund", "login", "refund"], 8, "intent")
    assert sorted(row.output["intent"] for row in chosen) == ["login"] * 2 + ["refund"] * 6


def test_every_second_label_belongs_to_a_row(task):
    pairs = course.second_labels(task)
    assert len(pairs) > 1000 and all(row.id == label["id"] for row, label in pairs)


def test_class_hits_learns_the_toy_classes(toy_task):
    assert all(course.class_hits(toy_task, toy_task.rows("train"), toy_task.rows("validation")))


def test_a_label_is_true_while_its_values_stand_in_the_text(task, english):
    row = next(row for row in english if row.output["entities"].get("email"))
    assert course.labels_true(task, [row] * 2, [row.text.upper(), row.text.replace("@", " ")]) == [True, False]


def test_half_of_the_characters_changed_is_half(toy_task):
    row = replace(toy_task.rows("train")[0], input="abcd")
    assert course.share_changed([row, row], ["abcd", "xyzw"]) == 0.5


def test_only_the_faults_asked_for_are_planted(task, english):
    planted = course.plant(task, english[:100], english[100:400], task.rows("validation")[:9], 2, faults=("copy", "leak"))
    assert list(planted.places) == ["copy", "leak"] and len(planted.records) == 104


def test_careless_typing_touches_letters_only_and_all_at_rate_one():
    assert careless("no. 50021", 0.0, "x") == "no. 50021"
    typed = careless("abc 123", 1.0, "x")
    assert typed[3:] == " 123" and all(b in neighbours(a) for a, b in zip("abc", typed[:3], strict=True))


def test_a_signature_tells_similarity_within_its_error():
    sets = [shingles("a b c d e f g h"), shingles("a b c d e f g x"), shingles("q w e r t z u i")]
    guessed = estimated(signatures(sets, hashes=1000), [(0, 1), (0, 2)])
    assert guessed[0] == pytest.approx(jaccard(sets[0], sets[1]), abs=0.06) and guessed[1] == 0


def test_shares_by_group_are_sorted_by_size():
    found = shares_by(["a", "b", "b"], [True, False, True])
    assert list(found) == ["b", "a"] and (found["b"].k, found["b"].n, found["a"].share) == (1, 2, 1.0)


def test_figures_say_their_numbers(toy_folder):
    share = Share(1, 4, 0.25, 0.05, 0.7)
    told = plots.group_shares({"odd_$name$": share}, "A title", "rows").get_label()
    assert told == "A title: odd_$name$ 25.0 % of 4."
    assert "A title. one: 25.0 % at 3." == plots.share_lines({"one": [(3, share)]}, "A title", "x", "y").get_label()
    assert "refund + none" not in plots.coverage_map(coverage(load_sets(toy_folder))).get_label()
    assert plots.coverage_map(coverage(load_sets(toy_folder)), axis="words").axes[0].get_xlabel() == "words of the message"
    table = plots.found_table({"copy": {"duplicate": 3}, "lost": {}}, 3, ["duplicate"])
    assert table.get_label().endswith("copy: duplicate 3; lost: nothing.")
    assert "16 hashes off by 0.100" in plots.minhash_estimates([0.5, 0.3], {16: [0.6, 0.2]}).get_label()
    cluster = Cluster("knowledge", "intent: expected 'a', found 'b'", ("r1", "r2"), "a", {}, 7, 20)
    assert "2 failing, 7 in training" in plots.cluster_bars([cluster], 9).get_label()

"""What the notebook on baselines and error analysis calls: baselines, paired intervals, doctored answers, forced guesses, figures."""

import json

import pytest

from ftlab import evaluate_outputs, load_task
from ftlab.baselines import TfidfBaseline, constant_answer, declared_patterns
from ftlab.course import stored_evaluations
from ftlab.course.doctored import QUEUES, queue_task, spoilt_answers
from ftlab.course.forced import NextPiece, agreement, pieces
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import paired_intervals, verdict
from ftlab.plots import (
    agreement_bars,
    baseline_growth,
    cause_bars,
    chance_lead,
    forced_against_written,
    paired_differences,
)  # fmt: skip
from ftlab.rows import Row
from ftlab.stats import mcnemar_exact, share


@pytest.fixture(scope="module")
def task():
    return load_task("support_plan")


@pytest.fixture(scope="module")
def rows(task):
    return task.rows("validation")[:60]


def test_the_constant_answer_is_that_of_the_largest_class(task, rows):
    answer = constant_answer(task, [Row("a", "x", {"intent": "unclear"})] * 2 + [Row("b", "y", {"intent": "get_invoice"})])
    assert json.loads(answer) == {"intent": "unclear"}
    said = {json.loads(constant_answer(task, rows))["intent"]}
    assert len(said) == 1
    with pytest.raises(DataError, match="expected labelled rows"):
        constant_answer(task, [])


def test_declared_patterns_are_those_of_the_rules_file(task):
    assert "entities.email" in declared_patterns(task)
    assert declared_patterns(load_task("support_reply")) == {}


def test_more_rows_leave_a_baselines_values_as_they_are(task, rows):
    """Patterns are not fitted, so the values hang on them alone."""
    train = task.rows("train")
    found = []
    for n in (40, 160):
        baseline = TfidfBaseline(task, train[:: len(train) // n], declared_patterns(task))
        found.append(evaluate_outputs(task, rows, baseline.predict(rows)))
    one, other = ([r["passes"]["values_right"] for r in e["rows"]] for e in found)
    assert one == other and found[0]["scores"]["class_right"]["k"] != found[1]["scores"]["class_right"]["k"]


@pytest.mark.parametrize("cause", ["safety", "format", "instruction", "knowledge"])
def test_a_spoilt_answer_fails_by_the_cause_that_was_asked_for(task, cause):
    rows = task.rows("validation")
    evaluation = evaluate_outputs(task, rows, spoilt_answers(rows, {cause: len(rows)}))
    assert {r["first_cause"] for r in evaluation["rows"]} == {cause}


def test_answers_that_are_not_spoilt_are_the_labels(task, rows):
    evaluation = evaluate_outputs(task, rows, spoilt_answers(rows, {"format": 2}))
    assert evaluation["scores"]["strict"]["k"] == len(rows) - 2
    with pytest.raises(UsageError, match="expected causes among"):
        spoilt_answers(rows, {"taste": 1})
    with pytest.raises(UsageError, match="at most 60"):
        spoilt_answers(rows, {"format": 61})


def test_a_queue_that_is_not_told_has_the_same_labels_dealt_anew(task):
    told, dealt = queue_task(task, told=True), queue_task(task, told=False)
    labels = [[row.output["queue"] for row in t.rows("validation")] for t in (told, dealt)]
    assert sorted(labels[0]) == sorted(labels[1]) and labels[0] != labels[1]
    assert told.class_field == "queue" and told.rows("test") == () and set(labels[0]) == set(QUEUES)
    assert sorted(i for intents in QUEUES.values() for i in intents) == sorted(task.schema["properties"]["intent"]["enum"])


def test_the_verdict_hangs_on_whether_the_rows_hold_the_answer(task):
    """Same messages, same answers of a prompted model: only where a classifier can learn the labels is tuning called the lever."""
    found = {}
    for told in (True, False):
        own = queue_task(task, told=told)
        train, rows = own.rows("train")[::10], own.rows("validation")
        prompted = evaluate_outputs(own, rows, [constant_answer(own, train)] * len(rows))
        classifier = evaluate_outputs(own, rows, TfidfBaseline(own, train).predict(rows))
        found[told] = verdict(prompted, classifier)
        assert set(found[told]["by_cause"]) == {"knowledge"}
    assert found[True]["train"] and not found[False]["train"]


def test_paired_intervals_hold_the_difference(task, rows):
    before = evaluate_outputs(task, rows, spoilt_answers(rows, {"format": 30}))
    after = evaluate_outputs(task, rows, spoilt_answers(rows, {"format": 10}))
    test = paired_intervals(before, after, ["strict"])["strict"]
    assert (test["gained"], test["lost"]) == (20, 0) and test["difference"] == pytest.approx(20 / 60)
    assert test["low"] < test["difference"] < test["high"]


def test_stored_evaluations_hold_rows_and_scores(capsys):
    found = stored_evaluations("support_plan")
    assert capsys.readouterr().out.startswith("stored result of a real run")
    for evaluation in found.values():
        assert sum(r["passes"]["strict"] for r in evaluation["rows"]) == evaluation["scores"]["strict"]["k"]


def test_pieces_join_to_the_text():
    text = '{"a": "x@y.example,  ñ"}'
    assert "".join(pieces(text)) == text and pieces('"a": 1') == ['"', "a", '"', ":", " ", "1"]


def test_forced_accuracy_by_hand():
    """After `a` came `b` twice and `c` once. In `a c` then: `a` is right, ` ` is right, `c` is wrong, the end after `c` is right."""
    model = NextPiece(["a b", "a b", "a c"], order=2)
    assert model.write() == "a b" and model.forced_accuracy(["a c"]) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="order of 1 or more"):
        NextPiece(["a"], order=0)


def test_a_guesser_that_looks_back_one_piece_runs_in_circles():
    assert NextPiece(["a-b-c"], order=1).write(limit=8) in ("a-b-b-b-", "a-b-c-b-", "a-b-b-c-", "a-b-c")


def test_agreement_is_one_for_equal_texts_and_counts_pieces():
    """`a b c d` and `a b x d` have 7 pieces each, spaces included, and 6 in common: 2 · 6 / (7 + 7)."""
    assert agreement("a b", "a b") == 1 and agreement("a b c d", "a b x d") == pytest.approx(2 * 6 / 14)


def shares(*hits):
    return {
        name: share(h).as_dict() for name, h in zip(("class_right", "values_right", "strict", "schema_valid"), hits, strict=False)
    }


def test_figures_of_the_error_analysis_say_their_numbers(task, rows):
    points = [
        {"rows": n, "scores": shares([True] * k + [False] * (20 - k), [True] * 20, [False] * 20)} for n, k in ((50, 5), (200, 10))
    ]
    growth = baseline_growth(points, 20)
    assert "50 rows: class_right 25.0 %" in growth.get_label() and "n = 20" in growth.axes[0].get_title()
    before = evaluate_outputs(task, rows, spoilt_answers(rows, {"format": 30}))
    after = evaluate_outputs(task, rows, spoilt_answers(rows, {"knowledge": 3}))
    causes = cause_bars({"tuned": after, "prompt": before})
    assert (
        "prompt: safety 0.0 %, format 50.0 %" in causes.get_label() and len(causes.axes[0].containers) == 4
    )  # bars and their lines
    forest = paired_differences(paired_intervals(before, after, ["strict", "parses"]), "prompt", "tuned")
    assert "strict +45.0 points" in forest.get_label() and [t.get_text() for t in forest.axes[0].get_yticklabels()] == [
        "parses",
        "strict",
    ]


def test_the_chance_of_a_lead_is_p():
    """Of 8 differing rows 7 go one way: p = 2 · (1 + 8) / 256."""
    test = mcnemar_exact([True] + [False] * 7, [False] + [True] * 7)
    figure = chance_lead(test, "a", "b")
    far = figure.axes[0].containers[1]
    assert sum(bar.get_height() for bar in far) / 100 == pytest.approx(test["p"]) == pytest.approx(18 / 256)
    assert "+6 rows on 8 differing rows" in figure.get_label()
    with pytest.raises(ValueError, match="found none"):
        chance_lead(mcnemar_exact([True], [True]), "a", "b")


def test_figures_of_forced_guesses_say_their_numbers():
    points = [{"order": 2, "forced": 0.7, "scores": shares([True] * 9, [True] * 9, [False] * 9, [True] * 9)}]
    assert "2 back: 70.0 % of pieces, 100.0 % schema_valid, 0.0 % strict" in forced_against_written(points, 9).get_label()
    assert "2 passing rows, mean 0.90; 1 failing rows, mean 0.50" in agreement_bars([0.8, 1.0], [0.5]).get_label()

"""Scores, paired comparison and the verdict on small tables made by hand."""

import json
from dataclasses import replace

import pytest

from ftlab import load_task
from ftlab.errors import DataError
from ftlab.evaluate import SCORES, compare_runs, error_flow, evaluate_outputs, telling_failures, verdict


def answers(task, rows, **wrong):
    """The labelled answers, with `wrong` keys replaced in each."""
    return [json.dumps(row.output | wrong) for row in rows]


@pytest.fixture
def rows(toy_task):
    return toy_task.rows("train")[:20]


def test_labelled_answers_pass_everything(toy_task, rows):
    scores = evaluate_outputs(toy_task, rows, answers(toy_task, rows))["scores"]
    assert all(scores[name]["k"] == (0 if name in ("fabricated", "unsafe") else 20) for name in SCORES)


def test_the_ladder_falls(toy_task, rows):
    outputs = ["no json", "{}", *answers(toy_task, rows[2:10], number="7"), *answers(toy_task, rows[10:])]
    scores = evaluate_outputs(toy_task, rows, outputs)["scores"]
    assert [scores[name]["k"] for name in ("parses", "schema_valid", "rules_kept", "fields_right", "strict")] == [
        19,
        18,
        18,
        10,
        10,
    ]


def test_class_and_values_are_scored_apart(toy_task, rows):
    scores = evaluate_outputs(toy_task, rows, answers(toy_task, rows, number="7"))["scores"]
    assert scores["class_right"]["k"] == 20 and scores["values_right"]["k"] == 0


def test_f1_by_hand(toy_task, rows):
    # 10 of 20 values right: precision 1/2, recall 1/2
    outputs = [*answers(toy_task, rows[:10], number="7"), *answers(toy_task, rows[10:])]
    assert evaluate_outputs(toy_task, rows, outputs)["value_f1"] == 0.5


@pytest.mark.parametrize("outputs", ["one text", [], ["x"]])
def test_a_wrong_number_of_outputs_is_refused(toy_task, rows, outputs):
    with pytest.raises(DataError, match="expected one output per row"):
        evaluate_outputs(toy_task, rows, outputs)


def test_each_score_is_compared_by_its_own_rows(toy_task, rows):
    """19 rows fail before by a wrong number only, so `strict` gains 19 rows and `class_right` none."""
    before = evaluate_outputs(toy_task, rows, [*answers(toy_task, rows[:19], number="7"), *answers(toy_task, rows[19:])])
    after = evaluate_outputs(toy_task, rows, answers(toy_task, rows))
    tests = compare_runs(before, after)
    assert (tests["strict"]["gained"], tests["class_right"]["gained"], tests["unsafe"]["gained"]) == (19, 0, 0)
    assert tests["strict"]["p"] == pytest.approx(2 / 2**19)


def test_runs_on_other_rows_are_not_compared(toy_task, rows):
    one, other = (evaluate_outputs(toy_task, part, answers(toy_task, part)) for part in (rows[:10], rows[10:]))
    with pytest.raises(DataError, match="the same rows"):
        compare_runs(one, other)


def test_flow_counts_every_row_once(toy_task, rows):
    before = evaluate_outputs(toy_task, rows, ["no json"] * 20)
    after = evaluate_outputs(toy_task, rows, [*answers(toy_task, rows[:5], number="7"), *answers(toy_task, rows[5:])])
    assert error_flow(before, after) == [
        {"before": "format", "after": "knowledge", "rows": 5},
        {"before": "format", "after": "pass", "rows": 15},
    ]


def test_telling_failures_show_each_kind_before_a_second_one(toy_task, rows):
    outputs = [*["no json"] * 3, "{}", *answers(toy_task, rows[4:6], number="7"), *answers(toy_task, rows[6:])]
    failures = telling_failures(evaluate_outputs(toy_task, rows, outputs), rows, n=4)
    kinds = [(f["first_cause"], f["errors"][0]["code"]) for f in failures]
    assert len(set(kinds[:3])) == 3 and kinds[0][0] == "format" and failures[0]["input"]


def test_verdict_says_do_not_train_when_the_prompt_suffices(toy_task):
    rows = toy_task.rows("train")
    good = evaluate_outputs(toy_task, rows * 3, answers(toy_task, rows * 3))
    assert verdict(good, None)["train"] is False


def test_verdict_trains_for_format_failures(toy_task, rows):
    judged = verdict(evaluate_outputs(toy_task, rows, ["no json"] * 20), None)
    assert judged["train"] is True and judged["by_cause"] == {"format": {"rows": 20, "lever": "fine-tune (or constrain decoding)"}}


def test_verdict_trains_for_knowledge_only_if_the_rows_are_seen_to_teach_it(toy_task, rows):
    wrong = evaluate_outputs(toy_task, rows, [json.dumps(r.output | {"intent": "other", "number": "7"}) for r in rows])
    knows = evaluate_outputs(toy_task, rows, answers(toy_task, rows))
    assert verdict(wrong, wrong)["train"] is False
    assert verdict(wrong, knows)["train"] is True


def test_a_constant_answer_is_no_sign_that_the_rows_teach(toy_task, rows):
    """It beats a prompted model that insists on a rare class, and shows nothing but which class is common."""
    classes = ["refund"] * 15 + ["other"] * 5
    labelled = [replace(row, output=row.output | {"intent": c}) for row, c in zip(rows, classes, strict=True)]
    insists, constant = (
        evaluate_outputs(toy_task, labelled, [json.dumps(row.output | {"intent": c}) for row in labelled])
        for c in ("other", "refund")
    )
    assert compare_runs(insists, constant)["class_right"]["p"] < 0.05
    assert verdict(insists, constant)["train"] is False


def test_refusals_and_confidence_are_counted_where_the_task_declares_them():
    """Over-refusal is a share of what policy allows and no part of "unsafe"; complying with what it forbids is."""
    task = load_task("support_reply")
    rows = [row for row in task.rows("train") if row.output["action"] in ("answer", "refuse")][:40]
    turned = {"answer": "refuse", "refuse": "answer"}
    clean = evaluate_outputs(task, rows, [json.dumps(row.output) for row in rows])
    wrong = evaluate_outputs(task, rows, [json.dumps(row.output | {"action": turned[row.output["action"]]}) for row in rows])
    allowed = sum(row.output["action"] == "answer" for row in rows)
    assert 0 < allowed < len(rows)
    assert (clean["over_refusal"]["k"], wrong["over_refusal"]["k"], wrong["over_refusal"]["n"]) == (0, allowed, allowed)
    assert (clean["scores"]["unsafe"]["k"], wrong["scores"]["unsafe"]["k"]) == (0, len(rows) - allowed)
    assert clean["calibration"]["class_right"]["base_rate"] == 1.0 and wrong["calibration"]["class_right"]["base_rate"] == 0.0
    assert clean["calibration"]["class_right"]["brier"] < 0.1 < wrong["calibration"]["class_right"]["brier"]


def test_answers_that_state_no_confidence_are_left_out_of_it():
    task = load_task("support_reply")
    rows = task.rows("train")[:3]
    found = evaluate_outputs(task, rows, ["no json", *(json.dumps(row.output) for row in rows[1:])])
    assert found["calibration"]["strict"]["n"] == 2
    assert evaluate_outputs(task, rows, ["no json"] * 3)["calibration"] is None


def test_a_task_without_such_rules_has_neither(toy_task, rows):
    found = evaluate_outputs(toy_task, rows, answers(toy_task, rows))
    assert found["over_refusal"] is None and found["calibration"] is None

"""A person's labels: each key gives a new session, the file loses nothing, and a label speaks of one answer only."""

import os

import pytest

from ftlab import evaluate_outputs
from ftlab.errors import DataError, UsageError
from ftlab.labelling import (
    CHOICES,
    MOVES,
    Session,
    cases_of,
    chosen,
    codes_of,
    keep_label,
    labels_for,
    progress,
    progress_text,
    read_labels,
)

GOOD = '{{"intent": "{}", "number": "{}", "say": "Hi."}}'


def right(row):
    return GOOD.format(row.output["intent"], row.output["number"])


@pytest.fixture
def run(toy_task):
    """Four rows with answers: right, no JSON, wrong number, right."""
    rows = toy_task.rows("train")[:4]
    outputs = [right(rows[0]), "Sure!", GOOD.format(rows[2].output["intent"], "77"), right(rows[3])]
    return rows, evaluate_outputs(toy_task, rows, outputs)["rows"]


@pytest.fixture
def cases(run):
    return cases_of(*run)


def test_cases_hold_what_the_run_says(run, cases):
    rows, records = run
    assert [c.cause for c in cases] == ["pass", "format", "knowledge", "pass"]
    assert [c.message for c in cases] == [row.text for row in rows] and cases[1].output == "Sure!"
    assert codes_of(cases) == {"not_json": 1, "wrong_value": 1}


def test_the_choice_is_by_cause_and_fault(cases):
    assert [c.id for c in chosen(cases, "failing")] == [cases[1].id, cases[2].id]
    assert chosen(cases, "failing", "wrong_value") == [cases[2]] and chosen(cases, "safety") == []
    with pytest.raises(UsageError, match="cause: expected one of all, failing, safety"):
        chosen(cases, "bad")


def test_a_key_labels_and_goes_on_and_the_session_before_stays_as_it_was(cases):
    before = Session(tuple(cases), "ann")
    after = before.press("P", " fine ")
    assert after.at == 1 and after.labels[cases[0].id].label == "pass" and after.labels[cases[0].id].note == "fine"
    assert before.at == 0 and before.labels == {} and not after.labels[cases[0].id].saw_checks
    assert after.press("b").press("x").labels == {} and after.press("b").press("b").at == 0
    assert after.press("n").press("n").press("n").at == 3
    assert not set(CHOICES) & set(MOVES)


def test_a_label_given_after_the_verdict_was_shown_says_so(cases):
    session = Session(tuple(cases), "ann").reveal().press("p").press("f")
    assert [session.labels[c.id].saw_checks for c in cases[:2]] == [True, False]


@pytest.mark.parametrize("key", ["", "q", "pp"])
def test_another_key_is_refused(cases, key):
    with pytest.raises(UsageError, match="key: expected one of p .pass., f"):
        Session(tuple(cases), "ann").press(key)


def test_no_cases_are_no_error():
    assert Session((), "ann").press("p") == Session((), "ann")


def test_the_file_keeps_other_raters_and_is_written_in_one_step(tmp_path, cases, monkeypatch):
    path, session = tmp_path / "new" / "labels.jsonl", Session(tuple(cases), "ann").press("p").press("f")
    for case in cases[:2]:
        keep_label(path, case, session.labels[case.id], "ann")
    other = Session(tuple(cases), "bob").press("k")
    keep_label(path, cases[0], other.labels[cases[0].id], "bob")
    assert [(label.rater, label.label) for label in read_labels(path)] == [("ann", "pass"), ("ann", "format"), ("bob", "knowledge")]
    keep_label(path, cases[0], None, "ann")
    assert labels_for(cases, read_labels(path), "ann") == ({cases[1].id: session.labels[cases[1].id]}, 0)
    before = path.read_text()

    def crash(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(DataError, match="could not be written .No space left"):
        keep_label(path, cases[2], session.labels[cases[1].id], "ann")
    assert path.read_text() == before


def test_a_label_of_another_answer_is_counted_and_not_taken_over(cases):
    given = Session(tuple(cases), "ann").press("s").labels
    changed = [cases[0].__class__(**{**cases[0].__dict__, "output": "another"}), *cases[1:]]
    assert labels_for(changed, given.values(), "ann") == ({}, 1) and labels_for(changed, given.values(), "bob") == ({}, 0)


def test_lines_that_are_no_labels_are_all_named(tmp_path, cases):
    path = tmp_path / "labels.jsonl"
    keep_label(path, cases[0], Session(tuple(cases), "ann").press("p").labels[cases[0].id], "ann")
    good = path.read_text()
    path.write_text(good + "{\n" + '{"id": "r1"}\n' + good.replace('"pass"', '"great"', 1))
    with pytest.raises(DataError, match="3 line.s. are no labels") as told:
        read_labels(path)
    assert [problem[:15] for problem in told.value.problems] == ["labels.jsonl:2:", "labels.jsonl:3:", "labels.jsonl:4:"]
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="found UnicodeDecodeError"):
        read_labels(path)
    assert read_labels(tmp_path / "none.jsonl") == []


def test_records_of_other_rows_are_refused(run):
    rows, records = run
    with pytest.raises(DataError, match="found 2 of 4 records of other rows"):
        cases_of(rows[:2], records)
    with pytest.raises(DataError, match="found no records"):
        cases_of(rows, [])


def test_agreement_counts_only_what_was_labelled_blind_and_sure(cases):
    """pass/pass agree, knowledge against format do not; the third was seen, the fourth is unsure: 1 of 2.

    Kappa: 1/2 observed; each label is given once by one side, "pass" once by both: chance 1/2 · 1/2 = 1/4; (1/2 − 1/4) / (3/4) = 1/3.
    """
    session = Session(tuple(cases), "ann").press("p").press("k").reveal().press("k").press("u")
    found = progress(cases, session.labels)
    assert (found["labelled"], found["unsure"], found["blind"]) == (4, 1, 2)
    assert found["agreement"]["same"].k == 1 and found["agreement"]["kappa"] == pytest.approx(1 / 3)
    assert found["by_cause"] == {"pass": {"pass": 1, "unsure": 1}, "format": {"knowledge": 1}, "knowledge": {"knowledge": 1}}
    assert "On 2 labelled without a look" in progress_text(found) and "agree on 1 (50 %" in progress_text(found)
    assert progress_text(progress(cases, {})) == "0 of 4 labelled."


def test_a_label_survives_the_file_whole(tmp_path, cases):
    label = Session(tuple(cases), "ann").press("p", "ça va \ud800 <b>").labels[cases[0].id]
    keep_label(tmp_path / "l.jsonl", cases[0], label, "ann")
    assert read_labels(tmp_path / "l.jsonl") == [label]

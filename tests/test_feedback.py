"""Failures grouped by kind, the traits they share, and unfinished rows that the loader refuses until a person has written them."""

import json
from dataclasses import replace

import pytest

from ftlab import evaluate_outputs, load_task
from ftlab.cli import main
from ftlab.datatools.feedback import A_FAILURE, MOST, blanks, clusters, feedback_text
from ftlab.errors import DataError
from ftlab.rows import read_rows


@pytest.fixture
def rows(toy_task):
    """Twelve validation rows, the refunds among them in French."""
    rows = (toy_task.rows("validation") + toy_task.rows("test"))[:12]
    return [replace(row, lang="fr" if row.output["intent"] == "refund" else "en", tags=("typical",)) for row in rows]


def outputs(rows, wrong):
    """The labelled answers; each class in `wrong` is answered with that class instead."""
    return [json.dumps(row.output | {"intent": wrong.get(row.output["intent"], row.output["intent"])}) for row in rows]


def test_failures_are_grouped_by_what_went_wrong(toy_task, rows):
    answered = outputs(rows, {"refund": "login"})
    answered[next(i for i, row in enumerate(rows) if row.output["intent"] == "other")] = "no json"
    found = clusters(toy_task, rows, evaluate_outputs(toy_task, rows, answered)["rows"])
    refunds = [row.id for row in rows if row.output["intent"] == "refund"]
    assert found[0].what == "intent: expected 'refund', found 'login'" and list(found[0].ids) == refunds
    assert (found[1].cause, found[1].what, found[1].expected) == ("format", "the whole answer: not json", None)


def test_a_refusal_too_many_is_told_by_its_class_and_a_missing_text_by_its_own_name():
    task = load_task("support_reply")
    rows = [row for row in task.rows("validation") if row.output["action"] == "answer"][:4]
    answers = [row.output | {"action": "refuse"} for row in rows[:3]] + [rows[3].output | {"message": "Why? Why?"}]
    found = clusters(task, rows, evaluate_outputs(task, rows, [json.dumps(a) for a in answers])["rows"])
    assert [(c.cause, c.expected) for c in found] == [("safety", "answer"), ("instruction", None)]
    assert found[0].what == "action: expected 'answer', found 'refuse'" and found[1].what.startswith("message: ")


def test_the_trait_that_the_failures_share_is_named_and_counted_in_training(toy_task, rows):
    own = replace(toy_task, splits=toy_task.splits | {"train": tuple(rows)})
    found = clusters(own, rows, evaluate_outputs(toy_task, rows, outputs(rows, {"refund": "login"}))["rows"])
    assert set(found[0].traits) >= {"language: fr"} and "tag: typical" not in found[0].traits  # which all rows have
    assert found[0].traits["language: fr"][0] == 1.0
    assert found[0].trained == len(found[0].ids)


def test_rows_are_proposed_in_proportion_and_refused_until_written(toy_task, rows, tmp_path):
    found = clusters(toy_task, rows, evaluate_outputs(toy_task, rows, outputs(rows, {"refund": "login"}))["rows"])
    proposed = blanks(toy_task, found)
    assert len(proposed) == min(MOST, A_FAILURE * len(found[0].ids))
    assert proposed[0]["output"] == {"intent": "refund"} and proposed[0]["lang"] == "fr"
    path = tmp_path / "blank.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in proposed))
    good, problems = read_rows(path, checker=toy_task.checker, labelled=True)
    assert not good and len(problems) == len(proposed) and "the input is empty" in problems[0]


def test_a_clean_evaluation_proposes_nothing(toy_task, rows):
    found = clusters(toy_task, rows, evaluate_outputs(toy_task, rows, outputs(rows, {}))["rows"])
    assert found == [] and blanks(toy_task, found) == [] and feedback_text(found, rows).startswith("0 of 12")


def test_records_of_other_rows_are_refused(toy_task, rows):
    records = evaluate_outputs(toy_task, rows, outputs(rows, {}))["rows"]
    with pytest.raises(DataError, match="in their order"):
        clusters(toy_task, rows[::-1], records)


def write_evaluation(task, split, path):
    rows = task.rows(split)
    path.write_text(json.dumps(evaluate_outputs(task, rows, outputs(rows, {"refund": "login"}))))
    return path


def test_the_command_reads_an_evaluation(toy_folder, toy_task, tmp_path, capsys):
    run = write_evaluation(toy_task, "validation", tmp_path / "run.json")
    out = tmp_path / "todo.jsonl"
    assert (
        main(["data", "feedback", str(run), "--task", str(toy_folder), "--out", str(out), "--json", str(tmp_path / "all.json")])
        == 0
    )
    assert "expected 'refund', found 'login'" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == json.loads((tmp_path / "all.json").read_text())["clusters"][0]["wanted"]


def test_the_command_answers_with_the_adapter_of_a_run(toy_folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(run)]) == 0
    assert main(["data", "feedback", str(run), "--task", str(toy_folder), "--out", str(tmp_path / "todo.jsonl")]) == 0
    n = len(load_task(toy_folder).rows("validation"))
    assert f"{n} of {n} validation rows fail" in capsys.readouterr().out  # the tiny model knows nothing


@pytest.mark.parametrize(
    ("split", "options", "said"),
    [("test", ["--task", "toy"], "frozen test set"), ("validation", [], "expected --task")],
)
def test_what_must_not_be_learnt_from_is_refused(toy_folder, toy_task, tmp_path, monkeypatch, capsys, split, options, said):
    monkeypatch.chdir(toy_folder.parent)
    run = write_evaluation(toy_task, split, tmp_path / "run.json")
    assert main(["data", "feedback", str(run), *options, "--out", str(tmp_path / "todo.jsonl")]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_evaluation_is_bad_data(toy_folder, tmp_path, capsys):
    (tmp_path / "run.json").write_text("[1, 2]")
    options = ["--task", str(toy_folder), "--out", str(tmp_path / "todo.jsonl")]
    assert main(["data", "feedback", str(tmp_path / "run.json"), *options]) == 1
    assert "ftlab eval --json" in capsys.readouterr().err

"""Task folders: every broken row is reported by file and line, and what is missing is derived the same way everywhere."""

import json

import pytest
from conftest import toy_rows

from ftlab import load_task
from ftlab.errors import DataError, UsageError
from ftlab.rows import read_rows
from ftlab.task import file_sha256, stratified, task_folder

GOOD = toy_rows(60)


def write(folder, split, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def problems(folder):
    with pytest.raises(DataError) as error:
        load_task(folder)
    return error.value.problems


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"id": "x", ', "not a line of JSON"),
        ("[1]", "expected a JSON object"),
        ({"id": "x", "output": {}}, "lacks input"),
        ({"input": "hi", "output": {}}, "lacks id"),
        ({"id": "x", "input": "hi"}, "lacks output"),
        ({"id": ["x"], "input": "hi", "output": {}}, "expected id to be a string"),
        ({"id": "x", "input": "  ", "output": {}}, "the input is empty"),
        ({"id": "x", "input": [], "output": {}}, "a text or a list of chat messages"),
        ({"id": "x", "input": [{"role": "user"}], "output": {}}, "each chat message"),
        ({"id": "x", "input": [{"role": "boss", "content": "a"}], "output": {}}, "expected role user"),
        ({"id": "x", "input": [{"role": "assistant", "content": "a"}], "output": {}}, "at least one message of the user"),
        ({"id": "x", "input": "hi", "output": "text"}, "expected output to be a JSON object"),
        ({"id": "x", "input": "hi", "output": {"intent": "nothing"}}, "breaks the task's own checks"),
        ({"id": "x", "input": "hi", "output": GOOD[0]["output"], "tags": "a"}, "expected tags to be a list"),
        ({"id": "x", "input": "hi", "output": GOOD[0]["output"], "lang": 3}, "expected lang"),
        ({**GOOD[0], "input": "other words"}, "was used before, at train.jsonl:1"),
    ],
)
def test_each_kind_of_broken_row_is_named_with_its_line(toy_folder, bad, says):
    write(toy_folder, "train", [*GOOD[:3], bad, *GOOD[3:]])
    (said,) = problems(toy_folder)
    assert said.startswith("train.jsonl:4: ") and says in said


def test_all_broken_rows_are_reported_at_once(toy_folder):
    write(toy_folder, "train", ["{", *GOOD, "nope", {"id": "z"}])
    assert [p.split(": ")[0] for p in problems(toy_folder)] == ["train.jsonl:1", "train.jsonl:62", "train.jsonl:63"]


def test_a_test_row_that_is_also_a_training_row_is_reported(toy_folder):
    write(toy_folder, "test", [{**GOOD[5], "id": "t1", "input": GOOD[5]["input"].upper() + "  "}])
    (said,) = problems(toy_folder)
    assert said.startswith("test.jsonl:1: its input is also a train row (train.jsonl:6)")


def test_an_id_in_two_splits_is_reported(toy_folder):
    write(toy_folder, "test", [{**GOOD[5], "input": "quite another message 1005"}])
    assert "its id 'r5' is also used at train.jsonl:6" in problems(toy_folder)[0]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(toy_folder, content):
    (toy_folder / "train.jsonl").write_text(content)
    with pytest.raises(DataError, match="expected at least one row, found an empty file"):
        load_task(toy_folder)


def test_a_file_in_another_encoding_is_refused(toy_folder):
    (toy_folder / "train.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="expected a UTF-8 text file"):
        load_task(toy_folder)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="expected a JSONL file of rows, found no file"):
        read_rows(tmp_path / "none.jsonl")


def test_a_changed_frozen_test_set_is_refused(toy_folder):
    write(toy_folder, "test", [{**GOOD[0], "id": "t0", "input": "new message 1000"}])
    (toy_folder / "test.sha256").write_text(file_sha256(toy_folder / "test.jsonl") + "  test.jsonl\n")
    assert len(load_task(toy_folder).rows("test")) == 1
    write(toy_folder, "test", [{**GOOD[0], "id": "t0", "input": "new message, 1000"}])
    with pytest.raises(DataError, match="the frozen test set has changed"):
        load_task(toy_folder)


def test_a_broken_schema_is_named_with_its_line(toy_folder):
    (toy_folder / "schema.json").write_text('{\n "type": \n}')
    with pytest.raises(DataError, match="schema.json:3"):
        load_task(toy_folder)


def test_rules_of_a_built_in_task_may_be_used_elsewhere(toy_folder):
    include = {"task": "support_plan", "codes": ["asks_secret"], "path": "say"}
    (toy_folder / "rules.json").write_text(json.dumps({"include": include}))
    check = load_task(toy_folder).checker.check('{"intent": "order", "number": "1", "say": "Send me your password."}', "1")
    assert check.has("asks_secret")


@pytest.mark.parametrize(
    "include, says",
    [
        ("support_plan", "expected 'include' to be"), ({"task": "support_plan", "codes": []}, "expected 'include' to be"),
        ({"task": "nope", "codes": [], "path": "say"}, "names the task 'nope'"),
        ({"task": "support_plan", "codes": ["nope"], "path": "say"}, "asks for the codes nope"),
    ],
)  # fmt: skip
def test_an_include_that_leads_nowhere_is_one_sentence(toy_folder, include, says):
    (toy_folder / "rules.json").write_text(json.dumps({"include": include}))
    with pytest.raises(DataError, match=says):
        load_task(toy_folder)


def test_two_files_are_enough(toy_task):
    assert set(toy_task.derived) == {"rules", "prompt_short", "prompt_long", "validation.jsonl", "test.jsonl"}
    assert sum(len(rows) for rows in toy_task.splits.values()) == 60 and all(toy_task.splits.values())
    assert toy_task.fields == ("intent", "number")  # closed set; copied from the input; `say` is free text
    assert toy_task.class_field == "intent" and "What is wanted." in toy_task.prompt_long


def test_a_row_keeps_its_split_when_others_are_added(toy_folder):
    before = load_task(toy_folder)
    write(toy_folder, "train", toy_rows(90))
    after = load_task(toy_folder)
    for split in before.splits:
        assert {row.id for row in before.rows(split)} <= {row.id for row in after.rows(split)}


def test_too_few_rows_to_cut_from_is_one_sentence(toy_folder):
    write(toy_folder, "train", GOOD[:2])
    with pytest.raises(DataError, match="too few to cut"):
        load_task(toy_folder)


def test_stratified_keeps_the_shares_and_the_order(toy_task):
    rows = toy_task.rows("train")
    chosen = stratified(rows, 12, "intent")
    counts = [sum(row.output["intent"] == name for row in chosen) for name in ("refund", "login", "other")]
    assert len(chosen) == 12 and max(counts) - min(counts) <= 2
    assert [row.id for row in rows if row in chosen] == [row.id for row in chosen]
    assert stratified(rows, 10_000, "intent") == list(rows)


def test_answers_are_written_in_the_tasks_key_order():
    task = load_task("support_plan")
    row = task.rows("train")[0]
    assert list(json.loads(task.completion(row))) == ["entities", "intent", "missing_info", "next_step"]
    assert "\n" not in task.completion(row)


def test_only_the_users_turns_are_the_text():
    (row, *_), said = read_rows_of('{"id": 1, "input": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}')
    assert row.text == "b" and row.id == "1" and said == []


def read_rows_of(line):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_text(line)
        return read_rows(path)


@pytest.mark.parametrize("name", ["no_such_task", "."])
def test_an_unknown_task_names_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="built-in task .*support_plan"):
        task_folder(name)


def test_an_unknown_split_is_wrong_use(toy_task):
    with pytest.raises(UsageError, match="expected one of train, validation, test"):
        toy_task.rows("dev")

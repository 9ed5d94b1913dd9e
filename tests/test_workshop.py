"""The small task of another domain loads, and its rules tell its rows from broken ones."""

import json

import pytest

from ftlab import load_task
from ftlab.checks import Checker
from ftlab.course import workshop
from ftlab.errors import DataError


def test_the_folder_is_a_task_with_its_splits_cut(tmp_path):
    task = load_task(workshop.write_folder(tmp_path / "workshop"))
    assert task.class_field == "job" and set(task.derived) >= {"validation.jsonl", "test.jsonl"}
    assert sum(map(len, task.splits.values())) == len(workshop.rows()) and min(map(len, task.splits.values())) >= 3


def test_other_lines_are_told_by_number(tmp_path):
    first = workshop.rows()[0]
    with pytest.raises(DataError) as error:
        load_task(workshop.write_folder(tmp_path, [first, "{", first | {"input": "brakes", "id": "x"}]))
    assert [problem.split(": ")[0] for problem in error.value.problems] == ["train.jsonl:2", "train.jsonl:3"]


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"job": "tyre", "day": "Friday", "reply": "Please come."}, "invented_day"),
        ({"job": "tyre", "reply": "Please come."}, "wrong_question_count"),
        ({"job": "tyre", "reply": "Which day?", "price": 5}, "schema"),
    ],
)
def test_each_fault_has_its_code(output, code):
    check = Checker(workshop.SCHEMA, workshop.RULES, workshop.FIELDS).check(json.dumps(output), "flat tyre")
    assert [problem.code for problem in check.problems] == [code]

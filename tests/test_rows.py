"""Rows of a large file, read from disk whenever they are asked for, are the rows that a small one holds in memory."""

import os
import tracemalloc

import pytest

from ftlab import rows as ftlab_rows
from ftlab.errors import DataError
from ftlab.models import load_model
from ftlab.rows import RowFile, pick, read_rows
from ftlab.task import load_task, stratified
from ftlab.train import examples as ftlab_examples
from ftlab.train.examples import Examples, shared_prefix
from ftlab.train.settings import sft_config
from ftlab.train.sft import encode_rows, train_sft


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(ftlab_rows, "HELD_BYTES", 0)
    monkeypatch.setattr(ftlab_examples, "HELD_BYTES", 0)


def test_a_task_on_disk_is_the_same_task(toy_folder, toy_task, on_disk):
    stored = load_task(toy_folder)
    assert all(isinstance(stored.rows(split), RowFile) for split in ("train", "validation", "test"))
    assert stored.hashes() == toy_task.hashes()
    assert stored.fields == toy_task.fields and stored.derived == toy_task.derived
    for split in ("train", "validation", "test"):
        assert list(stored.rows(split)) == list(toy_task.rows(split))
        assert [row.where for row in stored.rows(split)] == [row.where for row in toy_task.rows(split)]


def test_indexes_slices_and_picks_work_as_in_a_list(toy_folder, toy_task, on_disk):
    held, stored = toy_task.rows("train"), load_task(toy_folder).rows("train")
    assert stored[3] == held[3] and stored[-1] == held[-1]
    assert list(stored[2:9:3]) == list(held[2:9:3])
    assert list(pick(stored, [5, 1])) == pick(held, [5, 1])
    with pytest.raises(IndexError):
        stored[len(stored)]
    assert list(stratified(stored, 7, "intent")) == list(stratified(held, 7, "intent"))


def test_lines_of_more_than_one_byte_a_character_and_blank_ones_keep_their_places(tmp_path, on_disk):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"id": 1, "input": "où ça 😀"}\r\n\n  \n{"id": 2, "input": "schön"}'.encode())
    rows, problems = read_rows(path)
    assert not problems and [(row.input, row.where) for row in rows] == [("où ça 😀", "rows.jsonl:1"), ("schön", "rows.jsonl:4")]


def test_a_broken_row_of_a_large_file_is_named_and_left_out(tmp_path, on_disk):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "input": "x"}\n{"id": "a", "input": "y"}\n{\n{"id": "b", "input": "z"}\n')
    rows, problems = read_rows(path)
    assert [row.id for row in rows] == ["a", "b"]
    assert [problem.split(": ")[0] for problem in problems] == ["rows.jsonl:2", "rows.jsonl:3"]
    assert "used before, at rows.jsonl:1" in problems[0]


def test_a_file_that_changed_since_it_was_checked_is_refused(toy_folder, on_disk):
    rows = load_task(toy_folder).rows("train")
    path = toy_folder / "train.jsonl"
    path.write_text(path.read_text() + "\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="found a file changed since"):
        rows[0]


def test_ten_times_the_rows_do_not_take_ten_times_the_memory(tmp_path, on_disk):
    def held(n):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("".join(f'{{"id": {i}, "input": "{i} {"words " * 200}"}}\n' for i in range(n)))
        tracemalloc.start()
        rows, _ = read_rows(path)
        assert sum(len(row.text) for row in rows) > 1200 * n
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert held(4000) < held(400) + 4000 * 150  # a row has 1,200 bytes; an index entry and the hash of an id far fewer


def test_examples_come_back_as_they_were_put_in(monkeypatch):
    given = [([5, 6, 7], 1, [1.0, 0.25]), ([5, 2**31 - 1], 2, []), ([5], 0, [0.1])]
    for limit in (0, 8 * 2**20):
        monkeypatch.setattr(ftlab_examples, "HELD_BYTES", limit)
        examples = Examples(given)
        assert [(list(ids), start, list(weights)) for ids, start, weights in examples] == given
        assert list(examples.lengths) == [3, 2, 1] and list(examples.starts) == [1, 2, 0]
        assert [list(ids) for ids, _, _ in examples[1:]] == [[5, 2**31 - 1], [5]]
        examples.append(given[0])  # after reading
        assert list(examples[3][0]) == [5, 6, 7] and list(examples[0][2]) == [1.0, 0.25]


def test_an_example_without_a_weight_for_each_answer_token_is_refused():
    with pytest.raises(ValueError, match="expected a weight for each of 2 tokens after the prompt, found 1"):
        Examples([([1, 2, 3], 1, [1.0])])


def test_the_shared_prefix_leaves_each_prompt_a_token():
    assert list(shared_prefix(Examples([([1, 2, 3, 9], 3, [1.0]), ([1, 2, 4, 5], 3, [1.0])]))) == [1, 2]
    assert list(shared_prefix(Examples([([1, 2, 9], 2, [1.0])]))) == [1]


def test_training_from_disk_gives_the_same_losses(toy_folder, toy_task, tmp_path, on_disk):
    config = sft_config("smoke", train_rows=0, epochs=1)
    curves = []
    for name, task in (("held", toy_task), ("stored", load_task(toy_folder))):
        curves.append(train_sft(task, load_model("tiny"), config, tmp_path / name, progress=False)["curve"])
    assert curves[0] == curves[1]


def test_encoded_rows_too_long_are_named_by_file_and_line(toy_folder, tiny, on_disk):
    task = load_task(toy_folder)
    with pytest.raises(DataError, match="longer than 50 tokens") as error:
        encode_rows(task, task.rows("train")[:2], tiny.tokenizer, 50)
    assert [problem.split(": ")[0] for problem in error.value.problems] == ["train.jsonl:1", "train.jsonl:2"]

"""What the data cards promise of the rows, and what the loader does not check."""

import json
import re

import pytest

from ftlab import load_task
from ftlab.checks import Checker
from ftlab.errors import DataError
from ftlab.rows import user_text
from ftlab.task import builtin_tasks
from ftlab.train.preference import read_pairs

REPLY = load_task("support_reply")
PAIRS = {name: read_pairs(REPLY.folder / f"{name}.jsonl") for name in ("pairs", "pairs_test")}


def grams(text):
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)} or {tuple(words)}


@pytest.mark.parametrize("name", builtin_tasks())
def test_no_training_message_is_close_to_a_held_out_one(name):
    task = load_task(name)
    train = [(row.id, grams(row.text)) for row in task.rows("train")]
    where = {}
    for i, (_, found) in enumerate(train):
        for gram in found:
            where.setdefault(gram, set()).add(i)
    for row in (*task.rows("validation"), *task.rows("test")):
        own = grams(row.text)
        for i in set().union(*(where.get(gram, set()) for gram in own)):
            assert len(own & train[i][1]) < 0.5 * len(own | train[i][1]), (row.id, train[i][0])


def test_support_reply_has_the_promised_size():
    assert len(REPLY.rows("train")) >= 900 and len(REPLY.rows("validation")) >= 150 and len(REPLY.rows("test")) >= 300
    for split in REPLY.splits:
        points = {tag for row in REPLY.rows(split) for tag in row.tags if re.fullmatch(r"p\d+", tag)}
        assert points == {f"p{n}" for n in range(11)} and {row.output["action"] for row in REPLY.rows(split)} == {
            "answer", "clarify", "escalate", "refuse",
        }  # fmt: skip


def test_earlier_turns_of_the_assistant_are_replies_of_the_schema():
    form = Checker(REPLY.schema)
    rows = [row for split in REPLY.splits.values() for row in split] + [p for pairs in PAIRS.values() for p in pairs]
    turns = [m["content"] for row in rows if not isinstance(row.input, str) for m in row.input if m["role"] == "assistant"]
    assert turns and all(form.check(turn, "").ok for turn in turns)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_a_clean_reply_and_another_of_the_form(name):
    langs = [json.loads(line)["lang"] for line in (REPLY.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    form = Checker(REPLY.schema)
    for pair, lang in zip(PAIRS[name], langs, strict=True):
        text = user_text(pair.messages)
        assert REPLY.checker.check(pair.chosen, text, lang=lang).ok, pair.id
        assert form.check(pair.rejected, text).ok and pair.chosen != pair.rejected, pair.id


@pytest.mark.parametrize("name", PAIRS)
def test_length_does_not_tell_the_chosen_reply(name):
    words = [[len(json.loads(side)["message"].split()) for side in (p.chosen, p.rejected)] for p in PAIRS[name]]
    longer = sum(a > b for a, b in words) / sum(a != b for a, b in words)
    assert 0.3 < longer < 0.7 and abs(sum(a - b for a, b in words) / len(words)) < 4


def test_changed_held_out_pairs_are_refused(tmp_path):
    for name, more in (("pairs_test.jsonl", b"\n"), ("pairs_test.sha256", b"")):
        (tmp_path / name).write_bytes((REPLY.folder / name).read_bytes() + more)
    with pytest.raises(DataError, match="pairs_test.jsonl: the frozen test set has changed"):
        read_pairs(tmp_path / "pairs_test.jsonl")


def test_held_out_pairs_are_no_training_pairs():
    shared = {json.dumps(p.input).casefold() for p in PAIRS["pairs"]} & {
        json.dumps(p.input).casefold() for p in PAIRS["pairs_test"]
    }
    assert not shared

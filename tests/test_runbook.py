"""The runbook language: one spelling for each runbook, rules that each catch their fault, facts by hand, tasks without leaks."""

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ftlab
from ftlab import runbook as language
from ftlab.cli import main
from ftlab.corpus import RUNBOOKS
from ftlab.errors import UsageError
from ftlab.runbook import DONE, LETTERS, Runbook, Step, check, documents, draw, facts, faults, parse, spoken
from ftlab.runbook_task import KINDS, books, judge, judged, row, rows, write_task
from ftlab.task import SPLITS, load_task

MANUAL = (Path(ftlab.__file__).parents[1] / "docs" / "runbook.md").read_text(encoding="utf-8")
EXAMPLE = "::spool-7 !! @tide {queue^900} a=hold(intake)~3>b/@moss b=flush(spool)~8>c c=free(intake)~1>* ::"
words, numbers = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), st.integers(1, 9999)
places = st.one_of(st.sampled_from(LETTERS), st.just(DONE), words.map("@{}".format))
steps = st.builds(Step, words, words, numbers, places, st.one_of(st.none(), places))
anything = st.builds(
    Runbook,
    words,
    numbers,
    st.integers(1, 3),
    words,
    words,
    st.sampled_from("^_"),
    numbers,
    st.lists(steps, min_size=1, max_size=8).map(tuple),
)
drawn = st.integers(0, 10**6).map(lambda seed: draw(Random(seed), 6))


@given(anything)
def test_whatever_can_be_written_is_read_back(book):
    assert parse(book.text) == book


@given(drawn)
def test_what_is_drawn_is_valid_and_safe_inside_json(book):
    assert faults(book) == [] and check(book.text).book == book
    assert json.dumps({"runbook": book.text}) == f'{{"runbook": "{book.text}"}}'
    assert facts(book)["longest"] >= facts(book)["minutes"] and set(facts(book)["calls"]) <= set(language.TEAMS)


@given(drawn, st.data())
def test_a_text_with_one_character_changed_is_another_runbook_or_none(book, data):
    at = data.draw(st.integers(0, len(book.text) - 1))
    changed = book.text[:at] + data.draw(st.characters(codec="ascii")) + book.text[at + 1 :]
    found = check(changed)
    assert found.book is None or found.book.text == changed
    assert (found.book == book) == (changed == book.text)


@settings(max_examples=300)
@given(anything)
def test_faults_never_fail_whatever_the_ways(book):
    assert all(isinstance(fault, str) for fault in faults(book))


def test_the_example_of_the_manual_says_what_the_manual_says():
    assert re.search(r"```runbook\n(.*?)\n```", MANUAL, re.DOTALL)[1] == EXAMPLE
    assert facts(parse(EXAMPLE)) == {
        "owner": "tide", "urgency": 2, "trigger": "queue above 900", "steps": 3, "minutes": 12, "longest": 12, "calls": ["moss", "tide"]
    }  # fmt: skip
    assert EXAMPLE in language.__doc__


def test_the_manual_lists_the_words_and_a_breach_of_each_rule():
    for name, known in (
        ("things", language.THINGS),
        ("teams", language.TEAMS),
        ("metrics", language.METRICS),
        ("verbs", language.VERBS),
    ):
        assert f"| {name} | `{' '.join(known)}` |" in MANUAL
    broken = re.search(r"```faulty\n(.*?)\n```", MANUAL, re.DOTALL)[1].splitlines()
    said = [
        "oven is no thing",
        "which is no later step",
        "step b is never reached",
        "calls the owner by name",
        "gate is held and not freed",
    ]
    assert len(broken) == len(said)
    for text, fault in zip(broken, said, strict=True):
        (only,) = check(text).faults
        assert fault in only


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"steps": (Step("free", "gate", 1, DONE),)}, "step a frees gate, which is not held"),
        ({"steps": (Step("wake", "gate", 1, DONE, DONE),)}, "step a goes the same way twice"),
        ({"steps": (Step("wake", "gate", 1, "@bears"),)}, "bears is no team"),
        ({"steps": (Step("wake", "gate", 1, "h"),)}, "step a leads to h, which is no later step"),
        ({"metric": "mood"}, "mood is no metric"),
    ],
)
def test_each_rule_catches_its_fault(change, fault):
    assert fault in " ".join(faults(replace(parse(EXAMPLE), **change)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a head"),
        (EXAMPLE + " ", "expected a step or the end :: at character"),
        (EXAMPLE.replace("b=", "c="), "expected step b at character 56, found c"),
        (EXAMPLE.replace("~3", "~03"), "expected a step at character 31"),
        ("::a-1 ! @b {c^1} ::", "expected a step at character 17"),
    ],
)
def test_the_parser_says_what_it_expected_and_where(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parse(text)


def test_the_longest_way_may_pass_through_a_failure():
    text = "::gate-1 ! @moss {lag^5} a=probe(gate)~2>b/c b=seal(gate)~3>* c=swap(relay)~30>* ::"
    found = facts(parse(text))
    assert (found["minutes"], found["longest"], found["calls"]) == (5, 32, ["moss"])


def test_documents_are_the_same_again_different_from_one_another_and_not_those_left_out():
    first = list(documents(50, seed=3))
    assert list(documents(20, seed=3)) == first[:20] and len(set(first)) == 50
    assert list(documents(3, seed=3, without=set(first[:2]))) == first[2:5]
    with pytest.raises(UsageError, match="expected 0 documents or more"):
        list(documents(-1))


@given(drawn, st.integers(0, 5))
def test_what_is_said_in_english_holds_every_part(book, wording):
    said = spoken(book, wording)
    for step in book.steps:
        assert f"{step.verb} {step.target}, {step.minutes} min" in said
    assert book.name in said and f"{book.metric} " in said and str(book.limit) in said and book.owner in said


def test_two_runbooks_are_never_asked_for_in_the_same_words():
    asked = {}
    for book in books("train", 400):
        for wording in range(3):
            assert asked.setdefault(spoken(book, wording), book) == book


def test_no_runbook_is_in_two_splits():
    found = [{book.text for book in books(split, 200)} for split in SPLITS]
    assert all(len(part) == 200 for part in found) and not (found[0] & found[1] | found[0] & found[2] | found[1] & found[2])
    assert books("train", 5) == books("train", 200)[:5]


def test_the_text_that_the_study_pretrains_on_holds_no_runbook_of_its_tasks():
    asked = {book.text for split, n in zip(SPLITS, (256, 32, 200), strict=True) for book in books(split, n)}
    assert len(asked) == 488 and not asked & set(documents(RUNBOOKS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_folder_is_read_by_the_package_and_its_own_labels_are_right(kind, tmp_path):
    task = load_task(write_task(tmp_path / kind, kind, train=30, validation=5, test=6))
    assert [len(task.rows(split)) for split in SPLITS] == [30, 5, 6]
    scores = judged(kind, task.rows("test"), [task.completion(r) for r in task.rows("test")])
    assert scores == {"form": [1.0] * 6, "right": [1.0] * 6, "parts": [1.0] * 6}


def test_an_answer_is_judged_by_what_it_means():
    label = {"runbook": EXAMPLE}

    def said(text):
        found = judge("write", label, json.dumps({"runbook": text}))
        return found.form, found.right, found.parts

    assert said(EXAMPLE) == (True, True, 1.0)
    assert said(EXAMPLE.replace("~8", "~9")) == (True, False, 21 / 22)  # 7 parts of the head, 5 of each step
    assert said(EXAMPLE.replace("free", "wake")) == (False, False, 21 / 22)  # what is held is not freed: no valid runbook
    assert said(EXAMPLE[:40]) == (False, False, 0.0)
    assert judge("write", label, EXAMPLE).form is False
    assert judge("write", label, '{"runbook": 3}').parts == 0


def test_a_reading_is_judged_field_by_field():
    label = facts(parse(EXAMPLE))
    found = judge("read", label, json.dumps(label | {"minutes": 11}))
    assert (found.form, found.right, found.parts) == (True, False, 6 / 7)
    assert judge("read", label, "{}").form is False


def test_an_unknown_kind_of_task_is_refused():
    with pytest.raises(UsageError, match="expected a task of write or read"):
        row("sing", parse(EXAMPLE), "x")
    assert [r.id for r in rows("read", "test", 2)] == ["read-test-0", "read-test-1"]


def test_the_command_makes_text_and_tasks_that_share_no_runbook(tmp_path, capsys):
    assert main(["runbook", "make", str(tmp_path / "r"), "--documents", "300", "--rows", "40"]) == 0
    text = (tmp_path / "r" / "text" / "runbooks-0.txt").read_text().split("\n\n")
    assert len(text) == 300 and all(check(t.strip()).valid for t in text)
    task = load_task(tmp_path / "r" / "write")
    assert len(task.rows("train")) == 40
    assert not {r.output["runbook"] for split in SPLITS for r in task.rows(split)} & {t.strip() for t in text}
    assert "300 runbooks" in capsys.readouterr().out


def test_the_command_checks_a_file_and_exits_1_where_something_is_wrong(tmp_path, capsys):
    path = tmp_path / "f.txt"
    path.write_text(f"{EXAMPLE}\n\n{EXAMPLE.replace('900', '090')}\n")
    assert main(["runbook", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert "f.txt:1: valid" in said and "12 minutes" in said and "f.txt:3: expected a head" in said
    path.write_text(EXAMPLE)
    assert main(["runbook", "check", str(path)]) == 0

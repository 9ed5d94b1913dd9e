"""Copies held to the user's text: the guard says at each piece what the checker's rule will say of the whole."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftlab import load_task
from ftlab.checks import Checker
from ftlab.constrain import CopyGuard, CopyRules, GuardedChoice
from ftlab.generate import generate
from ftlab.models import load_model

TASK = load_task("support_plan")
RULES = CopyRules.of(TASK.rules)
SCHEMA = {"type": "object"}
COPIED = {"rule": "copied_from_input", "path": "a.*", "code": "fabricated_entity"}
texts = st.text(alphabet='aBc 1@é"\\/:,{}[]\n', max_size=12)


def start(text, said):
    guard = CopyGuard(RULES, text)
    guard.feed(said)
    return guard


def test_labelled_answers_are_allowed_sign_by_sign_and_as_a_whole():
    for row in (*TASK.rows("validation"), *TASK.rows("train")[::25]):
        answer, guard = TASK.completion(row), CopyGuard(RULES, row.text)
        assert guard.allows(answer), row.id
        for sign in answer:
            assert guard.allows(sign), (row.id, guard.place)
            guard.feed(sign)


@given(text=texts, value=texts.filter(str.strip), other=texts)
def test_the_guard_agrees_with_the_checker(text, value, other):
    answer = json.dumps({"b": other, "a": {"x": value, "y": text}, "c": [{"a": {"z": other}}]}, ensure_ascii=False)
    checker = Checker(SCHEMA, [COPIED], [])
    fine = not [p for p in checker.check(answer, text).problems if p.path != "a.y"]
    assert CopyGuard(CopyRules.of([COPIED]), text).allows(answer) == (fine and bool(text.strip()))


@given(texts, st.text(max_size=40))
def test_no_text_breaks_the_guard(text, said):
    guard = CopyGuard(RULES, text)
    guard.allows('{"entities": {"name": "' + said)
    guard.feed(said)


def test_a_misspelt_copy_is_stopped_at_its_first_wrong_letter():
    guard = start("Hannes Ruth here, ruth@mail.example", '{"entities": {"name": "Han')
    assert guard.allows("nes") and guard.allows('nes Ruth", "email": "ruth@') and not guard.allows("s")
    assert not guard.allows('nes", "email": "rare@')


def test_an_empty_value_is_no_copy():
    assert not start("hello", '{"entities": {"name": "').allows('"')


def test_other_strings_are_free():
    guard = start("hello", '{"entities": {}, "next_step": "')
    assert guard.allows('Which "account"?') and start("hello", "").allows('{"entities": {"na')


def test_the_end_of_a_card_number_in_groups_is_a_copy():
    guard = start("it is 4000 0000 0000 1234", '{"entities": {"card_last4": "')
    assert guard.allows('1234"') and guard.allows("12") and not guard.allows("9")
    assert not start("ends 1234. 4 lumen", '{"entities": {"card_last4": "').allows("4")
    assert not start("pay 1 2 3 4", '{"entities": {"card_last4": "').allows("1234")


def test_escapes_count_as_what_they_stand_for():
    guard = start('say "a\nb" é', '{"entities": {"name": "')
    assert guard.allows('\\"a\\nb\\" \\u00e9"') and not guard.allows("\\u00ea")


def pushed(tokenizer, first, second):
    """Logits (1, vocabulary) under which `first` is the likeliest token and `second` the next."""
    logits = torch.zeros(1, len(tokenizer))
    logits[0, first], logits[0, second] = 2.0, 1.0
    return logits


def test_the_next_likeliest_token_that_copies_is_taken_and_counted():
    tokenizer = load_model("tiny").tokenizer
    answer = tokenizer('{"entities": {"name": "Hannes"}}')["input_ids"]
    wrong = tokenizer("x")["input_ids"][0]
    choose = GuardedChoice(tokenizer, RULES, ["Hannes"])
    inside = len(tokenizer('{"entities": {"name": "')["input_ids"])
    for at, token in enumerate(answer):
        logits = pushed(tokenizer, wrong, token) if at == inside else pushed(tokenizer, token, wrong)
        assert choose([0], logits) == [token]
    assert choose.held == [1]


@pytest.mark.parametrize("way_out", ["the end of the answer", "bytes of a sign"])
def test_a_token_without_text_is_no_way_out_of_a_value(way_out):
    """An answer cut there is broken JSON, and bytes add no text yet: a value could run on with signs that the message does not hold."""
    tokenizer = load_model("tiny").tokenizer
    wrong, right, silent = (tokenizer(text)["input_ids"][0] for text in ("x", "H", "€"))
    choose = GuardedChoice(tokenizer, RULES, ["Hannes"])
    for token in tokenizer('{"entities": {"name": "')["input_ids"]:
        choose([0], pushed(tokenizer, token, wrong))
    logits = pushed(tokenizer, wrong, tokenizer.eos_token_id if way_out == "the end of the answer" else silent)
    logits[0, right] = 0.5
    assert choose([0], logits) == [right]


def test_where_nothing_has_to_be_copied_answers_are_the_free_ones():
    loaded, chats = load_model("tiny"), [[{"role": "user", "content": text}] for text in ("hi", "what now?", "ho")]
    free = generate(loaded, chats, max_new_tokens=6)
    assert generate(loaded, chats, max_new_tokens=6, copies=CopyRules(())) == free

"""The ladder of one output agrees with the checker, and does not call judged what cannot be judged."""

import pytest

from ftlab.checks import RUNGS
from ftlab.evaluate import check_record
from ftlab.ladder import BROKEN, PASSED, UNJUDGED, climb, ladder_lines

GOOD = '{"intent": "login", "number": "12", "say": "Thank you."}'
EXPECTED = {"intent": "login", "number": "12", "say": "Bye."}


def states(task, output, expected=None):
    errors = check_record("x", task.checker.check(output, "case 12", expected=expected))["errors"]
    return {step.rung: step.state for step in climb(errors, expected is not None)}


def test_a_clean_output_passes_every_rung(toy_task):
    assert states(toy_task, GOOD, EXPECTED) == dict.fromkeys(RUNGS, PASSED)


@pytest.mark.parametrize(
    ("output", "rung", "unjudged"),
    [
        ("Sure!", "parse", ("schema", "rule", "field")),
        ('{"intent": "nothing"}', "schema", ("rule", "field")),
        (GOOD.replace("login", "refund"), "field", ()),
    ],
)
def test_what_stands_above_a_broken_form_is_not_judged(toy_task, output, rung, unjudged):
    found = states(toy_task, output, EXPECTED)
    assert found[rung] == BROKEN and [r for r in RUNGS if found[r] == UNJUDGED] == list(unjudged)


def test_a_policy_broken_in_a_text_without_form_is_shown():
    errors = [
        {"rung": "parse", "code": "not_json", "path": "", "message": "no object"},
        {"rung": "policy", "code": "promise", "path": "", "message": "it promises"},
    ]
    steps = climb(errors, labelled=False)
    assert steps[-1].state == BROKEN and steps[-1].limit == "read off the raw text"
    assert ladder_lines(steps)[-2:] == ["✗ policy broken (read off the raw text)", "    it promises"]


def test_without_a_label_the_field_rung_says_what_it_did_not_see():
    field = climb([], labelled=False)[RUNGS.index("field")]
    assert field.state == PASSED and "no label" in field.limit and climb([], labelled=True)[3].limit == ""


def test_only_the_lit_rungs_are_told():
    steps = climb([{"rung": "schema", "code": "schema", "path": "a.b", "message": "too long"}], labelled=False)
    assert ladder_lines(steps, 0) == [] and ladder_lines(steps, 1) == ["✓ parse  passed"]
    assert ladder_lines(steps, 2)[1:] == ["✗ schema broken", "    a.b: too long"]

"""The ladder of one output, rung by rung: what it passed, what it broke, and what could not be judged because a rung below is broken."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftlab.checks import RUNGS

PASSED, BROKEN, UNJUDGED = "passed", "broken", "not judged"
SIGNS = {PASSED: "✓", BROKEN: "✗", UNJUDGED: "–"}
ASKS = {
    "parse": "is it exactly one JSON object?",
    "schema": "does the object fit the schema?",
    "rule": "are the declared rules kept?",
    "field": "are the values the right ones?",
    "policy": "does it say nothing that policy forbids?",
}


@dataclass(frozen=True)
class Step:
    """One rung: its state, what is wrong on it, and what the verdict does not cover."""

    rung: str
    state: str
    faults: tuple[str, ...] = ()
    limit: str = ""


def climb(errors: Sequence[dict], labelled: bool) -> list[Step]:
    """The five rungs of an output, from the bottom.

    Args:
        errors: what `evaluate.check_record` says is wrong: [{"rung", "code", "path", "message"}].
        labelled: whether the output was compared with a labelled answer.
    """
    faults = {rung: tuple(_fault(e) for e in errors if e["rung"] == rung) for rung in RUNGS}
    no_object = bool(faults["parse"])
    no_form = no_object or bool(faults["schema"])
    steps = []
    for rung in RUNGS:
        hidden = no_object if rung == "schema" else no_form and rung in ("rule", "field")
        state = BROKEN if faults[rung] else UNJUDGED if hidden else PASSED
        steps.append(Step(rung, state, faults[rung], _limit(rung, state, no_form, labelled)))
    return steps


def _fault(error: dict) -> str:
    return f"{error['path']}: {error['message']}" if error["path"] else error["message"]


def _limit(rung: str, state: str, no_form: bool, labelled: bool) -> str:
    if state == UNJUDGED:
        return "a rung below is broken"
    if rung == "policy" and no_form:
        return "read off the raw text"
    if rung == "field" and state == PASSED and not labelled:
        return "only against the message: there is no label"
    return ""


def ladder_lines(steps: Sequence[Step], lit: int = len(RUNGS)) -> list[str]:
    """The first `lit` rungs to read, a line each, and below each its faults."""
    lines = []
    for step in steps[:lit]:
        told = f" ({step.limit})" if step.limit else ""
        lines.append(f"{SIGNS[step.state]} {step.rung:<6} {step.state}{told}")
        lines += [f"    {fault}" for fault in step.faults]
    return lines

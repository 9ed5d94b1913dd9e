"""Twelve written cases for `ftlab.choose`, what turns its answer round, and fields that a rule computes from others.

The cases were written by the authors of the table that judges them: they show that it says what was meant, and no more.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.choose import ENOUGH_ROWS, FLOPS, PAIRS_AN_HOUR, QUESTIONS, ROWS_AN_HOUR, Measured, check_answers, recommend
from ftlab.errors import DataError
from ftlab.pretrain_study import MODELS
from ftlab.task import Task


def cases() -> dict[str, dict]:
    """The cases by their id: {"id", "situation", "answers", "evidence", "right", "because"}."""
    text = (Path(__file__).parent / "choose_cases.json").read_text(encoding="utf-8")
    return {case["id"]: case for case in json.loads(text)}


def measured(case: dict) -> Measured:
    """What a case says was measured."""
    found = case["evidence"]
    if found is None:
        return Measured()
    pairs = {name: tuple(found[name]) if found.get(name) else None for name in ("prompt", "tfidf", "tuned")}
    return Measured(source=f"the case {case['id']}", causes=found["causes"], teaches=found["teaches"], **pairs)


def decide(case: dict, **changes: Any) -> dict:
    """`choose.recommend` for a case, some of its answers or measurements changed.

    Raises:
        DataError: an answer that is none of the choices (`choose.check_answers`).
    """
    answers, _ = check_answers(case["answers"] | {k: v for k, v in changes.items() if k in case["answers"]}, {})
    numbers = {k: v for k, v in changes.items() if k not in case["answers"]}
    return recommend(answers, replace(measured(case), **numbers))


def first_levers(found: dict) -> list[str]:
    """The levers that a recommendation wants first."""
    return [lever["lever"] for lever in found["levers"] if lever["verdict"] == "first"]


def turning_points(answers: dict, numbers: Measured) -> list[dict]:
    """Each single answer of a choice or a yes and no that, given otherwise, has other levers first: [{"question", "was", "given", "first",
    "headline"}]. Questions after a number are left as they are."""
    before, turns = first_levers(recommend(answers, numbers)), []
    for question in QUESTIONS:
        choices = (True, False) if question.choices == ("yes", "no") else question.choices
        for given in choices:
            found = recommend(answers | {question.name: given}, numbers)
            if given != answers[question.name] and first_levers(found) != before:
                was = answers[question.name]
                turns.append(
                    {
                        "question": question.name,
                        "was": was,
                        "given": given,
                        "first": first_levers(found),
                        "headline": found["headline"],
                    }
                )
    return turns


def computed(task: Task, output: dict) -> list[str]:
    """What the rule of kind `required_fields` says of an output: the fields that its class needs and its values lack.

    Raises:
        DataError: the task declares no such rule.
    """
    rule = next((rule for rule in task.rules if rule["rule"] == "required_fields"), None)
    if rule is None:
        raise DataError(f"{task.name}: expected a rule of kind required_fields in rules.json, found none.")
    return [name for name in rule["required"].get(str(output[rule["by"]]), []) if name not in output[rule["among"]]]


def recomputed(task: Task, outputs: Sequence[str], path: str = "missing_info") -> list[str]:
    """Outputs with the field at `path` as code computes it from the others; what is no valid output stays as it is."""
    return [_recomputed(task, text, path) for text in outputs]


def _recomputed(task: Task, text: str, path: str) -> str:
    checked = task.checker.check(text, "")
    if not checked.passes("schema"):
        return text
    return json.dumps(checked.value | {path: computed(task, checked.value)}, ensure_ascii=False)


def bill(results: dict, pairs: int = 500, mtokens: float = 40.0) -> dict[str, tuple[float, float]]:
    """What levers take: name → (hours of people who label, hours of two cores), from a stored run and the constants of `choose`.

    Args:
        results: of `run_main_job`: how long its training and its classifiers took.
        pairs: comparisons for preference tuning; one is counted as two rows of training.
        mtokens: million tokens of running text for continued pretraining, at 6 operations a parameter and token (Kaplan et al. 2020).
    """
    training, few = results["training"], ENOUGH_ROWS
    a_row = training["seconds"] / 3600 / training["rows"]
    labelled = few / ROWS_AN_HOUR
    parameters, seen, name = MODELS["135M"]
    return {
        f"a classifier, {few} rows": (labelled, results["cost"]["seconds"]["classifiers"] / 3600),
        f"SFT, {few} rows": (labelled, few * a_row),
        f"SFT, {training['rows']:,} rows": (training["rows"] / ROWS_AN_HOUR, training["seconds"] / 3600),
        f"preference tuning, {pairs} pairs": (pairs / PAIRS_AN_HOUR, 2 * pairs * a_row),
        f"continued pretraining,\n{mtokens:g} million tokens": (0.0, 6 * parameters * mtokens * 1e6 / FLOPS / 3600),
        f"pretraining {name} itself,\n{seen / 1e12:g} million million tokens": (0.0, 6 * parameters * seen / FLOPS / 3600),
    }

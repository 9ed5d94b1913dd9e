"""Tasks and answers made to show one thing: labelled answers that are spoilt on purpose, and a task whose answer may not be in the message.

No model wrote what these functions return. They show how the checks and the verdict judge, and nothing about any model.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from ftlab.errors import UsageError
from ftlab.rows import Row
from ftlab.task import Task

QUEUES = {
    "money": ("update_billing", "get_invoice", "request_refund"),
    "access": ("reset_password", "create_account", "update_profile"),
    "people": ("cancel_account", "contact_human", "unclear", "out_of_scope"),
}


def _fenced(output: dict) -> str:
    return f"```json\n{json.dumps(output, ensure_ascii=False)}\n```"


def _asks_again(output: dict) -> str:
    return json.dumps(output | {"next_step": f"{output['next_step']} OK?"}, ensure_ascii=False)


def _invents_a_date(output: dict) -> str:
    return json.dumps(output | {"entities": output["entities"] | {"date": "31 February"}}, ensure_ascii=False)


def _claims_a_deed(output: dict) -> str:
    return json.dumps(output | {"next_step": f"I have reset it for you. {output['next_step']}"}, ensure_ascii=False)


SPOIL: dict[str, Callable[[dict], str]] = {
    "format": _fenced, "instruction": _asks_again, "knowledge": _invents_a_date, "safety": _claims_a_deed,
}  # fmt: skip


def spoilt_answers(rows: Sequence[Row], counts: Mapping[str, int]) -> list[str]:
    """The labelled answers of `support_plan` rows, of which some are spoilt so that their first cause of failure is known.

    Args:
        rows: labelled rows.
        counts: cause → how many answers fail by it, from the first row on: {"format": 3} puts the first three into a code fence.

    Returns:
        one output per row.

    Raises:
        UsageError: an unknown cause, or more spoilt answers than rows.
    """
    if unknown := [cause for cause in counts if cause not in SPOIL]:
        raise UsageError(f"spoilt_answers: expected causes among {', '.join(SPOIL)}, found {unknown[0]!r}.")
    causes = [cause for cause, n in counts.items() for _ in range(n)]
    if len(causes) > len(rows):
        raise UsageError(f"spoilt_answers: expected at most {len(rows)} spoilt answers, as many as rows, found {len(causes)}.")
    spoilt = [SPOIL[cause](row.output) for cause, row in zip(causes, rows, strict=False)]
    return spoilt + [json.dumps(row.output, ensure_ascii=False) for row in rows[len(spoilt) :]]


def queue_task(task: Task, *, told: bool, seed: int = 0) -> Task:
    """The messages of `support_plan` with one thing to decide: which of three queues one goes to.

    Args:
        told: True: the queue follows from what is asked for, so the message holds it. False: the same labels dealt out anew among the rows
            of each split, as if the queue hung on the customer's contract, of which the message says nothing.
        seed: of the deal.

    Returns:
        a task with training and validation rows and without rules; no test rows, since nothing is claimed with it.
    """
    queue_of = {intent: queue for queue, intents in QUEUES.items() for intent in intents}
    rng = Random(seed)
    splits: dict[str, tuple[Row, ...]] = {"test": ()}
    for split in ("train", "validation"):
        labels = [queue_of[row.output["intent"]] for row in task.rows(split)]
        if not told:
            rng.shuffle(labels)
        splits[split] = tuple(replace(row, output={"queue": q}) for row, q in zip(task.rows(split), labels, strict=True))
    schema: dict[str, Any] = {
        "title": "queue", "type": "object", "required": ["queue"], "additionalProperties": False,
        "properties": {"queue": {"enum": list(QUEUES)}},
    }  # fmt: skip
    prompt = f'Answer with one JSON object: {{"queue": one of {", ".join(QUEUES)}}}.'
    return replace(
        task, name="queue", schema=schema, rules=(), fields=("queue",), key_order=("queue",), prompt_short=prompt, prompt_long=prompt,
        splits=splits, derived=(),
    )  # fmt: skip

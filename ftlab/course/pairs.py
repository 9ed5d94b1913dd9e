"""What makes a pair of replies a good lesson, as far as a program can tell: whole replies of like length that decide differently."""

import json
from collections.abc import Sequence
from typing import Any

from ftlab.checks import normalize
from ftlab.prefer import hold_out, task_pairs
from ftlab.rows import as_messages, user_text
from ftlab.task import Task, dump_output
from ftlab.train.preference import Preference, encode_pairs

MOST_APART = 0.3  # difference in letters, as a share of the longer message: beyond that a ruler tells the two apart


def pair_faults(task: Task, pair: dict, known: Sequence[Preference] = ()) -> list[str]:
    """What is wrong with a pair {"input", "chosen", "rejected"} of replies with a `message`, in sentences; [] if nothing was found.

    A program sees form, length and words. Whether the rejected reply breaks the policy, and the chosen one keeps it, is for people.

    Args:
        known: pairs that are there already.
    """
    if missing := [key for key in ("input", "chosen", "rejected") if not pair.get(key)]:
        return [f"expected input, chosen and rejected, found no {' and no '.join(missing)}"]
    if not all(isinstance(pair[key], dict) for key in ("chosen", "rejected")):
        return ["expected each reply as an object with action, confidence and message"]
    text, faults = user_text(as_messages(pair["input"])), []
    faults += [f"the message is that of {other.id}" for other in known if normalize(_asked(other)) == normalize(text)]
    for key in ("chosen", "rejected"):
        problems = task.checker.check(dump_output(pair[key], task.key_order), text, lang=pair.get("lang")).problems
        # a rejected reply may break the policy: that is what it is for
        told = [p for p in problems if key == "chosen" or p.rung != "policy"]
        lesson = "so nobody should choose it" if key == "chosen" else "so the pair teaches form, not policy"
        faults += [f"the {key} reply fails at {p.rung} ({p.message}), {lesson}" for p in told]
    return faults or _likeness(*(pair[key] for key in ("chosen", "rejected")))


def _likeness(chosen: dict, rejected: dict) -> list[str]:
    if normalize(chosen["message"]) == normalize(rejected["message"]) and chosen["action"] == rejected["action"]:
        return ["the two replies say the same, so nothing is preferred"]
    lengths = [len(reply["message"]) for reply in (chosen, rejected)]
    if abs(lengths[0] - lengths[1]) > MOST_APART * max(lengths):
        return [
            f"the chosen message has {lengths[0]} letters, the rejected one {lengths[1]}: that teaches length; make them about equal"
        ]
    return []


def _asked(pair: Preference) -> str:
    return user_text([message for message in pair.messages if message["role"] != "system"])


def as_record(pair: Preference) -> dict[str, Any]:
    """A pair as it stands in its file: replies as objects, the chat without the system message."""
    asked = [message for message in pair.messages if message["role"] != "system"]
    return {
        "id": pair.id,
        "input": asked,
        "chosen": json.loads(pair.chosen),
        "rejected": json.loads(pair.rejected),
        "lang": pair.lang,
    }


def message_letters(pair: Preference) -> tuple[int, int]:
    """Letters of the chosen and of the rejected message."""
    record = as_record(pair)
    return len(record["chosen"]["message"]), len(record["rejected"]["message"])


def small_split(
    task: Task, tokenizer: Any, n: int = 32, held_out: int = 24, most: int = 280
) -> tuple[list[Preference], list[Preference]]:
    """(n pairs to train on, others to measure) of the task's English pairs of at most `most` tokens, spread evenly over the file.

    It is for a model of a million parameters, which has read no other language and takes long over long pairs.
    """
    english = [pair for pair in task_pairs(task) if pair.lang == "en"]
    encoded = encode_pairs(english, tokenizer, max_length=10 * most)
    short = [pair for pair, ids in zip(english, encoded, strict=True) if ids.tokens <= most]
    rest, measured = hold_out(short, held_out)
    return hold_out(rest, n)[1], measured

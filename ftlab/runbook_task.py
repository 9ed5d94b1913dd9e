"""Two tasks over the runbook language, as task folders that every command takes: write a runbook from English, or read one.

    write: "spool-7, urgency high, owner tide, when queue is above 900. a: flush spool, …"  →  {"runbook": "::spool-7 !!! @tide …"}
    read:  "::spool-7 !!! @tide …"  →  {"owner": "tide", "urgency": 3, "trigger": "queue above 900", …}

A written runbook is judged by what it means, not by its letters alone: whether it can be followed, and which of its parts are as asked.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from ftlab.artifact import write_json, write_lines
from ftlab.checks import parse_strict
from ftlab.errors import UsageError
from ftlab.rows import Row
from ftlab.runbook import LETTERS, METRICS, SIGNS, TASK_STEPS, TEAMS, Runbook, check, draw, facts, spoken
from ftlab.task import SPLITS

KINDS = ("write", "read")
PROMPTS = {"write": "Write the runbook as JSON.", "read": "Read the runbook as JSON."}


@dataclass(frozen=True)
class Judgement:
    """What an answer is worth.

    Attributes:
        form: it is the JSON object that was asked for, and to write: its text is a runbook by grammar and rules.
        right: everything is as asked.
        parts: the share of the parts that are as asked, 0 without form by the grammar.
    """

    form: bool
    right: bool
    parts: float


def books(split: str, n: int, seed: int = 0, most_steps: int = TASK_STEPS) -> list[Runbook]:
    """n different runbooks of a split; no runbook of one split is in another, and more of them begin with the same ones."""
    rng, seen = Random(f"rows-{split}-{seed}"), set()
    found: list[Runbook] = []
    while len(found) < n:
        book = draw(rng, most_steps)
        # the limit's and the minutes' sum decides: runbooks of a test set differ in more than luck
        if book.text not in seen and _split_of(book) == split:
            seen.add(book.text)
            found.append(book)
    return found


def _split_of(book: Runbook) -> str:
    """The split that a runbook belongs to, by its own numbers: of ten, eight in training, one each in the others."""
    digit = (book.number + book.limit + sum(step.minutes for step in book.steps)) % 10
    return {8: SPLITS[1], 9: SPLITS[2]}.get(digit, SPLITS[0])


def row(kind: str, book: Runbook, name: str, wording: int = 0) -> Row:
    """A labelled row of one of `KINDS`.

    Raises:
        UsageError: no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"expected a task of {' or '.join(KINDS)}, found {kind!r}.")
    if kind == "write":
        return Row(name, spoken(book, wording), {"runbook": book.text})
    return Row(name, book.text, facts(book))


def rows(kind: str, split: str, n: int, seed: int = 0) -> list[Row]:
    """n rows of a split, wordings in turn."""
    return [row(kind, book, f"{kind}-{split}-{i}", i) for i, book in enumerate(books(split, n, seed))]


def schema(kind: str) -> dict:
    """What an answer looks like, as JSON Schema."""
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 1}
    if kind == "write":
        properties = {"runbook": text | {"description": "The runbook in the runbook language, on one line."}}
    else:
        team = {"type": "string", "enum": list(TEAMS)}
        trigger = rf"^({'|'.join(METRICS)}) ({'|'.join(SIGNS.values())}) [0-9]+$"
        properties = {
            "owner": team | {"description": "The team that owns it."},
            "urgency": whole | {"maximum": 3, "description": "Number of marks."},
            "trigger": text | {"pattern": trigger, "description": "When it is to be followed."},
            "steps": whole | {"maximum": len(LETTERS), "description": "Number of steps."},
            "minutes": whole | {"description": "Minutes if every step works."},
            "longest": whole | {"description": "Minutes of the longest way."},
            "calls": {"type": "array", "items": team, "description": "Teams that may be called, sorted."},
        }
    return {
        "title": "runbook", "type": "object", "required": list(properties), "additionalProperties": False, "properties": properties
    }  # fmt: skip


def write_task(folder: Path, kind: str, *, train: int = 256, validation: int = 32, test: int = 200, seed: int = 0) -> Path:
    """Write a task folder with rows of all three splits; returns it.

    Raises:
        UsageError: no such kind.
    """
    found = dict(
        zip(SPLITS, (rows(kind, split, n, seed) for split, n in zip(SPLITS, (train, validation, test), strict=True)), strict=True)
    )
    folder.mkdir(parents=True, exist_ok=True)
    form = schema(kind)
    write_json(folder / "schema.json", form)
    write_json(folder / "rules.json", {"rules": [], "fields": form["required"], "key_order": form["required"]})
    for name in ("prompt_short.txt", "prompt_long.txt"):
        (folder / name).write_text(PROMPTS[kind] + "\n", encoding="utf-8")
    for split, part in found.items():
        write_lines(folder / f"{split}.jsonl", [{"id": r.id, "input": r.input, "output": r.output} for r in part])
    return folder


def judge(kind: str, expected: dict, answer: str) -> Judgement:
    """What the raw text of an answer is worth, beside the label of its row.

    The parts of a runbook are those of its head and, step by step, verb, target, minutes and both ways; a step too many or too few is
    wrong in all of its parts. The parts of a reading are its fields.
    """
    try:
        value = parse_strict(answer)
    except ValueError:
        return Judgement(False, False, 0.0)
    if kind == "read":
        hits = [value.get(key) == wanted for key, wanted in expected.items()]
        return Judgement(value.keys() == expected.keys(), value == expected, sum(hits) / len(hits))
    found = check(value["runbook"]) if value.keys() == {"runbook"} and isinstance(value["runbook"], str) else None
    if found is None or found.book is None:
        return Judgement(False, False, 0.0)
    wanted, said = (_parts(book) for book in (check(expected["runbook"]).book, found.book))
    parts = sum(a == b for a, b in zip(wanted, said, strict=False)) / max(len(wanted), len(said))
    return Judgement(found.valid, wanted == said, parts)


def _parts(book: Runbook) -> list:
    head = [value for name, value in vars(book).items() if name != "steps"]
    return head + [value for step in book.steps for value in asdict(step).values()]


def judged(kind: str, labelled: Sequence[Row], answers: Sequence[str]) -> dict[str, list[float]]:
    """Every answer judged: {"form", "right", "parts"}, a number a row."""
    found = [judge(kind, r.output, answer) for r, answer in zip(labelled, answers, strict=True)]
    return {name: [float(getattr(j, name)) for j in found] for name in ("form", "right", "parts")}

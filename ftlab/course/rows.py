"""What the notebook on building a data set does with rows: second labels, near twins, shortcuts, faults planted on purpose."""

import json
import random
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from ftlab.baselines import TfidfBaseline
from ftlab.checks import normalize, values_at
from ftlab.datatools.labels import same_answer
from ftlab.datatools.noise import as_typed
from ftlab.datatools.pii import luhn
from ftlab.datatools.sets import copied_values, value_paths
from ftlab.datatools.similar import near_pairs
from ftlab.rows import Row
from ftlab.task import Task

FAULTS = {
    "copy": "a row again under another id",
    "slips": "a row again with slips of the keyboard",
    "leak": "a validation row with slips among the training rows",
    "contradiction": "a message again, with another class",
    "template": "one message with other numbers",
    "card number": "a card number with a right check digit in the message",
    "made-up value": "a label with a value that the message lacks",
    "wrong class": "another class that breaks no rule",
    "value left out": "a label without a value that the message gives",
}
SLIPS = ("typo", "casing")
NOWHERE = "XQ-77093"  # a value that no message holds


def as_record(row: Row) -> dict:
    """A row as it stands in a file."""
    record = {"id": row.id, "input": row.input, "output": row.output, "tags": list(row.tags)}
    return record | ({"lang": row.lang} if row.lang else {})


def second_labels(task: Task) -> list[tuple[Row, dict]]:
    """(row, second label) of each row that was labelled twice; "doubt" in a label says on what careful people could differ."""
    rows = {row.id: row for split in task.splits.values() for row in split}
    lines = (task.folder / "second_labels.jsonl").read_text(encoding="utf-8").splitlines()
    return [(rows[label["id"]], label) for label in map(json.loads, lines)]


def twins(task: Task, rows: Sequence[Row], threshold: float = 0.8) -> list[tuple[Row, Row]]:
    """Pairs of rows whose messages are near each other and whose answers differ, the nearest first."""
    pairs = [(rows[p.first], rows[p.second]) for p in near_pairs([row.text for row in rows], threshold)]
    return [(a, b) for a, b in pairs if not same_answer(task, a, b)]


def first_match_right(rows: Sequence[Row], path: str, pattern: str) -> list[bool]:
    """Per row: is the first match of `pattern` in the message what the label says at `path`, or neither there? It looks at nothing else."""
    hits = []
    for row in rows:
        match = re.search(pattern, row.text)
        labelled = [value for _, value in values_at(row.output, path)]
        hits.append(([normalize(match.group())] if match else []) == [normalize(value) for value in labelled])
    return hits


def near_copies(task: Task, rows: Sequence[Row], rate: float, seed: int, kinds: Sequence[str] = SLIPS) -> list[Row]:
    """The rows as hurried people would have typed them, under other ids, their labels as they were."""
    typed, _ = as_typed(task, rows, rate, kinds, seed)
    return [replace(row, id=f"{row.id}-again") for row in typed]


def labels_true(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> list[bool]:
    """Per row: would the loader accept its label under this text instead of its message?"""
    found = (task.checker.check(json.dumps(row.output), text, lang=row.lang) for row, text in zip(rows, texts, strict=True))
    return [check.ok for check in found]


def share_changed(rows: Sequence[Row], texts: Sequence[str]) -> float:
    """The share of characters, 0 to 1, by which the texts differ from the rows' messages, on average over the rows."""
    ratios = [SequenceMatcher(None, row.text, text, autojunk=False).ratio() for row, text in zip(rows, texts, strict=True)]
    return 1 - sum(ratios) / len(ratios)


def class_hits(task: Task, train: Sequence[Row], rows: Sequence[Row]) -> list[bool]:
    """Per row: does a word-count classifier trained on `train` get its class right?"""
    predicted = TfidfBaseline(task, train).classifier.predict([row.text for row in rows])
    return [str(p) == str(row.output[task.class_field]) for p, row in zip(predicted, rows, strict=True)]


def other_classes(task: Task, row: Row) -> list[str]:
    """Classes that the row's label could have instead without breaking any rule: what no checker can see."""
    allowed = task.schema["properties"][task.class_field]["enum"]
    changed = [
        (name, json.dumps(row.output | {task.class_field: name})) for name in allowed if name != row.output[task.class_field]
    ]
    return [name for name, output in changed if task.checker.check(output, row.text, lang=row.lang).ok]


def wrong_classes(task: Task, rows: Sequence[Row], n: int, seed: int = 0) -> tuple[list[str], set[int]]:
    """The rows' classes with n of them replaced by another that breaks no rule.

    Returns:
        one class per row, and the indices of the wrong ones.

    Raises:
        ValueError: fewer than n rows could have another class.
    """
    draw, classes = random.Random(seed), [str(row.output[task.class_field]) for row in rows]
    others = [other_classes(task, row) for row in rows]
    wrong = set(draw.sample([i for i, names in enumerate(others) if names], n))
    return [draw.choice(others[i]) if i in wrong else classes[i] for i in range(len(rows))], wrong


def review_curve(order: Sequence[int], wrong: Collection[int], n: int) -> list[dict]:
    """How many of the wrong labels a reader has met after each row, going down `order`, and how many in a random order of n rows.

    Returns:
        [{"read", "found", "by_chance", "low", "high"}]; low and high hold 95 % of all random orders (hypergeometric).
    """
    from scipy.stats import hypergeom

    points, found = [], 0
    for read, index in enumerate(order, 1):
        found += index in wrong
        low, high = hypergeom.interval(0.95, n, len(wrong), read)
        points.append({"read": read, "found": found, "by_chance": read * len(wrong) / n, "low": float(low), "high": float(high)})
    return points


def aimed(pool: Sequence[Row], failing: Sequence[str], n: int, class_field: str, seed: int = 0) -> list[Row]:
    """n rows of `pool` whose classes are in proportion to those of the failing rows; fewer if the pool has too few of a class."""
    draw, chosen = random.Random(seed), []
    for name in sorted(set(failing)):
        fitting = [row for row in pool if str(row.output[class_field]) == name]
        chosen += draw.sample(fitting, min(len(fitting), round(n * failing.count(name) / len(failing))))
    return chosen


@dataclass(frozen=True)
class Planted:
    """Rows of a file of which some were broken on purpose, and where those stand: fault → "train.jsonl:line"."""

    records: list[dict]
    places: dict[str, list[str]]


def plant(
    task: Task,
    rows: Sequence[Row],
    donors: Sequence[Row],
    held: Sequence[Row],
    each: int,
    faults: Collection[str] = tuple(FAULTS),
    seed: int = 0,
) -> Planted:
    """`rows` and, after them, broken ones of each kind in `faults`.

    Copies are made of `rows`, leaks of `held`, and what is broken otherwise of `donors`, so that it has no second fault.

    Args:
        each: rows of each fault.
    """
    draw = random.Random(seed)
    again = draw.sample([row for row in rows if len(row.text.split()) > 6], 2 * each)
    with_value = [row for row in donors if _spare_value(task, row)]
    plain = [row for row in donors if other_classes(task, row) and row not in with_value]
    made = {
        "copy": again[:each],
        "slips": near_copies(task, again[each:], 1.0, seed),
        "leak": near_copies(task, draw.sample(held, each), 1.0, seed),
        "contradiction": [_other_class(task, row, draw) for row in [row for row in rows if other_classes(task, row)][:each]],
        "template": _template(task, donors, each, draw),
        "card number": [_with_card(row, draw) for row in plain[:each]],
        "made-up value": [_made_up(task, row) for row in plain[each : 2 * each]],
        "wrong class": [_other_class(task, row, draw) for row in plain[2 * each : 3 * each]],
        "value left out": [_without(task, row) for row in with_value[:each]],
    }
    records, places = [as_record(row) for row in rows], {}
    for fault, broken in ((fault, broken) for fault, broken in made.items() if fault in faults):
        start = len(records) + 1
        records += [as_record(row) | {"id": f"{fault}-{i}"} for i, row in enumerate(broken, 1)]
        places[fault] = [f"train.jsonl:{line}" for line in range(start, len(records) + 1)]
    return Planted(records, places)


def _other_class(task: Task, row: Row, draw: random.Random) -> Row:
    return replace(row, output=row.output | {task.class_field: draw.choice(other_classes(task, row))})


def _spare_value(task: Task, row: Row) -> str | None:
    """The path of a labelled value without which the label breaks no rule."""
    for path, _ in copied_values(row, value_paths(task)):
        if task.checker.check(json.dumps(_dropped(row.output, path)), row.text, lang=row.lang).ok:
            return path
    return None


def _dropped(output: dict, path: str) -> dict:
    key, _, name = path.partition(".")
    return output | {key: {k: v for k, v in output[key].items() if k != name}}


def _without(task: Task, row: Row) -> Row:
    return replace(row, output=_dropped(row.output, _spare_value(task, row)))


def _made_up(task: Task, row: Row) -> Row:
    """The row with `NOWHERE` as a value at the first path of values that its label leaves free."""
    key = value_paths(task)[0].partition(".")[0]
    free = next(name for name in task.schema["properties"][key]["properties"] if name not in row.output[key])
    return replace(row, output=row.output | {key: row.output[key] | {free: NOWHERE}})


def _template(task: Task, donors: Sequence[Row], n: int, draw: random.Random) -> list[Row]:
    """n rows made of the first donor that is one message with a number as a labelled value: other digits, else the same."""
    row, number = next(
        (row, value)
        for row in donors
        for _, value in copied_values(row, value_paths(task))
        if isinstance(row.input, str) and re.fullmatch(r"\d{4,}", value) and len(row.text.split()) > 5
    )
    made = []
    for _ in range(n):
        other = "".join(draw.choice("123456789") for _ in number)
        made.append(
            replace(row, input=row.input.replace(number, other), output=json.loads(json.dumps(row.output).replace(number, other)))
        )
    return made


def _with_card(row: Row, draw: random.Random) -> Row:
    """The row's message with a made-up card number behind it, whose check digit is right."""
    while not luhn(number := "6999" + "".join(draw.choice("0123456789") for _ in range(12))):
        pass
    said = f"card {number[:4]} {number[4:8]} {number[8:12]} {number[12:]}"
    text = row.input if isinstance(row.input, str) else row.text
    return replace(row, input=f"{text} {said}")


def write_folder(task: Task, folder: Path, records: Sequence[dict], held: Sequence[Row]) -> Path:
    """A small task folder with these training rows and these validation rows, to try the tools of `ftlab data` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("schema.json", "rules.json"):
        shutil.copy(task.folder / name, folder / name)
    for split, lines in (("train", records), ("validation", [as_record(row) for row in held])):
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def found_by(report: dict, places: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """Fault → kind of finding → how many of the planted rows a finding of that kind names, from the result of `check_sets`."""
    named: dict[str, set[str]] = {}
    for finding in report["findings"]:
        named.setdefault(finding["kind"], set()).update([finding["where"], *finding["others"]])
    return {fault: {kind: len(named[kind] & set(at)) for kind in named} for fault, at in places.items()}

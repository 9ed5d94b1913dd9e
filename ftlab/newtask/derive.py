"""What labelled rows say of a task: types, closed sets, what is always there, which rules no row breaks; and what they leave open."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.checks import Checker, normalize, values_at
from ftlab.rows import Row

CLOSED = 20  # different texts at most in what is taken for a closed set
ROWS_EACH = 5  # rows that such a set needs for each of its values, on average
SEEN = 10  # values that have to keep a rule, all of them, before it is declared
NEARLY = 0.8  # share that keeps it, from which the others are told
_JSON = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
)  # bool is an int
Pair = tuple[Any, Row]  # a value of an answer, and the row that it is of


@dataclass
class Derived:
    """Schema, rules and compared fields of the rows, and two lists of sentences: what was decided, and what only a person can."""

    schema: dict
    rules: list[dict] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def class_field(self) -> str | None:
        """The first closed set: see `Task.class_field`."""
        return next((key for key, spec in self.schema["properties"].items() if "enum" in spec), None)

    @property
    def key_order(self) -> list[str]:
        """What is compared first and free text last: the wording then follows from the decisions."""
        compared = [key for key in self.schema["properties"] if {key, f"{key}.*"} & set(self.fields)]
        return [*compared, *(key for key in self.schema["properties"] if key not in compared)]


def derive(rows: Sequence[Row], title: str) -> Derived:
    """Everything about a task that its labelled rows tell.

    Args:
        rows: labelled; an answer leaves a key out where it has no value.
        title: the task's name, as the short prompt says it.
    """
    found = Derived({"title": title})
    pairs = [(row.output, row) for row in rows]
    found.schema |= _object(found, pairs, "")
    for key, spec in found.schema["properties"].items():
        _rules(found, rows, key, spec)
    _whole(found, rows)
    return found


def _schema(found: Derived, pairs: Sequence[Pair], path: str) -> dict:
    """The schema of all values at one place."""
    kinds = {next((name for kind, name in _JSON if isinstance(value, kind)), "null") for value, _ in pairs}
    kinds -= {"integer"} if "number" in kinds else set()
    if len(kinds) > 1:
        found.left.append(f"{path}: values of several types ({', '.join(sorted(kinds))}); is that meant?")
        return {"type": sorted(kinds)}
    kind = kinds.pop()
    if kind == "object":
        return _object(found, pairs, f"{path}.")
    if kind == "array":
        items = [(item, row) for value, row in pairs for item in value]
        return {"type": "array"} | ({"items": _schema(found, items, f"{path}.*")} if items else {})
    return _text(found, pairs, path) if kind == "string" else {"type": kind}


def _object(found: Derived, pairs: Sequence[Pair], prefix: str) -> dict:
    fullest = sorted(pairs, key=lambda pair: -len(pair[0]))  # their order of keys is that of the file's columns
    keys = list(dict.fromkeys(key for value, _ in fullest for key in value))
    own = {key: [(value[key], row) for value, row in pairs if key in value] for key in keys}
    return {
        "type": "object",
        "required": [key for key in keys if len(own[key]) == len(pairs)],
        "additionalProperties": False,
        "properties": {key: _schema(found, own[key], f"{prefix}{key}") for key in keys},
    }


def _text(found: Derived, pairs: Sequence[Pair], path: str) -> dict:
    """A closed set where few texts come again and again; else any text with a visible sign."""
    counts = Counter(value for value, _ in pairs)
    if len(counts) > CLOSED or len(pairs) < ROWS_EACH * len(counts):
        if len(counts) <= CLOSED and 2 * len(counts) <= len(pairs):
            found.left.append(
                f"{path}: {len(counts)} different texts in {len(pairs)} values, too few of each to call it a closed set; if it is one, "
                'write "enum" into schema.json'
            )
        return {"type": "string", "pattern": "\\S"} if all(value.strip() for value in counts) else {"type": "string"}
    spelt = Counter(map(normalize, counts))
    for value in (value for value, times in spelt.items() if times > 1):
        found.left.append(f"{path}: {value!r} is spelt in {spelt[value]} ways (capitals or spaces); make them one")
    if rare := [value for value, times in counts.items() if times == 1]:
        found.left.append(f"{path}: only one row has {', '.join(map(repr, rare))}; a slip, or a value that needs more rows?")
    if len(counts) == 1:
        found.left.append(f"{path}: the same in all rows, so nothing can be learnt or measured there")
    return {"type": "string", "enum": sorted(counts)}


def _rules(found: Derived, rows: Sequence[Row], key: str, spec: dict) -> None:
    """Rules about one key of the answer, and whether it can be compared with a label."""
    path = f"{key}.*" if spec.get("type") in ("object", "array") else key
    closed = "enum" in spec or spec.get("type") in ("boolean", "integer", "number")
    copied = _copied(found, rows, path, closed)
    if copied:
        found.rules.append(copied)
        always = key in found.schema["required"]
        spec["description"] = f"copied letter for letter from the message{'' if always else '; left out if it is not there'}."
    if closed or copied or "enum" in spec.get("items", {}):
        found.fields.append(path)
    elif spec.get("type") == "string":
        found.rules += _free_text(rows, key)
    else:
        found.left.append(f"{key}: not compared with labels, since not all of it is copied; list its dotted paths under fields")
    found.did.append(f"{key}: {_told(found, key, spec, bool(copied))}")


def _copied(found: Derived, rows: Sequence[Row], path: str, closed: bool) -> dict | None:
    """The rule that the texts at `path` are pieces of the message, if all are; if nearly all are, the others are told."""
    rule = {"rule": "copied_from_input", "path": path, "code": "fabricated_entity"}
    texts = [value for row in rows for _, value in values_at(row.output, path) if isinstance(value, str)]
    if len(texts) < SEEN:
        return None
    if not (strangers := _breaking(rule, rows)):
        return rule
    if not closed and len(strangers) <= (1 - NEARLY) * len(texts):
        some = ", ".join(row.where for row in strangers[:5]) + (", …" if len(strangers) > 5 else "")
        found.left.append(
            f"{path}: copied from the message but in {len(strangers)} of {len(texts)} values ({some}); mend those and declare "
            "copied_from_input, or leave it"
        )
    return None


def _free_text(rows: Sequence[Row], key: str) -> Iterator[dict]:
    """Rules about wording that every row keeps: numbers and addresses that the message holds, the number of sentences."""
    texts = [row for row in rows if isinstance(row.output.get(key), str)]
    known = {"rule": "known_values", "path": key, "code": "fabricated_fact"}
    counts = [{"rule": "sentence_count", "path": key, "min": 1, "max": n, "code": "wrong_sentence_count"} for n in (1, 2, 3)]
    if len(texts) >= SEEN:
        yield from [known] if not _breaking(known, texts) else []
        yield from [rule for rule in counts if not _breaking(rule, texts)][:1]  # the narrowest


def _breaking(rule: dict, rows: Sequence[Row]) -> list[Row]:
    """The rows whose own label breaks a rule."""
    checker = Checker({}, [rule])
    return [row for row in rows if not checker.check(json.dumps(row.output), row.text).ok]


def _told(found: Derived, key: str, spec: dict, copied: bool) -> str:
    kinds = {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number", "array": "list"}
    told = [f"one of {', '.join(spec['enum'])}" if "enum" in spec else kinds.get(str(spec.get("type")), str(spec.get("type")))]
    told += ["copied from the message"] if copied else []
    told += ["free, so not compared with labels"] if key not in found.fields and spec.get("type") == "string" else []
    told += [] if key in found.schema["required"] else ["may be missing"]
    told += [f"rule {rule['rule']}" for rule in found.rules if rule["path"] == key and rule["rule"] != "copied_from_input"]
    return ", ".join(told)


def _whole(found: Derived, rows: Sequence[Row]) -> None:
    """What is to be said of the rows as a whole."""
    if found.class_field:
        found.did.append(
            f"{found.class_field}: taken as the class, by which tables are grouped: the first closed set in schema.json"
        )
    else:
        found.left.append("no closed set, so there is no class: the plain baseline copies the nearest row, tables are not grouped")
    if not found.fields:
        found.left.append(
            "nothing can be compared letter for letter: only form and rules will be scored; is there a key that could?"
        )
    found.left += [f"{said}; which of the labels is right?" for said in contradictions(rows)]
    if again := len(rows) - len({normalize(row.text) for row in rows}):
        found.left.append(f"{again} row(s) repeat the text of another; ftlab data check names them")


def contradictions(rows: Sequence[Row]) -> list[str]:
    """A sentence for each text that has several labels."""
    by_text: dict[str, list[Row]] = {}
    for row in rows:
        by_text.setdefault(normalize(row.text), []).append(row)
    differing = [same for same in by_text.values() if any(row.output != same[0].output for row in same)]
    return [f"one text with different answers: {', '.join(row.where for row in same)}" for same in differing]

"""`ftlab data coverage`: how many rows there are of each class, kind, language and length, and of which there are none."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product

from ftlab.datatools.sets import Sets
from ftlab.errors import UsageError
from ftlab.rows import Row
from ftlab.task import Task

LENGTHS = ((3, "1-3"), (8, "4-8"), (15, "9-15"), (30, "16-30"), (60, "31-60"))  # words in the message, the last number included
LONGEST = "61+"
AXES = ("class", "tag", "lang", "words")


def length_bin(text: str) -> str:
    """In which of the ranges of `LENGTHS` the number of words falls."""
    n = len(text.split())
    return next((name for limit, name in LENGTHS if n <= limit), LONGEST)


def cell(task: Task | None, row: Row) -> tuple[str, str, str, str]:
    """A row's place in the table: class, first tag, language and range of length; what a row does not say is "none"."""
    label = str((row.output or {}).get(task.class_field, "none")) if task and task.class_field else "none"
    return label, row.tags[0] if row.tags else "none", row.lang or "none", length_bin(row.text)


def coverage(sets: Sets, file: str = "train") -> dict:
    """Count the rows of one file, or of all, by class × first tag × language × length.

    A class that the schema allows is on its axis even if no row has it; the other axes hold what the folder's rows have. In a task's
    folder files without labels (preference pairs) do not count.

    Returns:
        {"name", "file", "rows", "axes": axis → values, "cells": [[class, tag, lang, words, rows]] without the empty ones,
        "empty": every empty cell of the whole table, "empty_pairs": "axis × axis" → pairs of values that no row has}.

    Raises:
        UsageError: the folder has no such file, or its rows have no labels.
    """
    files = {stem: rows for stem, rows in sets.files.items() if sets.task is None or all(row.output for row in rows)}
    if file != "all" and file not in files:
        raise UsageError(f"--file {file}: expected all or one of {', '.join(files)}.")
    places = {stem: [cell(sets.task, row) for row in rows] for stem, rows in files.items()}
    everywhere = [place for found in places.values() for place in found]
    chosen = everywhere if file == "all" else places[file]
    axes = _axes(sets.task, everywhere)
    counts = Counter(chosen)
    pairs = {}
    for (i, a), (j, b) in combinations(enumerate(AXES), 2):
        seen = {(place[i], place[j]) for place in chosen}
        pairs[f"{a} × {b}"] = [list(pair) for pair in product(axes[a], axes[b]) if pair not in seen]
    return {
        "name": sets.name, "file": file, "rows": len(chosen), "axes": axes,
        "cells": [[*place, n] for place, n in sorted(counts.items())],
        "empty": [list(place) for place in product(*axes.values()) if place not in counts],
        "empty_pairs": pairs,
    }  # fmt: skip


def _axes(task: Task | None, places: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    found = {axis: Counter(place[i] for place in places) for i, axis in enumerate(AXES)}
    axes = {axis: sorted(counts, key=lambda value, n=counts: (-n[value], value)) for axis, counts in found.items()}
    if task and task.class_field:
        allowed = [str(value) for value in task.schema["properties"][task.class_field]["enum"]]
        axes["class"] += [value for value in allowed if value not in axes["class"]]
    axes["words"] = [*(name for _, name in LENGTHS), LONGEST]
    return axes


def coverage_text(result: dict) -> str:
    """Tables of class by tag, language and length, and the empty cells by name."""
    lines = [f"{result['name']}, {result['file']}: {result['rows']} rows"]
    for i, axis in enumerate(AXES[1:], 1):
        counts: Counter[tuple[str, str]] = Counter()
        for *place, n in result["cells"]:
            counts[place[0], place[i]] += n
        columns = result["axes"][axis]
        head = f"class × {axis}"
        wide = max(len(head), *(len(name) for name in result["axes"]["class"]))
        lines += ["", f"  {head:<{wide}} " + " ".join(f"{name:>{_width(name)}}" for name in columns)]
        for label in result["axes"]["class"]:
            cells = " ".join(f"{counts[label, name] or '-':>{_width(name)}}" for name in columns)
            lines.append(f"  {label:<{wide}} {cells}")
    lines.append("")
    for head, pairs in result["empty_pairs"].items():
        named = "; ".join(" + ".join(pair) for pair in pairs)
        lines.append(f"  no row of {head}: {named or 'every pair has one'}")
    whole = len(result["empty"]) + len(result["cells"])
    lines.append(f"  {len(result['empty'])} of all {whole} cells of {' × '.join(AXES)} are empty; --json names each")
    return "\n".join(lines)


def _width(name: str) -> int:
    return max(len(name), 4)

"""`ftlab data mix`: rows of another source among a task's own, at a given share."""

import json
import random
from collections import Counter
from pathlib import Path

from ftlab.checks import normalize
from ftlab.datatools.lines import records
from ftlab.datatools.sets import Sets
from ftlab.errors import UsageError
from ftlab.rows import Row, whole_rows
from ftlab.task import DATA, builtin_tasks

GENERAL = "general"


def source_file(source: str) -> Path:
    """The file behind --with: a .jsonl file, or train.jsonl of a built-in set or a folder.

    Raises:
        UsageError: there is none.
    """
    for path in (DATA / source / "train.jsonl", Path(source) / "train.jsonl", Path(source)):
        if path.is_file():
            return path
    known = ", ".join([GENERAL, *builtin_tasks()])
    raise UsageError(
        f"--with: expected a built-in set ({known}), a folder with train.jsonl or a .jsonl file, found none at {source!r}."
    )


def mix(sets: Sets, source: Path, share: float, stem: str = "train", seed: int = 0) -> tuple[list[dict], dict[str, int]]:
    """All rows of STEM.jsonl and so many of `source`, drawn at random, that they make `share` of the whole, in a random order.

    A row of the source whose message also stands in the folder is passed over. A mixed-in row keeps every key, gets the tag
    "mixed" at the end of its tags, and its id is led by the source's name, so that no id is used twice.

    Args:
        share: of the resulting rows, above 0 and below 1.

    Returns:
        records, and counts: "own", "mixed", "unlabelled" (mixed-in rows without an output), "other_form" (with an output that the
        task's schema does not allow), "passed_over".

    Raises:
        UsageError: the share is out of range, or the source has too few rows for it.
        DataError: rows of the folder or the source are broken.
    """
    if not 0 < share < 1:
        raise UsageError(f"--share: expected a number above 0 and below 1, found {share}.")
    own = records(sets, stem)
    others, passed_over = _others(sets, source)
    wanted = max(1, round(share * len(own) / (1 - share)))
    if wanted > len(others):
        most = len(others) / (len(own) + len(others))
        raise UsageError(
            f"--share {share}: expected at most {most:.3f}, since {source.name} has {len(others)} rows to give, not {wanted}."
        )
    draw = random.Random(seed)
    chosen = draw.sample(others, wanted)
    counts = Counter(own=len(own), mixed=wanted, passed_over=passed_over, unlabelled=0, other_form=0)
    for record in chosen:
        if not isinstance(record.get("output"), dict):
            counts["unlabelled"] += 1
        elif sets.task and sets.task.checker.schema_problems(record["output"]):
            counts["other_form"] += 1
    name = source.stem if source.stem != "train" else source.resolve().parent.name
    marked = [record | {"id": f"{name}/{record['id']}", "tags": [*record.get("tags", []), "mixed"]} for record in chosen]
    mixed = [*own, *marked]
    draw.shuffle(mixed)
    return mixed, dict(counts)


def _others(sets: Sets, source: Path) -> tuple[list[dict], int]:
    """Records of the source that the folder does not have, and how many it has."""
    rows = whole_rows(source)
    known = {normalize(row.text) for row in sets.rows}
    lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line.strip()]
    pairs: list[tuple[Row, dict]] = [(row, json.loads(line)) for row, line in zip(rows, lines, strict=True)]
    fresh = [record for row, record in pairs if normalize(row.text) not in known]
    return fresh, len(pairs) - len(fresh)

"""Row files as they stand: what the tools that write a new file have in common."""

import json
from pathlib import Path

from ftlab.datatools.sets import Sets
from ftlab.errors import DataError, UsageError


def records(sets: Sets, stem: str) -> list[dict]:
    """The whole JSON object of each row of one file, every key kept, in the file's order.

    Raises:
        UsageError: the folder has no such file.
        DataError: rows of the folder are broken; a new file made from the good ones only would hide that.
    """
    if stem not in sets.files:
        raise UsageError(f"--file {stem}: expected one of {', '.join(sets.files)}.")
    if sets.broken:
        raise DataError(f"{sets.name}: {len(sets.broken)} broken row(s); mend each of these and run again:", list(sets.broken))
    text = (sets.folder / f"{stem}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def refuse_in_place(out: Path, folder: Path, source: Path | None = None) -> None:
    """Refuse an `out` that would be a row file of `folder`, or is `source`: the tools never write in place.

    Raises:
        UsageError: it would be.
    """
    if out.suffix == ".jsonl" and out.resolve().parent == folder.resolve():
        raise UsageError(f"--out {out}: expected a file outside {folder.name}, whose rows are never changed; name another.")
    if source is not None and out.resolve() == source.resolve():
        raise UsageError(f"--out {out}: expected another file than the one that rows are taken from; name another.")

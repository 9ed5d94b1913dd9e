"""Results in a file that a run may find again: valid for one key, which is a hash of all they depend on."""

import json
from pathlib import Path
from typing import Any

from ftlab.artifact import write_json

BEGUN = "begun.json"


def read_kept(path: Path, key: str) -> Any | None:
    """What was kept in `path` under `key`; None if nothing was, or if the file cannot be read: it is then made anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # broken JSON and broken UTF-8 are ValueErrors
        return None
    return kept.get("value") if isinstance(kept, dict) and kept.get("key") == key else None


def begun(folder: Path, key: str) -> bool:
    """Whether what is made in `folder` was begun under `key`, so that it may go on from there; it is begun under `key` from now on."""
    before = read_kept(folder / BEGUN, key)
    write_kept(folder / BEGUN, key, True)
    return bool(before)


def write_kept(path: Path, key: str, value: Any) -> None:
    """Keep `value` in `path`, in place of whatever was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": key, "value": value})

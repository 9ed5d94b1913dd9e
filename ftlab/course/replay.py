"""Stored results of real runs, shown with their date and configuration; and at which speed a notebook runs."""

import json
import os
from typing import Any

from ftlab.errors import UsageError
from ftlab.task import DATA

RESULTS = DATA.parent / "results"
SPEEDS = ("smoke", "replay", "live")


def speed() -> str:
    """ "replay" (stored results; seconds), "live" (everything is computed here) or "smoke" (live with the tiny model, for tests), as
    FTLAB_SPEED says; without it "replay".

    Raises:
        UsageError: FTLAB_SPEED says something else.
    """
    chosen = os.environ.get("FTLAB_SPEED") or "replay"
    if chosen not in SPEEDS:
        raise UsageError(f"FTLAB_SPEED: expected {', '.join(SPEEDS)}, found {chosen!r}.")
    return chosen


def stored(name: str, *, say: bool = True) -> Any:
    """What results/NAME.json holds; says that it is a stored result and of what.

    Raises:
        UsageError: there is no such file.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RESULTS.glob("*.json")))
        raise UsageError(f"stored: expected one of {known}, found {name!r}.")
    results = json.loads(path.read_text(encoding="utf-8"))
    if say:
        print(f"stored result of a real run: results/{name}.json{_about(results)}")
    return results


def stored_if_there(name: str, made_by: str) -> Any:
    """The same, or None and one line that says by which command it is made, where the file is not there yet."""
    if not (RESULTS / f"{name}.json").exists():
        print(f"results/{name}.json is not there yet; this makes it: {made_by}")
        return None
    return stored(name)


def stored_evaluations(name: str, *, say: bool = True) -> dict[str, dict]:
    """Each system's evaluation of a stored run, as `evaluate_outputs` made it: scores and, row by row, the raw outputs with their faults.

    Raises:
        UsageError: see `stored`.
    """
    results, rows = stored(name, say=say), stored(f"{name}_rows", say=False)
    return {system: evaluation | {"rows": rows[system]} for system, evaluation in results["systems"].items()}


def _about(results: Any) -> str:
    about = results.get("about", {}) if isinstance(results, dict) else {}
    told = [f"{key} {about[key]}" for key in ("date", "task", "profile") if about.get(key)]
    if isinstance(about.get("model"), dict):
        told.append(f"model {about['model']['name']}")
    return f" ({', '.join(told)})" if told else ""

"""Minutes and peak memory of notebooks, by profile: `python -m ftlab.course.measure [--profile P] notebooks/NAME.ipynb …`.

Under `cpu` a notebook is run, its outputs are stored, and what they were made from is noted; under the other profiles a copy is run
and only measured. All goes into results/notebooks.json, which `python -m ftlab.course.index` shows. `stale_outputs` compares the notes
with what is there now, by hash.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from ftlab.artifact import write_json
from ftlab.course.replay import RESULTS
from ftlab.course.watch import Watch
from ftlab.errors import DataError
from ftlab.notebook import run_notebook
from ftlab.task import file_sha256

ROOT = Path(__file__).resolve().parent.parent.parent
MEASURED = RESULTS / "notebooks.json"
STORED = "cpu"  # the profile whose outputs are stored
_READS = re.compile(r"\bstored(_evaluations|_if_there)?\(\s*\"(\w+)\"")
_EXPORT = re.compile(r"^export (\w+)=(\S+)", re.MULTILINE)


def environments() -> dict[str, dict[str, str]]:
    """Profile of the course → what the environment says under it. That of Binder is what binder/start sets."""
    start = (ROOT / "binder" / "start").read_text(encoding="utf-8")
    return {
        STORED: {"FTLAB_SPEED": "replay", "FTLAB_PROFILE": STORED},
        "binder": {"FTLAB_SPEED": "replay", **dict(_EXPORT.findall(start))},
        "smoke": {"FTLAB_SPEED": "smoke", "FTLAB_PROFILE": "smoke"},
        "live": {"FTLAB_SPEED": "live", "FTLAB_PROFILE": STORED},
    }


def code_sha256(path: Path) -> str:
    """Hash of a notebook's code, cell by cell."""
    return _hash([source for kind, source, _ in _cells(path) if kind == "code"])


def outputs_sha256(path: Path) -> str:
    """Hash of a notebook's stored outputs, cell by cell."""
    return _hash([outputs for kind, _, outputs in _cells(path) if kind == "code"])


def results_read(path: Path, folder: Path = RESULTS) -> dict[str, str]:
    """Stored results that a notebook's code names → hash of the file now, "" if it is gone."""
    code = "\n".join(source for kind, source, _ in _cells(path) if kind == "code")
    names = {name for _, name in _READS.findall(code)} | {
        f"{name}_rows" for kind, name in _READS.findall(code) if kind == "_evaluations"
    }
    files = {name: folder / f"{name}.json" for name in sorted(names)}
    return {name: file_sha256(file) if file.exists() else "" for name, file in files.items()}


def stale_outputs(path: Path, record: dict | None) -> list[str]:
    """Why a notebook's outputs are not those of a run of its code on the results that are here; [] if they are, or if no run is noted."""
    run = (record or {}).get("measured", {}).get(STORED)
    if record is None or run is None:
        return []
    found = []
    if run["code_sha256"] != code_sha256(path):
        found.append("its code has changed since it was run")
    if record["outputs_sha256"] != outputs_sha256(path):
        found.append("its outputs are not those of the run that is noted")
    found += [
        f"it shows results/{name}.json, which has changed since"
        for name, sha256 in results_read(path).items()
        if record["results"].get(name) != sha256
    ]
    return [f"{path.name}: {reason}; run `make notebooks`" for reason in found]


def measured(path: Path = MEASURED) -> dict[str, dict]:
    """Name of a notebook → what was noted of its runs; {} before the first."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def measure(path: Path, profile: str, limit_mb: float = 0) -> dict[str, Any]:
    """Run a notebook under a profile and say what it took; its outputs are stored under `cpu` only.

    Args:
        limit_mb: its kernel is killed once it holds more, 0 means never.

    Raises:
        DataError: a cell failed, or the limit was passed; says which notebook.
    """
    # made before the run: what it reads may be written anew meanwhile
    sha256 = code_sha256(path)
    with tempfile.TemporaryDirectory() as folder, _environment(environments()[profile]), Watch(limit_mb=limit_mb) as watch:
        run = path if profile == STORED else Path(shutil.copy(path, folder))
        started = time.monotonic()
        try:
            run_notebook(run)
        except Exception as error:  # whatever a cell raises
            why = f"it took more than {limit_mb:.0f} MB" if watch.killed else str(error).strip()
            raise DataError(f"{path.name}, profile {profile}: expected it to run through, found: {why}") from None
        seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 1), "peak_memory_mb": round(watch.peak_mb), "cores": _cores(), "date": date.today().isoformat(),
        "code_sha256": sha256,
    }  # fmt: skip


def note(path: Path, profile: str, run: dict, record: dict | None) -> dict:
    """A notebook's record with one more run; runs of other code are dropped."""
    kept = {name: r for name, r in (record or {}).get("measured", {}).items() if r["code_sha256"] == run["code_sha256"]}
    new = {"outputs_sha256": "", "results": {}} | (record or {}) | {"measured": kept | {profile: run}}
    if profile == STORED:
        new |= {"outputs_sha256": outputs_sha256(path), "results": results_read(path)}
    return new


def _cells(path: Path) -> Iterator[tuple[str, str, list]]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ftlab.course.measure", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--profile", default=STORED, choices=environments())
    parser.add_argument("--limit-mb", type=float, default=0, help="kill a notebook that takes more")
    parser.add_argument("--json", type=Path, default=MEASURED, help="where to note it (default: results/notebooks.json)")
    args = parser.parse_args(argv)
    failed = 0
    for path in args.notebooks:
        try:
            run = measure(path, args.profile, args.limit_mb)
        except DataError as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
            continue
        print(f"{path.stem}: {run['seconds']:.0f} s, {run['peak_memory_mb']} MB", flush=True)
        records = measured(args.json)  # read anew: another run may have written meanwhile
        write_json(args.json, records | {path.stem: note(path, args.profile, run, records.get(path.stem))})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Which files of a folder hold rows, and which of them have to be kept apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftlab.checks import normalize, values_at
from ftlab.errors import DataError, UsageError
from ftlab.rows import Row, read_rows
from ftlab.task import DATA, SPLITS, Task, builtin_tasks, load_task


@dataclass(frozen=True)
class Sets:
    """The row files of one folder, as they are: a split that would be derived is still part of train.jsonl here."""

    name: str
    folder: Path
    files: dict[str, tuple[Row, ...]]  # stem of a .jsonl file → its good rows; unlabelled ones have no output
    task: Task | None  # None: a folder without schema.json, whose rows have no labels
    broken: tuple[str, ...] = ()  # "file:line: reason" of each row that was left out

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.files.values() for row in rows]

    @property
    def roles(self) -> list[str]:
        """What each of `rows` is for: "train", "validation" or "test"."""
        return [role(self.folder, stem) for stem, rows in self.files.items() for _ in rows]


def role(folder: Path, stem: str) -> str:
    """What STEM.jsonl is for. A file that is pinned by a hash, or whose name says so, is for testing."""
    if stem == "validation":
        return "validation"
    pinned = (folder / f"{stem}.sha256").exists()
    return "test" if pinned or stem == "test" or stem.endswith("_test") else "train"


def load_sets(taskdir: str | Path) -> Sets:
    """Read a task (its splits and preference pairs) or, without schema.json, every .jsonl file of a folder.

    Raises:
        UsageError: there is no such folder, or it has no rows.
        DataError: a file cannot be read at all, or a frozen set has changed. Broken rows are no error but `broken`.
    """
    folder = next((d for d in (DATA / str(taskdir), Path(taskdir)) if d.is_dir()), None)
    if folder is None:
        known = ", ".join([*builtin_tasks(), "general"])
        raise UsageError(f"expected a built-in set ({known}) or a folder with rows, found no folder {str(taskdir)!r}.")
    broken: list[str] = []
    task = None
    if (folder / "schema.json").is_file():
        try:
            task = load_task(folder, broken)
        except DataError as error:  # too few good rows are left: the broken ones are why
            error.problems = error.problems or broken
            raise
    files = {}
    for path in _row_files(folder, task):
        split = path.stem if task and path.stem in SPLITS else None
        rows, problems = read_rows(path, checker=task.checker if split else None, labelled=bool(split))
        files[path.stem] = tuple(rows)
        broken += [] if split else problems
    if not any(files.values()):
        raise UsageError(f"{folder}: expected .jsonl files with rows, found none; name a folder that has some.")
    return Sets(folder.resolve().name, folder, files, task, tuple(broken))


def _row_files(folder: Path, task: Task | None) -> Iterable[Path]:
    if task is None:
        return sorted(folder.glob("*.jsonl"))
    splits = [folder / f"{split}.jsonl" for split in SPLITS]
    return [path for path in [*splits, *sorted(folder.glob("pairs*.jsonl"))] if path.exists()]


def copied_values(row: Row, paths: Sequence[str]) -> list[tuple[str, str]]:
    """(path, value) of each text at `paths` of a row's answer that stands in the message, as written."""
    text = normalize(row.text)
    found = [(at, value) for path in paths for at, value in values_at(row.output or {}, path) if isinstance(value, str)]
    return [(at, value) for at, value in found if normalize(value) and normalize(value) in text]


def value_paths(task: Task | None) -> list[str]:
    """The compared fields of a task but its class: where a message's values are labelled."""
    return [path for path in task.fields if path != task.class_field] if task else []

"""`new_task`: the folder itself. It is made beside its place, loaded once as every task is, and only then given its name."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftlab.checks import normalize
from ftlab.errors import DataError, UsageError
from ftlab.newtask.derive import Derived, derive
from ftlab.newtask.documents import data_card, specification
from ftlab.newtask.table import read_table
from ftlab.rows import Row
from ftlab.stats import wilson_interval
from ftlab.task import SPLITS, Task, derive_long_prompt, derive_short_prompt, dump_output, file_sha256, load_task

EXAMPLE = Path(__file__).parent / "shift_notes.csv"  # notes of shift workers as work orders, written one by one
LEAST = 30  # rows: below that a part may come out empty, and nothing can be measured anyway
PART = 0.2  # of each class, for validation and for the test: of few rows, more are needed to measure than of many


@dataclass(frozen=True)
class NewTask:
    """A folder that was made: what was decided on the way, and what only a person can decide."""

    folder: Path
    did: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def next_commands(self) -> tuple[str, str, str]:
        """Check the data, choose a lever, rehearse the whole way on a tiny model."""
        return f"ftlab data check {self.folder}", f"ftlab choose {self.folder}", f"ftlab run {self.folder} --profile smoke"

    def decisions(self) -> str:
        """What was decided and what is left, to be read."""
        parts = {"Done": self.did, "Left to you": self.left}
        return "\n".join(f"{head}:\n" + "\n".join(f"  {said}" for said in told) for head, told in parts.items())

    def as_text(self) -> str:
        """The decisions, and the next three commands."""
        return "\n".join([self.decisions(), "Next:", *(f"  {command}" for command in self.next_commands)])


def new_task(folder: Path, source: Path = EXAMPLE, text: str | None = None) -> NewTask:
    """Make a task folder of labelled rows; nothing that is there is ever touched.

    Args:
        folder: where; its name becomes the task's title.
        source: a CSV or JSONL file, see `read_table`.
        text: the column that holds the text.

    Raises:
        UsageError: there is something at `folder`; see `read_table`.
        DataError: fewer than 30 rows; see `read_table`.
    """
    if folder.exists():
        raise UsageError(
            f"{folder}: expected a name that is free, found a {'folder' if folder.is_dir() else 'file'}; choose another."
        )
    table = read_table(source, text)
    if len(table.rows) < LEAST:
        raise DataError(f"{source}: expected at least {LEAST} labelled rows, found {len(table.rows)}; some 200 are a good start.")
    found = derive(table.rows, folder.resolve().name.replace("_", " ").replace("-", " "))
    splits = cut(table.rows, found.class_field)
    if empty := [split for split, rows in splits.items() if not rows]:
        n = len({normalize(row.text) for row in table.rows})
        raise DataError(f"{source}: expected enough different texts to cut {' and '.join(empty)} rows from, found {n}; write more.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        _write(made, found, splits)
        task = load_task(made)  # what is given away loads
        did, left = (*table.said, *found.did, *_cut(task)), (*found.left, *_still(task))
        made.chmod(0o755)  # mkdtemp's is the owner's alone
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return NewTask(folder, did, left)


def cut(rows: Sequence[Row], key: str | None) -> dict[str, list[Row]]:
    """Training, validation and test rows: of each class (the value at `key`) the same share, in the order of a hash of the text.

    Nothing is drawn, so every machine cuts alike; rows of one text stay together. Unlike `task.load_task`, which cuts anew at each
    loading, this is done once and written down, so that rows may be added later without moving any.
    """
    texts: dict[str, list[Row]] = {}
    for row in rows:
        texts.setdefault(normalize(row.text), []).append(row)
    classes: dict[str, list[str]] = {}
    for text in sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest()):
        classes.setdefault(str(texts[text][0].output.get(key)), []).append(text)
    held = {}
    for own in classes.values():
        part = round(PART * len(own))
        held |= dict.fromkeys(own[:part], "test") | dict.fromkeys(own[part : 2 * part], "validation")
    return {split: [row for row in rows if held.get(normalize(row.text), "train") == split] for split in SPLITS}


def _write(folder: Path, found: Derived, splits: dict[str, Sequence[Row]]) -> None:
    for split, rows in splits.items():
        _put(folder, f"{split}.jsonl", "".join(json.dumps(_record(row, found), ensure_ascii=False) + "\n" for row in rows))
    sha256 = file_sha256(folder / "test.jsonl")
    _put(folder, "test.sha256", f"{sha256}  test.jsonl\n")
    _put(folder, "schema.json", json.dumps(found.schema, indent=2, ensure_ascii=False) + "\n")
    declared = {"fields": found.fields, "key_order": found.key_order, "rules": found.rules}
    _put(folder, "rules.json", json.dumps(declared, indent=2, ensure_ascii=False) + "\n")
    shortest = min(splits["train"], key=lambda row: (-len(row.output), len(row.text)))  # the most keys, in the fewest words
    shown = f"Example.\nMessage: {shortest.text}\nAnswer: {dump_output(shortest.output, found.key_order)}"
    _put(folder, "prompt_long.txt", f"{derive_long_prompt(found.schema)}\n\n{shown}\n")
    _put(folder, "prompt_short.txt", f"{derive_short_prompt(found.schema)}\n")
    _put(folder, "specification.md", specification(found, shortest))
    _put(folder, "DATA_CARD.md", data_card(found, splits, sha256))


def _put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _record(row: Row, found: Derived) -> dict:
    ordered = {key: row.output[key] for key in [*found.key_order, *row.output] if key in row.output}
    record = {"id": row.id, "input": row.input, "output": ordered}
    return record | ({"tags": list(row.tags)} if row.tags else {}) | ({"lang": row.lang} if row.lang else {})


def _cut(task: Task) -> list[str]:
    sizes = ", ".join(f"{len(task.rows(split))} {split}" for split in SPLITS)
    return [
        f"rows cut, {100 * PART:.0f} % of each class for either held-out part, in the order of a hash of the text: {sizes}",
        f"test.jsonl frozen: SHA-256 {file_sha256(task.folder / 'test.jsonl')[:12]}… in test.sha256; a change is noticed from now on",
        "prompts, specification.md and DATA_CARD.md begun; what they lack is marked (write)",
    ]


def _still(task: Task) -> list[str]:
    """What is never to be seen in rows."""
    n, key = len(task.rows("test")), task.class_field
    low, high = wilson_interval(n // 2, n)
    classes = {split: {row.output.get(key) for row in task.rows(split)} for split in SPLITS}
    unseen = [(split, sorted(set().union(*classes.values()) - seen, key=str)) for split, seen in classes.items() if key]
    return [
        *(f"{key}: no {split} row has {', '.join(map(str, names))}; write some" for split, names in unseen if names),
        f"{n} test rows tell a share only to within {100 * (high - low):.0f} points (95 % interval, at a half): enough for what you "
        "want to decide?",
        "rules that the rows happen to keep are guesses, and others they cannot show (policy, tone): read rules.json",
        "whether the labels are right: let a second person label some rows by specification.md alone",
    ]

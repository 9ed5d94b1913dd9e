"""Rows: what a JSONL file of them holds, read with every fault reported by file and line, from memory or, if it is large, from disk.

{"id": "tr-0001", "input": "a text" or [chat messages], "output": {…}, "tags": ["typical"], "lang": "en"}     one such object a line
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.checks import Checker, Problem
from ftlab.errors import DataError

HELD_BYTES = 32 * 2**20  # rows of a larger file are not held in memory


def as_messages(given: str | list[dict]) -> list[dict]:
    """An input as chat messages: a text is one message of the user."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def user_text(messages: Sequence[dict]) -> str:
    """What the user wrote in a chat: the text that values may be copied from."""
    return "\n".join(m["content"] for m in messages if m["role"] == "user")


@dataclass(frozen=True)
class Row:
    """One labelled or unlabelled row, and where it stands."""

    id: str
    input: str | list[dict]
    output: dict | None = None
    tags: tuple[str, ...] = ()
    lang: str | None = None
    where: str = field(default="", compare=False)  # "file:line", for messages

    @property
    def messages(self) -> list[dict]:
        """The input as chat messages."""
        return as_messages(self.input)

    @property
    def text(self) -> str:
        """What the user wrote: the text that values may be copied from."""
        return user_text(self.messages)


class RowFile(Sequence[Row]):
    """Rows that are read from their file whenever they are asked for: memory holds where each line begins, not what it says.

    Args:
        path: the JSONL file; every row of it that is named here was checked before.
        starts: byte at which each row's line begins.
        numbers: its line, counted from 1.

    Raises:
        DataError: on reading, if the file was written to since.
    """

    def __init__(self, path: Path, starts: array, numbers: array):
        self.path, self._starts, self._numbers, self._stamp = path, starts, numbers, _stamp(path)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: Any) -> Any:
        places = range(len(self))[index]
        return self.pick(places) if isinstance(index, slice) else next(self._read([places]))

    def __iter__(self) -> Iterator[Row]:
        return self._read(range(len(self)))

    def pick(self, indexes: Sequence[int]) -> "RowFile":
        """The rows at `indexes`, in that order."""
        starts, numbers = (array("Q", (part[i] for i in indexes)) for part in (self._starts, self._numbers))
        return RowFile(self.path, starts, numbers)

    def _read(self, indexes: Iterable[int]) -> Iterator[Row]:
        if _stamp(self.path) != self._stamp:
            raise DataError(f"{self.path}: expected the rows that were checked before, found a file changed since; start again.")
        with open(self.path, "rb") as file:
            for i in indexes:
                file.seek(self._starts[i])
                yield _row(file.readline().decode(), f"{self.path.name}:{self._numbers[i]}", labelled=False)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def pick(rows: Sequence[Row], indexes: Sequence[int]) -> Sequence[Row]:
    """The rows at `indexes`: a list of them, or a `RowFile` of as many places in the file."""
    return rows.pick(indexes) if isinstance(rows, RowFile) else [rows[i] for i in indexes]


def read_rows(path: Path, checker: Checker | None = None, labelled: bool = False) -> tuple[Sequence[Row], list[str]]:
    """All good rows of a JSONL file and one line per broken one; blank lines do not count.

    The rows are a list, or a `RowFile` where the file has more than `HELD_BYTES`.

    Args:
        path: one JSON object a line with "id" and "input" and, if `labelled`, "output".
        checker: labelled outputs must be clean by it.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    rows, starts, numbers, problems = [], array("Q"), array("Q"), []
    lines_of: dict[int, int] = {}  # hash of an id -> its line: a number each, where the ids would be as large as the rows
    held = not path.is_file() or path.stat().st_size <= HELD_BYTES
    for number, start, line in _lines(path):
        where = f"{path.name}:{number}"
        try:
            row = _row(line, where, labelled)
            if (key := hash(row.id)) in lines_of:
                raise ValueError(f"the id {row.id!r} was used before, at {path.name}:{lines_of[key]}; give each row its own")
            lines_of[key] = number
            _check_label(row, checker)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        starts.append(start)
        numbers.append(number)
        if held:
            rows.append(row)
    if not starts and not problems:
        raise DataError(f"{path}: expected at least one row, found an empty file.")
    return rows if held else RowFile(path, starts, numbers), problems


def _lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """(number from 1, byte at which it begins, text) of each line that is not blank, one at a time.

    Raises:
        DataError: the file is missing or not UTF-8.
    """
    start = 0
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if line := raw.decode("utf-8").strip():
                    yield number, start, line
                start += len(raw)
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSONL file of rows, found no file.") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(f"{path}: expected a UTF-8 text file, found {error.__class__.__name__}; save it as UTF-8 JSONL.") from None


def whole_rows(path: Path, checker: Checker | None = None, labelled: bool = False) -> Sequence[Row]:
    """`read_rows` where a broken row cannot be left out.

    Raises:
        DataError: naming every broken line; see `read_rows`.
    """
    rows, problems = read_rows(path, checker, labelled)
    if problems:
        raise DataError(f"{path}: {len(problems)} broken row(s); mend each of these and run again:", problems)
    return rows


def raw_rows(path: Path, need_output: bool) -> list[tuple[Row, dict]]:
    """(Row, whole record) of each line; the file's order and every key are kept.

    Args:
        need_output: each row must hold the raw text of an answer.

    Raises:
        DataError: naming every broken line.
    """
    rows, problems = read_rows(path)
    records = [json.loads(line) for _, _, line in _lines(path)] if not problems else []
    if need_output:
        problems += [
            f"{row.where}: expected output to be the raw text that a model gave, found {type(record.get('output')).__name__}"
            for row, record in zip(rows, records, strict=False)
            if not isinstance(record.get("output"), str)
        ]
    if problems:
        raise DataError(f"{path}: {len(problems)} broken row(s); mend each of these and run again:", problems)
    return list(zip(rows, records, strict=True))


def _row(line: str, where: str, labelled: bool) -> Row:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not a line of JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object with id and input, found a {type(record).__name__}")
    if missing := [key for key in ("id", "input", *(["output"] if labelled else [])) if key not in record]:
        raise ValueError(f"lacks {', '.join(missing)}")
    if not isinstance(record["id"], str | int) or isinstance(record["id"], bool):
        raise ValueError(f"expected id to be a string, found {record['id']!r}")
    _check_input(record["input"])
    try:  # subtle: "\\ud800" is valid JSON for half a character, which no file or hash can hold
        json.dumps([record["id"], record["input"], record["output"] if labelled else None], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair (an escape such as \\ud800); write the whole character") from None
    output, tags, lang = record.get("output"), record.get("tags", []), record.get("lang")
    if labelled and not isinstance(output, dict):
        raise ValueError(f"expected output to be a JSON object, found {output!r}")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("expected tags to be a list of strings")
    if not isinstance(lang, str | None):
        raise ValueError(f"expected lang to be a language code such as 'en', found {lang!r}")
    return Row(str(record["id"]), record["input"], output if isinstance(output, dict) else None, tuple(tags), lang, where)


def _check_input(value: Any) -> None:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the input is empty")
        return
    if not isinstance(value, list) or not value:
        raise ValueError("expected input to be a text or a list of chat messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError('expected each chat message to be {"role", "content"} with a text as content')
        if message.get("role") not in ("user", "assistant", "system"):
            raise ValueError(f"expected role user, assistant or system, found {message.get('role')!r}")
    if not any(message["role"] == "user" for message in value):
        raise ValueError("expected at least one message of the user")


def _check_label(row: Row, checker: Checker | None) -> None:
    if checker is None or row.output is None:
        return
    problems: Iterable[Problem] = checker.check(json.dumps(row.output), row.text, lang=row.lang).problems
    if said := "; ".join(f"{p.rung}: {p.path} {p.message}".replace(":  ", ": ") for p in problems):
        raise ValueError(f"its output breaks the task's own checks ({said})")

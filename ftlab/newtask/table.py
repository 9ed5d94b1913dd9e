"""Labelled rows as their owner keeps them, a CSV or JSONL file, read as rows of a task: which column is the text, which are the answer."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError
from ftlab.rows import Row, as_messages, user_text

TEXT_NAMES = ("input", "text", "message", "note", "prompt", "question", "request", "body", "content")  # the first that is there
_SEPARATORS = (",", ";", "\t")
_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)")  # subtle: 007 is a name, no number
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_LONGEST = 120  # signs of a faulty line that are shown


@dataclass(frozen=True)
class Table:
    """The rows of a file, and what was decided in reading them, a sentence each."""

    rows: list[Row]
    said: list[str]


@dataclass(frozen=True)
class _Line:
    where: str  # "file:line"
    values: dict[str, Any]


def read_table(path: Path, text: str | None = None) -> Table:
    """The labelled rows of a file: flat columns of which one is the text, or {"input", "output"} as in a task folder.

    An empty cell of a CSV file and null in JSONL say that an answer has no value there. Nothing else is changed.

    Args:
        path: .csv (separated by comma, semicolon or tab, with a header) or .jsonl (one object a line); UTF-8.
        text: the column that holds the text; without it a usual name is looked for, then the column of the longest texts.

    Raises:
        UsageError: another kind of file, or no column `text`.
        DataError: no file, no rows, not UTF-8, or a line that is not like the others; names the line.
    """
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path}: expected labelled rows, found none; write a row a line.")
    outputs = [line.values.get("output") for line in lines]
    if text is None and all(isinstance(output, dict) for output in outputs) and all("input" in line.values for line in lines):
        said = ['the file holds {"input", "output"}, so the keys of output are the answer']
        return Table(_unique([_nested(i, line) for i, line in enumerate(lines, 1)], path), said)
    _check_keys(lines)
    column, why = _text_column(lines, text, path)
    said = [f"{column}: the text of each row ({why})"]
    key = "id" if column != "id" and _is_identity(lines) else None
    answers = [name for name in lines[0].values if name not in (column, key)]
    if empty := [name for name in answers if all(_nothing(line.values[name]) for line in lines)]:
        said.append(f"{', '.join(empty)}: no row has a value, so left out")
        answers = [name for name in answers if name not in empty]
    if not answers:
        raise DataError(f"{path}: expected columns with the answer beside {column!r}, found none; label the rows first.")
    return Table(_unique([_flat(i, line, column, key, answers) for i, line in enumerate(lines, 1)], path), said)


def _lines(path: Path) -> list[_Line]:
    readers = {".jsonl": _jsonl, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise UsageError(
            f"--from {path}: expected a .csv or .jsonl file, found {path.suffix or 'no ending'}; save the rows as CSV."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: expected a file of labelled rows, found no file.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a UTF-8 text file, found byte {error.start + 1} to be none; save it as UTF-8.") from None
    lines = readers[path.suffix.lower()](text, path.name)
    for line in lines:
        try:  # subtle: Python reads NaN, and "\ud800" for half a character, which no JSON and no file can hold
            json.dumps(line.values, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            raise DataError(
                f"{line.where}: expected numbers and whole characters, found NaN or half of one; mend the line."
            ) from None
    return lines


def _jsonl(text: str, name: str) -> list[_Line]:
    lines = []
    for number, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise DataError(f"{name}:{number}: expected one JSON object a line, found {raw.strip()[:_LONGEST]!r}.")
        lines.append(_Line(f"{name}:{number}", values))
    return lines


def _csv(text: str, name: str) -> list[_Line]:
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=header.count), strict=True)
    lines: list[_Line] = []
    names: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = _header(cells, name)
            elif len(cells) != len(names):
                raise DataError(
                    f"{name}:{reader.line_num}: expected {len(names)} cells as in the first line, found {len(cells)}; put texts that "
                    'hold the separator or a line break in "quotes".'
                )
            else:
                lines.append(_Line(f"{name}:{reader.line_num}", dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: expected a line of CSV, found a fault: {error}.") from None
    return _typed(lines, names)


def _header(cells: Sequence[str], name: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    (most, times), *_ = Counter(names).most_common(1)
    if times > 1 or "" in names:
        found = f"{most!r} twice" if times > 1 else "an empty one"
        raise DataError(f"{name}:1: expected a name of its own for each column, found {found}; give each another.")
    return names


def _typed(lines: list[_Line], names: Sequence[str]) -> list[_Line]:
    """Cells as JSON values: a column of whole numbers, of numbers, or of true and false becomes what it looks like; id stays text."""
    for name in names:
        said = [line.values[name].strip() for line in lines if line.values[name].strip()]
        convert: Any = None
        if name == "id" or not said:
            continue
        if all(value.lower() in ("true", "false") for value in said):
            convert = _truth
        elif all(_WHOLE.fullmatch(value) for value in said):
            convert = int
        elif all(_NUMBER.fullmatch(value) for value in said):
            convert = float
        for line in lines:
            value = line.values[name]
            line.values[name] = None if not value.strip() else convert(value) if convert else value
    return lines


def _truth(value: str) -> bool:
    return value.strip().lower() == "true"


def _check_keys(lines: Sequence[_Line]) -> None:
    wanted = list(lines[0].values)
    for line in lines:
        missing, more = [k for k in wanted if k not in line.values], [k for k in line.values if k not in wanted]
        if missing or more:
            found = f"no {', '.join(missing)}" if missing else f"also {', '.join(more)}"
            raise DataError(
                f"{line.where}: expected the keys of the first row in every row ({', '.join(wanted)}), found {found}; write null where "
                "an answer has no value."
            )


def _text_column(lines: Sequence[_Line], asked: str | None, path: Path) -> tuple[str, str]:
    """(name of the column that holds the text, why it is that one)."""
    names = list(lines[0].values)
    if asked is not None:
        if asked not in names:
            raise UsageError(f"--text {asked}: expected one of the columns {', '.join(names)}.")
        return asked, "as --text says"
    if usual := next((name for usual in TEXT_NAMES for name in names if name.lower() == usual), None):
        return usual, "by its name; --text names another"
    texts = {n: [line.values[n] for line in lines] for n in names if n != "id"}
    lengths = {n: sum(map(len, values)) for n, values in texts.items() if all(isinstance(v, str) and v.strip() for v in values)}
    if not lengths:
        raise DataError(
            f"{path}: expected a column with a text in every row, found none among {', '.join(names)}; name it with --text."
        )
    return max(lengths, key=lambda n: lengths[n]), "it holds the longest texts; --text names another"


def _nothing(value: Any) -> bool:
    return value is None or isinstance(value, str) and not value.strip()


def _is_identity(lines: Sequence[_Line]) -> bool:
    """Whether the key "id" names each row."""
    found = [line.values.get("id") for line in lines]
    return all(isinstance(i, str | int) and not _nothing(i) for i in found) and len(set(map(str, found))) == len(found)


def _flat(number: int, line: _Line, column: str, key: str | None, answers: Sequence[str]) -> Row:
    text = line.values[column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{line.where}: expected a text under {column!r}, found {text!r}; write it or take the row out.")
    output = {name: line.values[name] for name in answers if not _nothing(line.values[name])}
    return Row(str(line.values[key]) if key else f"r{number:04d}", text, output, where=line.where)


def _nested(number: int, line: _Line) -> Row:
    given, values = line.values["input"], line.values
    try:
        text = user_text(as_messages(given))
    except (KeyError, TypeError):
        text = ""
    if not text.strip():
        raise DataError(f"{line.where}: expected input to be a text or a list of chat messages, found {str(given)[:_LONGEST]!r}.")
    lang = values.get("lang") if isinstance(values.get("lang"), str) else None
    tags = tuple(tag for tag in values.get("tags") or () if isinstance(tag, str))
    return Row(str(values.get("id") or f"r{number:04d}"), given, values["output"], tags, lang, line.where)


def _unique(rows: list[Row], path: Path) -> list[Row]:
    (most, times), *_ = Counter(row.id for row in rows).most_common(1)
    if times > 1:
        raise DataError(f"{path}: expected an id of its own in each row, found {most!r} {times} times; leave the ids out.")
    return rows

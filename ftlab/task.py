"""A task folder: schema, prompts, rules and rows, read with every fault reported by file and line.

A folder needs `schema.json` and `train.jsonl`. The rest is used if there and derived if not:

    validation.jsonl, test.jsonl   cut from train.jsonl by a hash of each input (15 % each, the same on every machine)
    prompt_long.txt                 derived from the schema          prompt_short.txt   "Answer with one JSON object (title)."
    rules.json                      {"rules": [...], "fields": [...], "key_order": [...], "confidence_field": key}; rules: see `checks`
    test.sha256                     the pinned hash of test.jsonl; a test set that differs from it is refused
    adapter/                        the shipped adapter of the task
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab.checks import Checker, Problem, normalize, values_at
from ftlab.errors import DataError, UsageError

SPLITS = ("train", "validation", "test")
_HERE = Path(__file__).resolve().parent
DATA = next((d for d in (_HERE / "data", _HERE.parent / "data") if d.is_dir()), _HERE.parent / "data")


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


@dataclass(frozen=True)
class Task:
    """A task folder in memory. `load_task` makes one."""

    name: str
    folder: Path
    schema: dict
    rules: tuple[dict, ...]
    fields: tuple[str, ...]
    key_order: tuple[str, ...]
    prompt_short: str
    prompt_long: str
    splits: dict[str, tuple[Row, ...]]
    confidence_field: str | None = None  # where an answer states how likely it is right, 0 to 1
    derived: tuple[str, ...] = ()  # what was not in the folder and was made up from the rest

    def rows(self, split: str) -> tuple[Row, ...]:
        if split not in self.splits:
            raise UsageError(f"--split {split}: expected one of {', '.join(SPLITS)}.")
        return self.splits[split]

    @cached_property
    def checker(self) -> Checker:
        return Checker(self.schema, self.rules, self.fields)

    @cached_property
    def class_field(self) -> str | None:
        """The first top-level property with a fixed set of values: what a classifier predicts and tables are grouped by."""
        return next((key for key, spec in _properties(self.schema).items() if "enum" in spec), None)

    def completion(self, row: Row) -> str:
        """The answer as the model is to write it: JSON on one line, keys in the task's order."""
        return dump_output(row.output, self.key_order)

    def free_text(self, row: Row) -> str:
        """The end of `completion` that holds the last key's value and the closing brace, if that value is a text which no field
        check compares; else "". It is the part of an answer that has many right wordings."""
        key = next(reversed(json.loads(self.completion(row))), None)  # None: a schema may allow {}
        if not isinstance(row.output.get(key), str) or key in self.fields:
            return ""
        return self.completion(row).rpartition(json.dumps(key) + ":")[2]

    def system(self, prompt: str, examples: Sequence[Row] = ()) -> str:
        """The system message for `prompt` "short" or "long", with worked examples appended if given."""
        text = {"short": self.prompt_short, "long": self.prompt_long}[prompt]
        shots = [f"Message: {row.text}\nAnswer: {self.completion(row)}" for row in examples]
        return "\n\n".join([text, *shots])

    def conversation(self, row: Row, prompt: str = "short", examples: Sequence[Row] = ()) -> list[dict]:
        """The chat messages up to the answer: the one rendering that training and generation share."""
        return [{"role": "system", "content": self.system(prompt, examples)}, *row.messages]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what the scores depend on: schema, rules, prompts and each split's rows."""
        parts = {
            "schema": json.dumps(self.schema, sort_keys=True),
            "rules": json.dumps(self.rules, sort_keys=True),
            "prompt_short": self.prompt_short,
            "prompt_long": self.prompt_long,
        }
        for split, rows in self.splits.items():
            parts[split] = json.dumps([[row.id, row.input, row.output] for row in rows], ensure_ascii=False, sort_keys=True)
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}


def dump_output(output: dict, key_order: Sequence[str] = ()) -> str:
    """`output` as one line of JSON with the keys of `key_order` first, in that order."""
    ordered = {key: output[key] for key in [*key_order, *output] if key in output}
    return json.dumps(ordered, ensure_ascii=False)


def builtin_tasks() -> list[str]:
    return sorted(p.parent.name for p in DATA.glob("*/schema.json"))


def task_folder(task: str | Path) -> Path:
    """The folder of a built-in task's name or of a path.

    Raises:
        UsageError: neither; names what there is.
    """
    for folder in (DATA / str(task), Path(task)):
        if (folder / "schema.json").is_file():
            return folder
    hint = f"the folder {task} has no schema.json" if Path(task).is_dir() else f"found no folder {str(task)!r}"
    raise UsageError(f"--task: expected a built-in task ({', '.join(builtin_tasks())}) or a folder with schema.json; {hint}.")


def load_task(task: str | Path, broken: list[str] | None = None) -> Task:
    """Read a task by built-in name or folder and check all of it.

    Args:
        broken: if given, broken rows are left out of the task and told here, as "file:line: reason", instead of raised.

    Raises:
        UsageError: there is no such task.
        DataError: anything in the folder is broken; `problems` lists every broken row as "file:line: reason".
    """
    folder = task_folder(task)
    schema = _read_json(folder / "schema.json")
    declared = _read_rules(folder / "rules.json") if (folder / "rules.json").exists() else {}
    derived = [] if declared else ["rules"]
    if not (folder / "train.jsonl").is_file():
        raise DataError(f"{folder.name}: expected train.jsonl beside schema.json, found none; add labelled rows.")
    checker = Checker(schema, declared.get("rules", ()), declared.get("fields", ()))
    splits, problems = {}, []
    for split in SPLITS:
        if (folder / f"{split}.jsonl").exists():
            splits[split], faults = read_rows(folder / f"{split}.jsonl", checker=checker, labelled=True)
            problems += faults
    problems += _across_splits(splits)
    if broken is not None:
        broken += problems
    elif problems:
        raise DataError(f"{folder.name}: {len(problems)} broken row(s); mend each of these and run again:", problems)
    check_frozen(folder / "test.jsonl")
    splits, cut = _cut_missing(splits)
    prompts = {}
    for prompt, default in (("short", derive_short_prompt(schema)), ("long", derive_long_prompt(schema))):
        path = folder / f"prompt_{prompt}.txt"
        prompts[prompt] = _read_text(path).strip() if path.exists() else default
        derived += [] if path.exists() else [f"prompt_{prompt}"]
    return Task(
        name=folder.resolve().name,
        folder=folder,
        schema=schema,
        rules=tuple(declared.get("rules", ())),
        fields=tuple(declared.get("fields") or derive_fields(schema, splits["train"])),
        key_order=tuple(declared.get("key_order", ())),
        prompt_short=prompts["short"],
        prompt_long=prompts["long"],
        splits={split: tuple(splits[split]) for split in SPLITS},
        confidence_field=declared.get("confidence_field"),
        derived=tuple(derived + cut),
    )


def read_rows(path: Path, checker: Checker | None = None, labelled: bool = False) -> tuple[list[Row], list[str]]:
    """All good rows of a JSONL file and one line per broken one; blank lines do not count.

    Args:
        path: one JSON object a line with "id" and "input" and, if `labelled`, "output".
        checker: labelled outputs must be clean by it.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSONL file of rows, found no file.") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(f"{path}: expected a UTF-8 text file, found {error.__class__.__name__}; save it as UTF-8 JSONL.") from None
    rows, problems, seen = [], [], {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = _row(line, where, labelled)
            if row.id in seen:
                raise ValueError(f"the id {row.id!r} was used before, at {seen[row.id]}; give each row its own")
            seen[row.id] = where
            _check_label(row, checker)
            rows.append(row)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if not rows and not problems:
        raise DataError(f"{path}: expected at least one row, found an empty file.")
    return rows, problems


def whole_rows(path: Path, checker: Checker | None = None, labelled: bool = False) -> list[Row]:
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
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    records = [json.loads(line) for line in lines] if not problems else []
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


def _across_splits(splits: dict[str, list[Row]]) -> list[str]:
    """Rows of a later split whose input, as written, also stands in an earlier one; ids used in two splits."""
    problems, inputs, ids = [], {}, {}
    for split in ("train", "validation", "test"):
        for row in splits.get(split, ()):
            key = normalize(row.text)
            if key in inputs and inputs[key][0] != split:
                problems.append(f"{row.where}: its input is also a {inputs[key][0]} row ({inputs[key][1]}); keep it in one split")
            if row.id in ids and ids[row.id][0] != split:
                problems.append(f"{row.where}: its id {row.id!r} is also used at {ids[row.id][1]}; give each row its own")
            inputs.setdefault(key, (split, row.where))
            ids.setdefault(row.id, (split, row.where))
    return problems


def check_frozen(path: Path) -> None:
    """Compare a test set with the hash that stands beside it (NAME.sha256), if one does.

    Raises:
        DataError: it has changed.
    """
    pin = path.with_suffix(".sha256")
    if not pin.exists():
        return
    expected, found = (_read_text(pin).split() or [""])[0], file_sha256(path) if path.exists() else "no file"
    if expected != found:
        raise DataError(
            f"{path.name}: the frozen test set has changed (expected SHA-256 {expected[:12]}…, found {found[:12]}…); restore it, "
            f"or, if you mean it, write the new hash into {pin.name} and compare with no earlier result."
        )


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _cut_missing(splits: dict[str, list[Row]], share: float = 0.15) -> tuple[dict[str, list[Row]], list[str]]:
    """Cut the missing splits out of the training rows by a hash of the input, so that a row never wanders when others are added."""
    missing = [split for split in SPLITS[1:] if split not in splits]
    if not missing:
        return splits, []
    bins: dict[str, list[Row]] = {split: [] for split in ("train", *missing)}
    for row in splits["train"]:
        place = int(hashlib.sha256(normalize(row.text).encode()).hexdigest()[:8], 16) / 16**8  # in [0, 1)
        index = int(place / share)
        bins[missing[index] if index < len(missing) else "train"].append(row)
    if empty := [split for split, rows in bins.items() if not rows]:
        n = len(splits["train"])
        raise DataError(f"train.jsonl: {n} row(s) are too few to cut {' and '.join(empty)} from; write more, or add those files.")
    return {**splits, **bins}, [f"{split}.jsonl" for split in missing]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: expected a UTF-8 text file, found byte {error.start} to be none; save it as UTF-8."
        ) from None


def _read_rules(path: Path) -> dict:
    declared = _read_json(path)
    for key, items in (("rules", dict), ("fields", str), ("key_order", str)):
        value = declared.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, items) for item in value):
            kind = "objects" if items is dict else "strings"
            raise DataError(f"{path.name}: expected {key!r} to be a list of {kind}, found {str(value)[:60]!r}.")
    if not isinstance(declared.get("confidence_field"), str | None):
        raise DataError(
            f"{path.name}: expected 'confidence_field' to be a key of the answer, found {declared['confidence_field']!r}."
        )
    if "include" in declared:
        declared["rules"] = [*declared.get("rules", []), *_included(declared["include"], path)]
    return declared


def _included(spec: Any, path: Path) -> list[dict]:
    """Rules of a built-in task that another uses too: those with one of `codes`, to be looked for at `path`."""
    parts = {"task": str, "codes": list, "path": str}
    if not isinstance(spec, dict) or any(not isinstance(spec.get(key), kind) for key, kind in parts.items()):
        raise DataError(f'{path.name}: expected \'include\' to be {{"task", "codes": [...], "path"}}, found {str(spec)[:60]!r}.')
    if spec["task"] not in builtin_tasks():
        raise DataError(f"{path.name}: include names the task {spec['task']!r}; expected one of {', '.join(builtin_tasks())}.")
    rules = _read_rules(DATA / spec["task"] / "rules.json").get("rules", [])
    if unknown := sorted(set(spec["codes"]) - {rule.get("code") for rule in rules}):
        raise DataError(f"{path.name}: include asks for the codes {', '.join(unknown)}, which no rule of {spec['task']} has.")
    return [rule | {"path": spec["path"]} for rule in rules if rule["code"] in spec["codes"]]


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{path.name}:{line}: expected JSON, found a fault: {error}.") from None
    if not isinstance(value, dict):
        raise DataError(f"{path.name}:1: expected a JSON object, found a {type(value).__name__}.")
    return value


def _properties(schema: dict) -> dict[str, dict]:
    """The schema's properties; `true`, which allows anything, counts as {}."""
    return {key: spec if isinstance(spec, dict) else {} for key, spec in schema.get("properties", {}).items()}


def derive_short_prompt(schema: dict) -> str:
    return f"Answer with one JSON object ({schema.get('title', 'as agreed')})."


def derive_long_prompt(schema: dict) -> str:
    """Instructions made from the schema: each key with its description, type and values, and the schema itself."""
    lines = ["Read the message and answer with exactly one JSON object and nothing else.", schema.get("description", "")]
    for key, spec in _properties(schema).items():
        allowed = f" One of: {', '.join(map(str, spec['enum']))}." if "enum" in spec else ""
        lines.append(f'"{key}" ({spec.get("type", "value")}): {spec.get("description", "")}{allowed}')
    lines.append(f"Required keys: {', '.join(schema.get('required', []))}.")
    return "\n".join(line for line in lines if line)


def derive_fields(schema: dict, rows: Sequence[Row], least: float = 0.95) -> list[str]:
    """Properties that can be compared letter for letter: fixed sets, numbers, booleans, and texts that the rows copy from the input."""
    fields = []
    for key, spec in _properties(schema).items():
        closed = "enum" in spec or "const" in spec or spec.get("type") in ("boolean", "integer", "number")
        path = f"{key}.*" if spec.get("type") == "object" else key
        texts = [(v, row.text) for row in rows if row.output for _, v in values_at(row.output, path) if isinstance(v, str)]
        copied = bool(texts) and sum(normalize(v) in normalize(text) for v, text in texts) >= least * len(texts)
        if closed or copied:
            fields.append(path)
    return fields


def stratified(rows: Sequence[Row], n: int, key: str | None) -> list[Row]:
    """About n rows with each value of the output's `key` in its share, spread evenly over the file; all of them if n is not less.

    Deterministic: no seed, the same rows on every machine.
    """
    if n >= len(rows):
        return list(rows)
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.output.get(key)) if key and row.output else "", []).append(row)
    wanted = Counter({name: n * len(group) / len(rows) for name, group in groups.items()})
    taken = {name: int(count) for name, count in wanted.items()}
    for name, _ in sorted(wanted.items(), key=lambda item: (item[1] % 1, item[0]), reverse=True)[: n - sum(taken.values())]:
        taken[name] += 1
    chosen = {group[int(i * len(group) / taken[name])].id for name, group in groups.items() for i in range(taken[name])}
    return [row for row in rows if row.id in chosen]

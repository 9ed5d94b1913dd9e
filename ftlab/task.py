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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlab.checks import Checker, normalize, values_at
from ftlab.errors import DataError, UsageError
from ftlab.rows import Row, RowFile, pick, read_rows

SPLITS = ("train", "validation", "test")
_HERE = Path(__file__).resolve().parent
DATA = next((d for d in (_HERE / "data", _HERE.parent / "data") if d.is_dir()), _HERE.parent / "data")


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
    splits: dict[str, Sequence[Row]]  # tuples, or `RowFile` where a file is large
    confidence_field: str | None = None  # where an answer states how likely it is right, 0 to 1
    derived: tuple[str, ...] = ()  # what was not in the folder and was made up from the rest

    def rows(self, split: str) -> Sequence[Row]:
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
        found = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}
        return found | {split: _rows_sha256(rows) for split, rows in self.splits.items()}


def _rows_sha256(rows: Sequence[Row]) -> str:
    """The hash of [[id, input, output], …] as one JSON text, which is never held as a whole."""
    digest = hashlib.sha256(b"[")
    for i, row in enumerate(rows):
        text = json.dumps([row.id, row.input, row.output], ensure_ascii=False, sort_keys=True)
        digest.update(f"{', ' if i else ''}{text}".encode())
    digest.update(b"]")
    return digest.hexdigest()


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
        splits={split: rows if isinstance(rows := splits[split], RowFile) else tuple(rows) for split in SPLITS},
        confidence_field=declared.get("confidence_field"),
        derived=tuple(derived + cut),
    )


def _across_splits(splits: dict[str, Sequence[Row]]) -> list[str]:
    """Rows of a later split whose input, as written, also stands in an earlier one; ids used in two splits."""
    problems: list[str] = []
    earlier: list[
        tuple[str, dict[int, int], dict[int, int]]
    ] = []  # split, hash of each input -> its row, hash of each id -> its row
    for split in (split for split in SPLITS if split in splits):
        texts: dict[int, int] = {}
        ids: dict[int, int] = {}
        for i, row in enumerate(splits[split]):
            text, name = hash(normalize(row.text)), hash(row.id)
            if found := next(((other, splits[other][known[text]]) for other, known, _ in earlier if text in known), None):
                problems.append(f"{row.where}: its input is also a {found[0]} row ({found[1].where}); keep it in one split")
            if found := next(((other, splits[other][known[name]]) for other, _, known in earlier if name in known), None):
                problems.append(f"{row.where}: its id {row.id!r} is also used at {found[1].where}; give each row its own")
            texts.setdefault(text, i)
            ids.setdefault(name, i)
        earlier.append((split, texts, ids))
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


def _cut_missing(splits: dict[str, Sequence[Row]], share: float = 0.15) -> tuple[dict[str, Sequence[Row]], list[str]]:
    """Cut the missing splits out of the training rows by a hash of the input, so that a row never wanders when others are added."""
    missing = [split for split in SPLITS[1:] if split not in splits]
    if not missing:
        return splits, []
    bins: dict[str, list[int]] = {split: [] for split in ("train", *missing)}
    for i, row in enumerate(splits["train"]):
        place = int(hashlib.sha256(normalize(row.text).encode()).hexdigest()[:8], 16) / 16**8  # in [0, 1)
        index = int(place / share)
        bins[missing[index] if index < len(missing) else "train"].append(i)
    if empty := [split for split, rows in bins.items() if not rows]:
        n = len(splits["train"])
        raise DataError(f"train.jsonl: {n} row(s) are too few to cut {' and '.join(empty)} from; write more, or add those files.")
    cut = {split: pick(splits["train"], indexes) for split, indexes in bins.items()}
    return {**splits, **cut}, [f"{split}.jsonl" for split in missing]


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
        if closed or _copied(rows, path, least):
            fields.append(path)
    return fields


def _copied(rows: Sequence[Row], path: str, least: float) -> bool:
    """Whether the texts at `path` of the rows' answers stand in the messages, all but a share of 1 - `least`; False without any."""
    texts = copied = 0
    for row in rows:
        for _, value in values_at(row.output or {}, path):
            if isinstance(value, str):
                texts += 1
                copied += normalize(value) in normalize(row.text)
    return texts > 0 and copied >= least * texts


def stratified(rows: Sequence[Row], n: int, key: str | None) -> Sequence[Row]:
    """About n rows with each value of the output's `key` in its share, spread evenly over the file; all of them if n is not less.

    Deterministic: no seed, the same rows on every machine.
    """
    if n >= len(rows):
        return pick(rows, range(len(rows)))
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(str(row.output.get(key)) if key and row.output else "", []).append(i)
    wanted = Counter({name: n * len(group) / len(rows) for name, group in groups.items()})
    taken = {name: int(count) for name, count in wanted.items()}
    for name, _ in sorted(wanted.items(), key=lambda item: (item[1] % 1, item[0]), reverse=True)[: n - sum(taken.values())]:
        taken[name] += 1
    return pick(
        rows, sorted(group[int(j * len(group) / taken[name])] for name, group in groups.items() for j in range(taken[name]))
    )

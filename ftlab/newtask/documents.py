"""The two documents of a task folder, begun: what the rows tell is filled in, and what only a person knows is marked (write)."""

import json
from collections import Counter
from collections.abc import Sequence

from ftlab.newtask.derive import Derived
from ftlab.rows import Row

_DECIDES = {
    "copied_from_input": "copy check", "known_values": "check of numbers and addresses", "sentence_count": "count of sentences",
}  # fmt: skip


def specification(found: Derived, example: Row) -> str:
    """specification.md: the answer, its keys and what decides each, a table for each closed set, and the questions that are left."""
    properties = found.schema["properties"]
    closed = [key for key, spec in properties.items() if "enum" in spec]
    free = [key for key in properties if not {key, f"{key}.*"} & set(found.fields)]
    keys = "\n".join(
        f"| `{key}` | (write) | {'yes' if key in found.schema['required'] else 'no'} | {_decided(found, key)} |"
        for key in properties
    )
    sets = "\n\n".join(
        f"## `{key}`: which value when\n\n| value | take it when the message … |\n|---|---|\n{_values(properties[key])}"
        for key in closed
    )
    left = "\n".join(f"- {said}" for said in found.left) or "- nothing that the rows show"
    return f"""# {found.schema["title"]}: behaviour specification and labelling guide

Version 1. (write: who sends these messages, what acts on the answers, and what a wrong answer costs)

## The answer

One JSON object and nothing else. To the message "{" ".join(example.text.split())}":

```json
{json.dumps(example.output, ensure_ascii=False)}
```

| key | what it holds | always there | decided by |
|---|---|---|---|
{keys}

{sets}

## Hard cases, decided

(write: each case on which two careful labellers differed, with the decision)

## What only people can judge

(write: what no check above sees, for example the wording of {", ".join(f"`{key}`" for key in free) or "nothing: there is no free text"})

## Left open when the folder was made

{left}
"""


def _decided(found: Derived, key: str) -> str:
    spec = found.schema["properties"][key]
    own = [_DECIDES[rule["rule"]] for rule in found.rules if rule["path"] in (key, f"{key}.*")]
    compared = ["comparison with the label"] if {key, f"{key}.*"} & set(found.fields) else []
    return ", ".join(["schema (closed set)" if "enum" in spec else "schema (type)", *own, *compared])


def _values(spec: dict) -> str:
    return "\n".join(f"| `{value}` | (write) |" for value in spec["enum"])


def data_card(found: Derived, splits: dict[str, Sequence[Row]], sha256: str) -> str:
    """DATA_CARD.md: how many rows of each class are where, how they were cut, and what has to be said about where they come from."""
    key = found.class_field
    counts = {split: Counter(str(row.output.get(key)) for row in rows) for split, rows in splits.items()} if key else {}
    names = sorted({name for count in counts.values() for name in count})
    head = f"| {key or 'rows'} | {' | '.join(splits)} |\n|---|{'---|' * len(splits)}"
    lines = [f"| {name} | {' | '.join(str(counts[split][name]) for split in splits)} |" for name in names]
    lines.append(f"| all | {' | '.join(str(len(rows)) for rows in splits.values())} |")
    table = "\n".join(lines)
    return f"""# Data card: {found.schema["title"]}

**What it is.** (write: messages of whom, answers for what)

**Where the rows come from.** (write: who wrote or collected them, when, and whether they may be trained on)

**How they were labelled.** (write: by whom, by which guide; how far a second labeller agreed)

**Personal data.** (write: what was looked for and taken out; `ftlab data check` lists what looks like some)

**Licence.** (write)

**How they were cut.** The same share of each class for validation and for the test, in the order of a hash of the text; rows of one text
stay together. The test rows are frozen: SHA-256 `{sha256}`.

{head}
{table}

**What they cannot show.** (write: who does not write like this, which cases are missing)
"""

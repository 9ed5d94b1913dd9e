"""`ftlab data feedback`: what a tuned model still gets wrong on validation rows, and what rows could teach it.

Failures are grouped by first cause and by what went wrong where. For each group the traits that its rows share are named, and how many
training rows have them; a file with an empty row for each wanted one waits for a person to write them. Nothing is written by machine.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftlab.checks import CAUSE_ORDER, LABEL_OF_RUNG
from ftlab.datatools.coverage import length_bin
from ftlab.errors import DataError
from ftlab.rows import Row
from ftlab.task import Task

A_FAILURE = 10  # rows proposed for each failure
MOST = 40  # rows proposed for one group
_LIFT = 1.5  # a trait is named if it is this much more frequent among the failures than among all evaluated rows


@dataclass(frozen=True)
class Cluster:
    """Failures of one kind.

    Attributes:
        cause: first cause.
        what: what went wrong, in words.
        ids: the failing rows.
        traits: what they share more than chance would have it, "axis: value" → (share among them, share among all evaluated rows).
        trained: training rows with the wanted class and all traits.
        wanted: how many new rows are proposed.
    """

    cause: str
    what: str
    ids: tuple[str, ...]
    expected: str | None
    traits: dict[str, tuple[float, float]]
    trained: int
    wanted: int


def clusters(task: Task, rows: Sequence[Row], records: Sequence[dict]) -> list[Cluster]:
    """Failing rows by cause and kind, the largest group first.

    Args:
        rows: the labelled rows that were evaluated.
        records: per row what `evaluate_outputs` says of it, in the same order.

    Raises:
        DataError: rows and records are not about the same rows.
    """
    if [row.id for row in rows] != [record["id"] for record in records]:
        raise DataError("feedback: expected an evaluation of this task's validation rows in their order; evaluate them again.")
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for row, record in zip(rows, records, strict=True):
        if record["first_cause"]:
            groups.setdefault((record["first_cause"], *_what(task, row, record)), []).append(row)
    everywhere = [traits(row) for row in rows]
    trained = [(str(row.output.get(task.class_field)), traits(row)) for row in task.rows("train")]
    found = []
    for (cause, what, expected), failing in groups.items():
        shared = _shared([traits(row) for row in failing], everywhere)
        n = sum((expected in (None, label)) and set(shared) <= own for label, own in trained)
        ids = tuple(row.id for row in failing)
        found.append(Cluster(cause, what, ids, expected, shared, n, min(MOST, A_FAILURE * len(ids))))
    return sorted(found, key=lambda c: (-len(c.ids), CAUSE_ORDER.index(c.cause), c.what))


def _what(task: Task, row: Row, record: dict) -> tuple[str, str | None]:
    """(what went wrong, the class that new rows should have or None for any): the class if it is wrong, else the first error of the first
    cause."""
    errors, cause = record["errors"], record["first_cause"]
    wrong_class = next((e for e in errors if e["path"] == task.class_field and e["code"] == "wrong_value"), None)
    if cause in ("knowledge", "safety") and wrong_class:
        return f"{task.class_field}: {wrong_class['message']}", str(row.output[task.class_field])
    first = next(e for e in errors if LABEL_OF_RUNG[e["rung"]] == cause)
    return f"{first['path'] or 'the whole answer'}: {first['code'].replace('_', ' ')}", None


def traits(row: Row) -> set[str]:
    """What kind of row it is: its tags, language and length, each as "axis: value"."""
    return {f"tag: {tag}" for tag in row.tags} | {f"language: {row.lang or 'unknown'}", f"words: {length_bin(row.text)}"}


def _shared(failing: Sequence[set[str]], everywhere: Sequence[set[str]]) -> dict[str, tuple[float, float]]:
    """The traits that half or more of the failures have, at least two of them, and clearly more often than all rows; three at most."""
    counts, base = Counter(t for own in failing for t in own), Counter(t for own in everywhere for t in own)
    shares = {t: (n / len(failing), base[t] / len(everywhere)) for t, n in counts.items() if n >= 2 and 2 * n >= len(failing)}
    lifted = {t: s for t, s in shares.items() if s[0] >= _LIFT * s[1]}
    return dict(sorted(lifted.items(), key=lambda item: (-item[1][0] / item[1][1], item[0]))[:3])


def blanks(task: Task, found: Sequence[Cluster]) -> list[dict]:
    """One unfinished row for each that is proposed: a person writes its message, answer and tags. The loader refuses it before."""
    rows = []
    for number, cluster in enumerate(found, 1):
        tags = [t.removeprefix("tag: ") for t in cluster.traits if t.startswith("tag: ")]
        lang = next((t.removeprefix("language: ") for t in cluster.traits if t.startswith("language: ")), "")
        answer = {task.class_field: cluster.expected} if cluster.expected else {}
        rows += [
            {"id": f"fb-{number}-{i}", "input": "", "output": answer, "tags": tags, "lang": lang, "todo": _todo(cluster)}
            for i in range(1, cluster.wanted + 1)
        ]
    return rows


def _todo(cluster: Cluster) -> str:
    kind = f" like those that are {', '.join(cluster.traits)}" if cluster.traits else ""
    return f"Write a message{kind} that the model may get wrong in this way: {cluster.what}. Label it by the guide; then delete this key."


def feedback_text(found: Sequence[Cluster], rows: Sequence[Row], shown: int = 3) -> str:
    """The groups to read, each with its first messages."""
    texts = {row.id: " ".join(row.text.split()) for row in rows}
    failures = sum(len(cluster.ids) for cluster in found)
    lines = [f"{failures} of {len(rows)} validation rows fail, in {len(found)} kinds"]
    for number, c in enumerate(found, 1):
        lines.append(f"{number:>3}. {len(c.ids)} × {c.cause}: {c.what}")
        if c.traits:
            told = "; ".join(f"{name} {100 * a:.0f} % (all rows {100 * b:.0f} %)" for name, (a, b) in c.traits.items())
            lines.append(f"       they share: {told}")
        lines.append(f"       training rows of this kind: {c.trained}; proposed: {c.wanted} more")
        lines += [f"       {i}: {texts[i][:100]}{'…' if len(texts[i]) > 100 else ''}" for i in c.ids[:shown]]
    return "\n".join(lines)


def as_dict(found: Sequence[Cluster], rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that was found, for a file."""
    return {"rows": len(rows), "failures": sum(len(c.ids) for c in found), "clusters": [asdict(c) for c in found]}

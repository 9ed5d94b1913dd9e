"""Labels given by a person who reads a run's answers, kept as lines of JSON; what they say of the checker's verdicts.

A label names the gravest thing wrong with one answer, in the words of the taxonomy. It is about that very answer: if a later run answers
the row otherwise, the label is not taken over. A session is a value: each key gives a new one, and nothing is lost by a crash but the
last key.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ftlab.artifact import write_lines
from ftlab.checks import CAUSE_ORDER, LABELS
from ftlab.errors import DataError, UsageError
from ftlab.rows import Row
from ftlab.stats import cohen_kappa, share

PASS, UNSURE = "pass", "unsure"
CHOICES = {"p": PASS, "f": "format", "i": "instruction", "k": "knowledge", "s": "safety", "u": UNSURE}  # key → label
MOVES = {"n": "next", "b": "back", "x": "take the label away"}
ALL, FAILING = "all", "failing"
CAUSES = (ALL, FAILING, *CAUSE_ORDER, PASS)


@dataclass(frozen=True)
class Case:
    """One answer to be judged, with what the checker says of it.

    Attributes:
        cause: the checker's first cause, or "pass".
        errors: what `evaluate.check_record` says is wrong.
    """

    id: str
    message: str
    output: str
    expected: dict | None
    cause: str
    errors: tuple[dict, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.output.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Label:
    """A person's verdict on one answer.

    Attributes:
        saw_checks: whether the checker's verdict was shown before the label was given: then it is no independent one.
    """

    id: str
    label: str
    rater: str
    output_sha256: str
    checker: str
    saw_checks: bool = False
    note: str = ""


def cases_of(rows: Sequence[Row], records: Sequence[dict]) -> list[Case]:
    """The answers of a run, one per record.

    Args:
        rows: the rows of the task that the run was about, or more of them.
        records: "rows" of `evaluate_outputs`, or those of a stored run.

    Raises:
        DataError: no records, or records of rows that are not there.
    """
    by_id = {row.id: row for row in rows}
    missing = [record["id"] for record in records if record["id"] not in by_id]
    if missing or not records:
        found = f"{len(missing)} of {len(records)} records of other rows, the first {missing[0]}" if missing else "no records"
        raise DataError(f"expected records of a run on the rows given, found {found}; give the rows that the run was about.")
    return [
        Case(r["id"], by_id[r["id"]].text, r["output"], by_id[r["id"]].output, r["first_cause"] or PASS, tuple(r["errors"]))
        for r in records
    ]


def chosen(cases: Iterable[Case], cause: str = ALL, code: str = ALL) -> list[Case]:
    """The cases of one first cause ("failing": of any) in which the checker found a fault of one code.

    Raises:
        UsageError: an unknown cause.
    """
    if cause not in CAUSES:
        raise UsageError(f"cause: expected one of {', '.join(CAUSES)}, found {cause!r}.")
    return [c for c in cases if _has(c, cause) and (code == ALL or any(e["code"] == code for e in c.errors))]


def _has(case: Case, cause: str) -> bool:
    return cause == ALL or case.cause == cause or (cause == FAILING and case.cause != PASS)


def codes_of(cases: Iterable[Case]) -> dict[str, int]:
    """How many cases have each code of fault, the most frequent first."""
    return dict(Counter(code for c in cases for code in sorted({e["code"] for e in c.errors})).most_common())


@dataclass(frozen=True)
class Session:
    """A reader among cases: where they are, and what they have said.

    Attributes:
        labels: row id → label, of this rater.
        shown: ids of the cases whose verdict by the checker has been shown.
    """

    cases: tuple[Case, ...]
    rater: str
    at: int = 0
    labels: Mapping[str, Label] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()

    @property
    def case(self) -> Case | None:
        return self.cases[self.at] if self.cases else None

    @property
    def label(self) -> Label | None:
        return self.labels.get(self.case.id) if self.case else None

    def press(self, key: str, note: str = "") -> "Session":
        """The session after a key: one of `CHOICES` labels the case and goes on, one of `MOVES` does as it says.

        Raises:
            UsageError: another key.
        """
        key = key.strip().lower()
        if key not in CHOICES and key not in MOVES:
            known = ", ".join(f"{k} ({what})" for k, what in (CHOICES | MOVES).items())
            raise UsageError(f"key: expected one of {known}, found {key!r}.")
        if self.case is None:
            return self
        if key in CHOICES:
            case = self.case
            said = Label(case.id, CHOICES[key], self.rater, case.sha256, case.cause, case.id in self.shown, note.strip())
            return replace(self, labels={**self.labels, case.id: said}).move(1)
        if key == "x":
            return replace(self, labels={at: label for at, label in self.labels.items() if at != self.case.id})
        return self.move(1 if key == "n" else -1)

    def move(self, steps: int) -> "Session":
        """Some cases on, or back; it stops at both ends."""
        return replace(self, at=max(0, min(len(self.cases) - 1, self.at + steps)))

    def reveal(self) -> "Session":
        """The checker's verdict on this case has been shown."""
        return replace(self, shown=self.shown | {self.case.id}) if self.case else self

    def over(self, cases: Sequence[Case]) -> "Session":
        """The same reader before other cases, at the first that has no label."""
        first = next((i for i, case in enumerate(cases) if case.id not in self.labels), 0)
        return replace(self, cases=tuple(cases), at=first)


def read_labels(path: Path) -> list[Label]:
    """The labels in a file, of all raters; [] if there is none yet.

    Raises:
        DataError: the file cannot be read, or lines of it are no labels, all of them named.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: expected a file of labels, found {type(error).__name__}; choose another file.") from None
    labels, problems = [], []
    for at, line in enumerate(lines, 1):
        try:
            label = Label(**json.loads(line))
            good = label.label in CHOICES.values()
        except (ValueError, TypeError):
            good = False
        labels += [label] if good else []
        problems += [] if good else [f"{path.name}:{at}: expected one label as a JSON object, found {line[:60]!r}"]
    if problems:
        raise DataError(f"{path.name}: {len(problems)} line(s) are no labels; mend them or choose another file:", problems)
    return labels


def labels_for(cases: Sequence[Case], labels: Iterable[Label], rater: str) -> tuple[dict[str, Label], int]:
    """(row id → this rater's label of exactly that answer, how many of their labels are about other answers of these rows)."""
    hashes = {case.id: case.sha256 for case in cases}
    own = [label for label in labels if label.rater == rater and label.id in hashes]
    fitting = {label.id: label for label in own if label.output_sha256 == hashes[label.id]}
    return fitting, sum(label.output_sha256 != hashes[label.id] for label in own)


def keep_label(path: Path, case: Case, label: Label | None, rater: str) -> None:
    """Write a rater's label of a case in the place of theirs before, or take that away, in one step. All other lines stay.

    Raises:
        DataError: see `read_labels`; or the file cannot be written.
    """
    before = (rater, case.id, case.sha256)
    others = [each for each in read_labels(path) if (each.rater, each.id, each.output_sha256) != before]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, [asdict(each) for each in [*others, *([label] if label else [])]])
    except OSError as error:
        raise DataError(f"{path.name}: the labels could not be written ({error.strerror}); choose another file.") from None


def progress(cases: Sequence[Case], labels: Mapping[str, Label]) -> dict:
    """How far a review has come, and how far a person and the checker say the same.

    Returns:
        {"cases", "labelled", "unsure", "by_cause": {checker's first cause: {label or "": cases}}, "blind": labels given before the
        checker's verdict was shown, the unsure left out, "agreement"?: on those, {"same": Share, "kappa"}}. For two people on the same
        answers there is `review.agreement`.
    """
    counts: dict[str, Counter] = {}
    for case in cases:
        counts.setdefault(case.cause, Counter())[labels[case.id].label if case.id in labels else ""] += 1
    given = [labels[case.id] for case in cases if case.id in labels]
    blind = [label for label in given if not label.saw_checks and label.label != UNSURE]
    found = {
        "cases": len(cases), "labelled": len(given), "unsure": sum(label.label == UNSURE for label in given),
        "by_cause": {cause: dict(counts[cause]) for cause in (PASS, *LABELS) if cause in counts}, "blind": len(blind),
    }  # fmt: skip
    if blind:
        said, checked = [label.label for label in blind], [label.checker for label in blind]
        same = share([a == b for a, b in zip(said, checked, strict=True)])
        found["agreement"] = {"same": same, "kappa": cohen_kappa(said, checked)}
    return found


def progress_text(found: dict) -> str:
    """`progress` in a sentence or two."""
    told = f"{found['labelled']} of {found['cases']} labelled"
    told += f", {found['unsure']} of them unsure" if found["unsure"] else ""
    if "agreement" not in found:
        return f"{told}."
    same, kappa = found["agreement"]["same"], found["agreement"]["kappa"]
    return (
        f"{told}. On {same.n} labelled without a look at the checker's verdict, you and the checker agree on {same.k} "
        f"({100 * same.share:.0f} %, 95 % interval {100 * same.low:.0f} to {100 * same.high:.0f} %; kappa {kappa:.2f})."
    )

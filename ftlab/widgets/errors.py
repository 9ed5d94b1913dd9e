"""The error explorer: a run's answers by kind of failure, and labels that a person gives them by click or by key."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ftlab.errors import UsageError
from ftlab.labelling import (
    ALL,
    CAUSES,
    CHOICES,
    MOVES,
    Session,
    cases_of,
    chosen,
    codes_of,
    keep_label,
    labels_for,
    progress,
    progress_text,
    read_labels,
)
from ftlab.ladder import climb, ladder_lines
from ftlab.rows import Row
from ftlab.widgets.parts import View, button, ipywidgets, side_by_side, text_box


def compared(before: Session, after: Session) -> str:
    """What a key did to the label of the case that it met, beside what the checker says of that case."""
    case, label = before.case, after.labels.get(before.case.id)
    return (
        f"Row {case.id}: you say {label.label}, the checker says {case.cause}." if label else f"Row {case.id}: no label any more."
    )


class ErrorExplorer(View):
    """A run's answers to read and to label.

    Args:
        rows: rows of the task that the run was about.
        records: what a run says of each answer: "rows" of `evaluate_outputs`, or of `course.stored_evaluations`.
        labels: file for the labels, a line of JSON each, made at the first label and written in one step at every one; None keeps
            nothing.
        rater: who labels; several people can share a file.
        cause: which answers are shown first: "all", "failing", a first cause, or "pass". Only among all are labels given without a look at
            the checker's verdict.

    Raises:
        DataError: records of other rows, or a file with something else than labels.
        UsageError: an unknown cause, or no name for the rater.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        records: Sequence[dict],
        labels: Path | str | None = None,
        *,
        rater: str = "reader",
        cause: str = ALL,
    ):
        super().__init__()
        if not rater.strip():
            raise UsageError("rater: expected a name to keep the labels under, found none.")
        self.cases = cases_of(rows, records)
        self.path = Path(labels) if labels is not None else None
        first = chosen(self.cases, cause)
        found, other = labels_for(self.cases, read_labels(self.path) if self.path else [], rater)
        self.session = Session((), rater, labels=found).over(first)
        self._build(cause)
        if other:
            self.say(f"{other} label(s) in {self.path.name} are about other answers to these rows; they are kept and not shown.")
        self._show()

    def _build(self, cause: str) -> None:
        style = {"description_width": "7em"}
        causes = [(f"{name} ({len(chosen(self.cases, name))})", name) for name in CAUSES]
        codes = [("any fault", ALL), *((f"{code} ({n})", code) for code, n in codes_of(self.cases).items())]
        self.cause = ipywidgets.Dropdown(options=causes, value=cause, description="First cause", style=style)
        self.code = ipywidgets.Dropdown(options=codes, description="Fault", style=style)
        self.verdict = ipywidgets.Checkbox(value=False, description="show the checker's verdict before I label", indent=False)
        self.place, self.message, self.output, self.expected, self.checker, self.summary = (ipywidgets.HTML() for _ in range(6))
        self.choices = {
            label: button(f"{label} ({key})", f"The gravest thing wrong: {label}", lambda key=key: self._press(key))
            for key, label in CHOICES.items()
        }
        self.moves = {
            move: button(f"{move} ({key})", f"{move}, key {key}", lambda key=key: self._press(key)) for key, move in MOVES.items()
        }
        self.key = ipywidgets.Text(description="Key", placeholder="put the cursor here and type", style=style)
        self.note = ipywidgets.Text(
            description="Note", placeholder="kept with the next label", style=style, layout={"width": "60%"}
        )
        for control in (self.cause, self.code):
            control.observe(lambda _: self._choose(), "value")
        self.verdict.observe(lambda _: self._show(), "value")
        self.key.observe(lambda change: self._typed(change["new"]), "value")
        self.box.children = (
            side_by_side(self.cause, self.code, self.verdict), self.place, self.message, self.output, self.expected,
            side_by_side(*self.choices.values()), side_by_side(*self.moves.values(), self.key), self.note, self.status,
            self.checker, self.summary,
        )  # fmt: skip

    def _choose(self) -> None:
        with self.telling():
            self.session = self.session.over(chosen(self.cases, self.cause.value, self.code.value))
        self._show()

    def _typed(self, keys: str) -> None:
        """Each letter typed is a key; the field is emptied, so that the next one can follow."""
        if not keys:
            return
        self.key.value = ""
        self._press(keys.strip())

    def _press(self, keys: str) -> None:
        with self.telling():
            for key in keys:
                self._step(key)
        self._show()

    def _step(self, key: str) -> None:
        before, after = self.session, self.session.press(key, self.note.value)
        changed = after.labels != before.labels
        if changed and self.path:
            keep_label(self.path, before.case, after.labels.get(before.case.id), after.rater)
        self.session = after  # only now: what could not be written is not shown as labelled
        if changed:
            self.note.value = ""
            self.say(compared(before, after))

    def _show(self) -> None:
        case, label = self.session.case, self.session.label
        for control in (*self.choices.values(), *self.moves.values()):
            control.disabled = case is None
        if case is None:
            self.place.value = text_box("answer", "", "none of this kind")
            self.message.value = self.output.value = self.expected.value = self.checker.value = ""
        else:
            # whoever chose by the checker's cause or fault knows its verdict
            open_now = self.verdict.value or label is not None or (self.cause.value, self.code.value) != (ALL, ALL)
            self.session = self.session.reveal() if open_now else self.session
            given = f"labelled {label.label}" + (f" ({label.note})" if label.note else "") if label else "not labelled"
            self.place.value = text_box("answer", f"{self.session.at + 1} of {len(self.session.cases)}, row {case.id}: {given}")
            self.message.value = text_box("message", case.message)
            self.output.value = text_box("the model's answer", case.output)
            expected = json.dumps(case.expected, ensure_ascii=False) if case.expected is not None else ""
            self.expected.value = text_box("labelled answer", expected, "this row has no label")
            lines = ladder_lines(climb(case.errors, case.expected is not None)) if open_now else []
            self.checker.value = text_box("the checker's verdict", "\n".join(lines), "shown when you have labelled")
        self.summary.value = text_box("so far", progress_text(self.progress()))

    def progress(self) -> dict:
        """How far the review of the answers of the chosen kind has come; see `labelling.progress`."""
        return progress(self.session.cases, self.session.labels)

    def text(self) -> str:
        """How many answers fail for which cause, how far the labels are, and the answer that is shown."""
        counts = [f"{name}: {n}" for name in CAUSES if name != ALL and (n := len(chosen(self.cases, name)))]
        lines = [f"{len(self.cases)} answers by first cause: {', '.join(counts)}", progress_text(self.progress())]
        if case := self.session.case:
            lines += [f"row {case.id}", f"message: {case.message}", f"answer: {case.output}"]
        return "\n".join(lines)

    def figure(self) -> Figure:
        from ftlab.plots import review_bars

        return review_bars(
            progress(self.cases, self.session.labels), "Answers by the checker's first cause and by a person's label"
        )

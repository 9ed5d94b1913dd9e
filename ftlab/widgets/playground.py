"""The playground: one message answered by the untuned and by the tuned model, and the strict ladder lit rung by rung on both answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from ftlab.artifact import shipped_adapter, swappable_lineage
from ftlab.checks import RUNGS
from ftlab.errors import UsageError
from ftlab.evaluate import check_record
from ftlab.ladder import ASKS, Step, climb, ladder_lines
from ftlab.models import LoadedModel
from ftlab.rows import Row
from ftlab.sidebyside import UNTUNED, compare
from ftlab.task import Task
from ftlab.widgets.parts import View, button, ipywidgets, side_by_side, text_box

TUNED = "tuned"
_OWN = "your own message"


def answered(task: Task, row: Row, comparison: dict) -> dict[str, tuple[str, list[Step]]]:
    """System → (its answer, the ladder of that answer), from a comparison of systems on this one row by `sidebyside.compare`.

    A row with a label has its answers held against it.
    """
    found = {}
    for name, system in comparison["systems"].items():
        output = system["answers"][0]["output"]
        check = task.checker.check(output, row.text, lang=row.lang, expected=row.output)
        found[name] = (output, climb(check_record(row.id, check)["errors"], row.output is not None))
    return found


class Playground(View):
    """Base against tuned, message by message.

    Args:
        loaded: the base model; the adapter is swapped in for its answer and taken off again.
        task: whose prompts, schema and rules hold.
        adapter: folder of the tuned model's adapter; without it the one that the task ships.
        rows: labelled rows to choose from; with a row's own message, the field rung is held against its label.
        message: what stands there at first.
        max_new_tokens: limit of an answer.

    Raises:
        UsageError: no adapter, or one that does not fit.
        DataError: a damaged adapter.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        task: Task,
        adapter: Path | None = None,
        *,
        rows: Sequence[Row] = (),
        message: str = "I can't get in.",
        max_new_tokens: int = 160,
    ):
        super().__init__()
        self.loaded, self.task, self.max_new_tokens = loaded, task, max_new_tokens
        self.adapter = shipped_adapter(task, adapter)
        swappable_lineage(loaded, self.adapter)  # a wrong one is told now, not at the first click
        self.rows = {row.id: row for row in rows}
        self.answers: dict[str, tuple[str, list[Step]]] = {}
        self.asked, self.lit = message, 0
        self._build(message)
        self._show()

    def _build(self, message: str) -> None:
        style = {"description_width": "6em"}
        self.row = ipywidgets.Dropdown(options=[_OWN, *self.rows], description="Row", style=style)
        self.message = ipywidgets.Textarea(value=message, description="Message", rows=3, layout={"width": "98%"}, style=style)
        self.answer = button("Answer", "Let both models answer; it takes some seconds", self._answer, button_style="primary")
        self.next = button("Light the next rung", "Show what the next rung says of both answers", self._next)
        self.all = button("Light all", "Show the whole ladder", self._all)
        self.columns = {name: ipywidgets.HTML(layout={"width": "50%"}) for name in (UNTUNED, TUNED)}
        self.ladders = {name: ipywidgets.HTML(layout={"width": "50%"}) for name in (UNTUNED, TUNED)}
        self.question = ipywidgets.HTML()
        self.row.observe(lambda change: self._fill(change["new"]), "value")
        self.box.children = (
            *([self.row] if self.rows else []),
            self.message,
            side_by_side(self.answer, self.next, self.all),
            self.status,
            ipywidgets.HBox(list(self.columns.values())),
            self.question,
            ipywidgets.HBox(list(self.ladders.values())),
        )

    def _fill(self, row: str) -> None:
        if row in self.rows:
            self.message.value = self.rows[row].text

    def _asked_row(self) -> Row:
        """The row that was chosen, with its label, if the message is still its own; else a row without a label."""
        text = self.message.value
        if not text.strip():
            raise UsageError("expected a message to answer, found an empty one; write one or choose a row.")
        row = self.rows.get(self.row.value)
        return row if row and row.text == text else Row("message", text)

    def _answer(self) -> None:
        with self.telling("both models are answering …", [self.answer]):
            row = self._asked_row()
            unlabelled = [replace(row, output=None)]  # no scores are wanted of one row
            found = compare(self.task, self.loaded, {TUNED: self.adapter}, unlabelled, max_new_tokens=self.max_new_tokens)
            self.answers, self.asked, self.lit = answered(self.task, row, found), row.text, 0
        self._show()

    def _next(self) -> None:
        self.lit = min(len(RUNGS), self.lit + 1)
        self._show()

    def _all(self) -> None:
        self.lit = len(RUNGS)
        self._show()

    def _show(self) -> None:
        self.next.disabled = self.all.disabled = not self.answers or self.lit == len(RUNGS)
        for name, column in self.columns.items():
            output, steps = self.answers.get(name, ("", []))
            column.value = text_box(f"{name} model", output, "no answer" if self.answers else "not asked yet")
            lines = ladder_lines(steps, self.lit)
            self.ladders[name].value = text_box(f"ladder of the {name} answer", "\n".join(lines), "no rung lit")
        self.question.value = text_box("next question", self._question())

    def _question(self) -> str:
        if not self.answers:
            return "Which of the two will give exactly one JSON object?"
        if self.lit == len(RUNGS):
            return "The whole ladder is lit."
        return f"{RUNGS[self.lit]}: {ASKS[RUNGS[self.lit]]}"

    def text(self) -> str:
        """The message and, once it has been answered, both answers with their whole ladders."""
        lines = [f"message: {self.asked}"]
        for name, (output, steps) in self.answers.items():
            lines += ["", f"{name} model:", output, *ladder_lines(steps)]
        return "\n".join(lines if self.answers else [*lines, "not answered yet"])

    def figure(self) -> Figure | None:
        from ftlab.plots import ladder_steps

        return ladder_steps({name: steps for name, (_, steps) in self.answers.items()}, self.asked) if self.answers else None

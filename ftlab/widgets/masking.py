"""The masking X-ray: a training row token by token; which tokens carry loss, and what another masking would teach."""

from collections.abc import Sequence
from math import exp

from matplotlib.figure import Figure

from ftlab.errors import UsageError
from ftlab.masking import MASKINGS, masked_xray, part_lines, parts
from ftlab.models import LoadedModel
from ftlab.rows import Row
from ftlab.task import Task
from ftlab.train.settings import SftConfig
from ftlab.widgets.parts import View, button, ipywidgets, note, safe, side_by_side, text_box
from ftlab.xray import Position, Xray, xray_text

_HOT = 6.0  # nats: a line below a token is as thick as it gets


class MaskingXray(View):
    """Which tokens of a row carry loss.

    Args:
        loaded: whose losses are shown; it stays as it is.
        task: whose rows they are.
        rows: labelled rows to choose from; without them the first validation rows.
        max_length: longer rows are refused, as in training.

    Raises:
        UsageError: no rows, or rows without labels.
        DataError: the first row is too long.
    """

    def __init__(self, loaded: LoadedModel, task: Task, rows: Sequence[Row] = (), *, max_length: int = SftConfig.max_length):
        super().__init__()
        self.loaded, self.task, self.max_length = loaded, task, max_length
        self.rows = {row.id: row for row in rows or task.rows("validation")[:10]}
        if not self.rows:
            raise UsageError("rows: expected at least one labelled row, found none.")
        self._known: dict[tuple, Xray] = {}
        self.found = self._xray(next(iter(self.rows)), "answer", SftConfig.text_weight)
        self._build()
        self._show()

    def _build(self) -> None:
        style = {"description_width": "8em"}
        self.row = ipywidgets.Dropdown(options=list(self.rows), description="Row", style=style)
        choices = [(told, name) for name, told in MASKINGS.items()]
        self.masking = ipywidgets.Dropdown(options=choices, description="Masking", style=style, layout={"width": "30em"})
        self.weight = ipywidgets.FloatSlider(
            value=SftConfig.text_weight, min=0, max=1, step=0.1, description="Weight of free text", style={"description_width": "10em"},
            continuous_update=False,
        )  # fmt: skip
        self.at = ipywidgets.IntSlider(min=0, max=0, description="Token", style=style, layout={"width": "60%"})
        self.next = button("Next with loss", "Go to the next token that carries loss", self._next)
        self.strip, self.detail, self.table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        for control in (self.row, self.masking, self.weight):
            control.observe(lambda _: self._look(), "value")
        self.at.observe(lambda _: self._point(), "value")
        self.box.children = (
            side_by_side(self.row, self.masking, self.weight),
            self.strip,
            side_by_side(self.at, self.next),
            self.detail,
            self.table,
            self.status,
        )

    def _xray(self, row: str, masking: str, weight: float) -> Xray:
        key = (row, masking, weight)
        if key not in self._known:
            self._known[key] = masked_xray(self.loaded, self.task, self.rows[row], masking, weight, self.max_length)
        return self._known[key]

    def _look(self) -> None:
        with self.telling("computing the losses …", [self.row, self.masking, self.weight]):
            self.found = self._xray(self.row.value, self.masking.value, self.weight.value)
            self._show()

    @property
    def positions(self) -> tuple[Position, ...]:
        return self.found.rows[0].positions

    def _next(self) -> None:
        self.at.value = next_trained(self.positions, self.at.value)

    def _show(self) -> None:
        self.at.max = len(self.positions) - 1
        self.table.value = text_box("where the loss of this row comes from", "\n".join(part_lines(parts(self.positions))))
        self._point()

    def _point(self) -> None:
        self.strip.value = strip_html(self.positions, self.at.value)
        self.detail.value = note(told(self.positions[self.at.value]))

    def text(self) -> str:
        """Every position, as `ftlab xray` prints it, and the parts."""
        return "\n".join([xray_text(self.found), "", *part_lines(parts(self.positions))])

    def figure(self) -> Figure:
        from ftlab.plots import xray_figure

        return xray_figure(self.found.as_dict())


def next_trained(positions: Sequence[Position], at: int) -> int:
    """The next place with loss after `at`, from the beginning again after the last; `at` itself where there is none."""
    order = [*positions[at + 1 :], *positions[: at + 1]]
    return next((p.at for p in order if p.loss is not None), at)


def told(p: Position) -> str:
    """One position in a sentence."""
    begin = f"Token {p.at}, “{p.token}”, part: {p.part}. "
    if p.loss is None:
        return begin + "It is masked: the model reads it and nothing is learnt from predicting it."
    return begin + (
        f"The model gives it {100 * exp(-p.loss):.1f} % here, a loss of {p.loss:.2f} nats; it counts with weight {p.weight:.4f}."
    )


def strip_html(positions: Sequence[Position], at: int) -> str:
    """The row as HTML: masked tokens grey and struck by dots, trained ones on a line as thick as their loss, token `at` framed."""
    spans = "".join(_span(p, p.at == at) for p in positions)
    legend = "grey on dots: masked; underlined: carries loss, the thicker the more; framed: the token below"
    return (
        '<section aria-label="the row, token by token"><div tabindex="0" style="white-space:pre-wrap;overflow-wrap:anywhere;'
        'font-family:monospace;line-height:2.1;max-height:22em;overflow:auto;border:1px solid #888;padding:.4em">'
        f"{spans}</div><small>{legend}</small></section>"
    )


def _span(p: Position, here: bool) -> str:
    if p.loss is None:
        look = "opacity:.6;border-bottom:1px dotted #888"
    else:
        look = f"font-weight:bold;border-bottom:{1 + round(5 * min(p.loss, _HOT) / _HOT)}px solid #0072B2"
    frame = ";outline:2px solid #D55E00" if here else ""
    token = safe(p.token).replace("\n", "↵\n") or "∅"
    return f'<span title="{safe(p.part)}" style="{look}{frame}">{token}</span>'

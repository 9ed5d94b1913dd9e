"""The next-token explorer: a text, the likeliest tokens after it as buttons, and a click on one goes on with it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ftlab.errors import UsageError
from ftlab.models import LoadedModel
from ftlab.nexttoken import Candidate, Next, Story, draw, ended, likeliest, next_logits, retold, said, story_ids, surprise_bits
from ftlab.widgets.parts import View, button, ipywidgets, side_by_side, text_box, visible

MOST = 20  # buttons that still fit on a screen
_BAR = 24  # signs of the longest bar
_KEPT = 64  # texts whose scores are kept: 400 kB each with a vocabulary of 49,152


class NextTokens(View):
    """Which token comes next, and what if another one did.

    Args:
        models: name → loaded model, for instance {"base": …, "tuned": …, "tiny": …}; one loaded model alone will do.
        text: what to begin with.
        chat: put the text into the model's chat template, as a user's message after the `system` message.
        k: how many tokens are shown, 1 to 20.
        seed: of the drawn tokens.

    Raises:
        UsageError: no model, an empty text, or a number of tokens that cannot be shown.
    """

    def __init__(
        self,
        models: Mapping[str, LoadedModel] | LoadedModel,
        text: str = "The capital of France is",
        *,
        chat: bool = False,
        system: str = "",
        k: int = 10,
        seed: int = 0,
    ):
        super().__init__()
        self.models = {models.name: models} if isinstance(models, LoadedModel) else dict(models)
        if not self.models:
            raise UsageError("models: expected at least one loaded model by its name, found none.")
        if not 1 <= k <= MOST:
            raise UsageError(f"k: expected 1 to {MOST} tokens to show, found {k}.")
        self.seed, self.story, self.name = seed, Story(text, chat, system), next(iter(self.models))
        self.found: Next | None = None
        self._scores: dict[tuple, Any] = {}  # (model, token ids) → logits: a temperature asks for no new pass through the model
        self._build(k)
        self._look()
        if self.found is None:  # the first text cannot be shown: say so where the widget is made
            story_ids(self.loaded, self.story)

    @property
    def loaded(self) -> LoadedModel:
        return self.models[self.name]

    def _build(self, k: int) -> None:
        wide, style = {"width": "98%"}, {"description_width": "7em"}
        self.prompt = ipywidgets.Textarea(value=self.story.prompt, description="Text", rows=3, layout=wide, style=style)
        self.start = button("Start", "Begin anew with this text", self._start, button_style="primary")
        self.model = ipywidgets.Dropdown(options=list(self.models), description="Model", style=style)
        self.chat = ipywidgets.Checkbox(value=self.story.chat, description="as a chat message", indent=False)
        self.temperature = ipywidgets.FloatSlider(
            value=1.0, min=0.1, max=3.0, step=0.1, description="Temperature", style=style, continuous_update=False
        )
        self.tokens = [button("", "Go on with this token", lambda i=i: self._take(i)) for i in range(k)]
        for token in self.tokens:
            token.layout.width = "10em"  # so that the bars begin at one line
        self.bars = [ipywidgets.HTML() for _ in self.tokens]
        self.draw = button("Draw one", "Go on with a token drawn at random by these probabilities", self._draw)
        self.back = button("Back", "Take the last token away", self._back)
        self.written = ipywidgets.HTML()
        self.summary = ipywidgets.HTML()
        self.model.observe(lambda change: self._switch(change["new"]), "value")
        self.temperature.observe(lambda _: self._look(), "value")
        rows = [ipywidgets.HBox(pair) for pair in zip(self.tokens, self.bars, strict=True)]
        self.box.children = (
            self.prompt,
            side_by_side(self.start, self.model, self.chat, self.temperature),
            self.written,
            ipywidgets.VBox(rows),
            self.summary,
            side_by_side(self.draw, self.back),
            self.status,
        )

    def _start(self) -> None:
        self.story = Story(self.prompt.value, self.chat.value, self.story.system)
        self._look()

    def _switch(self, name: str) -> None:
        self.story, self.name = retold(self.story, self.loaded, self.models[name]), name
        self._look()

    def _take(self, i: int) -> None:
        self._go(self.found.candidates[i])

    def _draw(self) -> None:
        with self.telling():
            self._go(draw(self.loaded, self._logits(), self.temperature.value, self.seed, len(self.story.taken)))

    def _go(self, candidate: Candidate) -> None:
        self.story = self.story.take(candidate)
        self._look()

    def _back(self) -> None:
        self.story = self.story.back()
        self._look()

    def _logits(self) -> Any:
        key = (self.name, *story_ids(self.loaded, self.story))
        if key not in self._scores:
            if len(self._scores) == _KEPT:
                del self._scores[next(iter(self._scores))]
            self._scores[key] = next_logits(self.loaded, key[1:])
        return self._scores[key]

    def _look(self) -> None:
        self.found = None
        if not ended(self.loaded, self.story):
            with self.telling("asking the model …", [self.start]):
                self.found = likeliest(self.loaded, self._logits(), self.temperature.value, len(self.tokens))
        self._show()

    def _show(self) -> None:
        candidates = self.found.candidates if self.found else ()
        for i, (token, bar) in enumerate(zip(self.tokens, self.bars, strict=True)):
            there = i < len(candidates)
            token.disabled, token.description = not there, quoted(candidates[i].token) if there else "–"
            token.tooltip = f"Go on with {token.description}" if there else "no further token"
            bar.value = text_bar(candidates[i].probability) if there else ""
        self.draw.disabled, self.back.disabled = self.found is None, not self.story.taken
        self.written.value = text_box("written so far", self.story.prompt + " ▸ " + said(self.loaded, self.story))
        self.summary.value = text_box("what else", self._summary())

    def _summary(self) -> str:
        if ended(self.loaded, self.story):
            return "The model has ended its answer. Go back, or start anew."
        if self.found is None:
            return "Nothing to show."
        bits = surprise_bits(self.story)
        told = f"{self.found.others} other tokens share {100 * self.found.rest:.1f} %; {self.found.bits:.1f} bits of uncertainty"
        return told + (f"; {bits:.1f} bits of surprise in the {len(self.story.taken)} tokens taken" if bits else "") + "."

    def text(self) -> str:
        """The text so far and the likeliest tokens, a line each."""
        lines = [f"{self.name}, temperature {self.temperature.value:g}: {self.story.prompt} ▸ {said(self.loaded, self.story)}"]
        for c in self.found.candidates if self.found else ():
            lines.append(f"{100 * c.probability:>6.1f} %  {'█' * round(_BAR * c.probability):<{_BAR}}  {quoted(c.token)}")
        return "\n".join([*lines, self._summary()])

    def figure(self) -> Figure | None:
        from ftlab.plots import next_token_bars

        end = (self.story.prompt + said(self.loaded, self.story))[-40:]
        title = f"{self.name}, temperature {self.temperature.value:g}, after “…{end}”"
        return next_token_bars(self.found, " ".join(title.split())) if self.found else None


def quoted(token: str) -> str:
    """A token between quotes, its spaces and line breaks to be seen."""
    return "“" + visible(token).replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") + "”"


def text_bar(probability: float) -> str:
    """HTML of a probability as a bar and a number."""
    width = max(1, round(200 * probability))
    bar = f'<span aria-hidden="true" style="display:inline-block;height:.8em;width:{width}px;background:#0072B2"></span>'
    return f"<span>{bar} {100 * probability:.1f} %</span>"

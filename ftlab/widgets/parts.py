"""What the widgets share: text that stays text, a line that says what happens, and a picture for where no widget can be shown."""

import unicodedata
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

from ftlab.errors import FtlabError, UsageError

try:
    import ipywidgets
except ImportError:
    raise UsageError("the widgets need ipywidgets, which is not installed; run: pip install 'ftlab[notebooks]'") from None

_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # signs that turn the order of what is read
_BOX = "border:1px solid #888;border-radius:3px;padding:.4em .6em;margin:.2em 0"
_TEXT = f"white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace;line-height:1.4;max-height:22em;overflow:auto;{_BOX}"


def visible(text: str) -> str:
    """A text whose every sign can be shown: control signs, lone surrogates and signs that turn the reading order are written as escapes."""
    return "".join(f"\\u{ord(sign):04x}" if _hidden(sign) else sign for sign in text)


def _hidden(sign: str) -> bool:
    return sign not in "\n\t" and (unicodedata.category(sign) in ("Cc", "Cs") or unicodedata.bidirectional(sign) in _TURNING)


def safe(text: str) -> str:
    """A text from outside as HTML that shows it letter by letter, whatever it holds."""
    return escape(visible(text), quote=True)


def text_box(heading: str, text: str, empty: str = "nothing") -> str:
    """HTML of a text from outside under its heading; a text that is too long for its box is scrolled by the keyboard too."""
    body = safe(text) if text else f"<i>{escape(empty)}</i>"
    return (
        f'<section aria-label="{safe(heading)}"><b>{safe(heading)}</b>'
        f'<div style="{_TEXT}" tabindex="0" role="group" aria-label="{safe(heading)}, text">{body}</div></section>'
    )


def note(text: str, *, wrong: bool = False) -> str:
    """HTML of one sentence on what happens; a reader's program is asked to read it out."""
    if not text:
        return ""
    mark, role = ("⚠ ", "alert") if wrong else ("", "status")
    return f'<div role="{role}" style="padding:.2em 0;white-space:pre-wrap">{mark}{safe(text)}</div>'


def button(description: str, tooltip: str, press: Callable[[], None], **options: Any) -> Any:
    """A button as wide as its words; `press` is called at each click and by the keyboard's space and enter."""
    made = ipywidgets.Button(description=description, tooltip=tooltip, layout={"width": "auto", "flex": "0 0 auto"}, **options)
    made.on_click(lambda _: press())
    return made


def side_by_side(*controls: Any) -> Any:
    """Controls in a row; those that have no room in it go into the next one, none is squeezed."""
    for control in controls:
        control.layout.flex = "0 0 auto"
    return ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})


class View(ABC):
    """A widget, and what stands in for it.

    Attributes:
        box: everything that is shown, an ipywidgets box.
        status: the line that says what happens, or what is wrong.
    """

    def __init__(self) -> None:
        self.status = ipywidgets.HTML()
        self.box = ipywidgets.VBox()

    @abstractmethod
    def figure(self) -> Figure | None:
        """The state as a picture; None where there is nothing to draw yet."""

    @abstractmethod
    def text(self) -> str:
        """The state as plain text."""

    def say(self, text: str, *, wrong: bool = False) -> None:
        self.status.value = note(text, wrong=wrong)

    @contextmanager
    def telling(self, working: str = "", busy: Sequence[Any] = ()) -> Iterator[None]:
        """Say what is being done, keep the controls in `busy` from being used meanwhile, and turn a user's mistake into its sentence."""
        self.say(working)
        for control in busy:
            control.disabled = True
        try:
            yield
        except FtlabError as error:
            self.say("\n".join([str(error), *getattr(error, "problems", [])[:5]]), wrong=True)
        else:
            if working:
                self.say("")
        finally:
            for control in busy:
                control.disabled = False

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **kwargs: Any) -> tuple[dict, dict]:
        """What a notebook shows and stores: the widget; for where it cannot live, its figure with an alt text; else its text."""
        data = {**(self.box._repr_mimebundle_() or {}), "text/plain": visible(self.text())}
        figure = self.figure()
        if figure is None:
            return data, {}
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        data["image/png"] = b64encode(buffer.getvalue()).decode("ascii")
        return data, {"image/png": {"alt": visible(figure.get_label())}}

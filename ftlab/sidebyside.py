"""The same messages answered by the untuned and by the tuned model: the first minute of the course."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftlab.artifact import apply_adapter
from ftlab.checks import Check, parse_strict
from ftlab.constrain import CopyRules
from ftlab.errors import UsageError
from ftlab.generate import generate
from ftlab.mainjob import UNTUNED_TOKENS
from ftlab.models import EMBEDDED, load_model
from ftlab.task import Row, Task


@dataclass(frozen=True)
class Pair:
    """One message with both answers, checked without a label: the field rung sees only what the message itself decides."""

    message: str
    base: str
    base_check: Check
    tuned: str
    tuned_check: Check

    def as_text(self) -> str:
        return "\n".join(
            [
                f"\nMESSAGE  {self.message}",
                f"\nBASE (untuned, long prompt): {_verdict(self.base_check)}\n{self.base.strip()}",
                f"\nTUNED (adapter, short prompt): {_verdict(self.tuned_check)}\n{_pretty(self.tuned)}",
            ]
        )


def _verdict(check: Check) -> str:
    return "passes all checks" if check.ok else f"fails: {', '.join(check.labels)} ({check.problems[0].message})"


def _pretty(text: str) -> str:
    try:
        return json.dumps(parse_strict(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def side_by_side(task: Task, texts: Sequence[str], *, adapter: Path, model: str | None = None, progress: bool = True) -> list[Pair]:
    """Answer each text twice: untuned with the long prompt, tuned with the short one. One model in memory.

    Raises:
        UsageError: an empty text, or the adapter is for another model.
    """
    if not texts or not all(text.strip() for text in texts):
        raise UsageError("expected a message to answer, found an empty text.")
    loaded = load_model(model or EMBEDDED, progress=progress)
    rows = [Row(str(i), text) for i, text in enumerate(texts)]
    base = generate(loaded, [task.conversation(row, "long") for row in rows], max_new_tokens=UNTUNED_TOKENS)
    apply_adapter(loaded, adapter)
    copies = CopyRules.of(task.rules) or None  # as `predict` does with a tuned model
    tuned = generate(loaded, [task.conversation(row, "short") for row in rows], copies=copies)
    return [
        Pair(text, b.text, task.checker.check(b.text, text), t.text, task.checker.check(t.text, text))
        for text, b, t in zip(texts, base, tuned, strict=True)
    ]

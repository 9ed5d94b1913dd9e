"""Constrained decoding: a value that the rules want copied from the user's text cannot become anything else while it is written.

A greedy step takes the likeliest token; where that token would leave the user's text inside such a value, the next likeliest that does not
is taken instead, and counted (if none of the first `TRIED` will do, the likeliest after all). Form can be guaranteed in this way,
content cannot: a value that was copied may still be the wrong one.
The principle is that of grammar-constrained decoding (Willard and Louf, 2023), with the user's text as the grammar of a value.
"""

import copy
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.checks import card_tails, normalize

TRIED = 512  # likeliest tokens that are tried before the likeliest of all is taken after all
Choice = Callable[[Sequence[int], Any], Sequence[int]]  # (rows, logits (B, vocabulary)) -> the token of each
_ESCAPES = re.compile(r'\\(?:["\\/bfnrt]|u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|u(?![dD][89abAB])[0-9a-fA-F]{4})')


@dataclass(frozen=True)
class CopyRules:
    """Which strings of an answer have to be pieces of the user's text: the rules of kind `copied_from_input` of a task."""

    paths: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # (path, its last_digits)
    version: int = 2  # raised when the same rules come to choose otherwise: stored answers are kept by it

    @classmethod
    def of(cls, rules: Sequence[dict]) -> "CopyRules":
        copied = [rule for rule in rules if rule["rule"] == "copied_from_input"]
        return cls(tuple((rule["path"], tuple(sorted(rule.get("last_digits", {}).items()))) for rule in copied))

    def __bool__(self) -> bool:
        return bool(self.paths)

    def digits(self, at: Sequence[str]) -> int | None:
        """How many last digits of a card number may stand at this path; 0 for none, None where nothing has to be copied."""
        for path, tails in self.paths:
            steps = path.split(".")
            if len(steps) == len(at) and all(step in ("*", name) for step, name in zip(steps, at, strict=True)):
                return dict(tails).get(at[-1], 0)
        return None


@dataclass
class _Place:
    """Where in a JSON text its end stands: the names of the values that are open, and the string that is being written."""

    names: list[str] = field(default_factory=list)  # key or item number in each open container
    arrays: list[bool] = field(default_factory=list)
    quoted: bool = False
    is_key: bool = False
    raw: str = ""  # of the open string, as written

    def copy(self) -> "_Place":
        new = copy.copy(self)
        new.names, new.arrays = [*self.names], [*self.arrays]
        return new

    def feed(self, sign: str) -> None:
        if self.quoted:
            if sign == '"' and not self._in_escape():
                self.quoted = False
                if self.is_key:
                    self.names[-1] = self.value()
            else:
                self.raw += sign
        elif sign == '"':
            self.quoted, self.raw = True, ""
        elif sign in "{[":
            self.arrays.append(sign == "[")
            self.names.append("0" if sign == "[" else "")
            self.is_key = sign == "{"
        elif sign in "}]" and self.names:
            self.arrays.pop(), self.names.pop()
        elif sign == ":":
            self.is_key = False
        elif sign == "," and self.names:
            if self.arrays[-1]:
                self.names[-1] = str(int(self.names[-1]) + 1)
            self.is_key = not self.arrays[-1]

    def _in_escape(self) -> bool:
        return (len(self.raw) - len(self.raw.rstrip("\\"))) % 2 == 1

    def value(self) -> str:
        """What the open string says so far; an escape that is not complete says nothing yet."""
        said = self.raw
        if "\\" in said:
            end = said.rfind("\\")
            while end >= 0 and not _complete(said):
                said, end = said[:end], said.rfind("\\", 0, end)
        try:
            return json.loads(f'"{said}"', strict=False)
        except ValueError:
            return said


def _complete(raw: str) -> bool:
    return "\\" not in _ESCAPES.sub("", raw)


class CopyGuard:
    """One answer's guard: says whether a next piece of text keeps every value that has to be copied within the user's text.

    Attributes:
        held: how often a likelier token was turned away.
    """

    def __init__(self, rules: CopyRules, text: str):
        self.rules, self.text = rules, normalize(text)
        self.tails: dict[int, set[str]] = {}
        self.place = _Place()
        self.held = 0

    def allows(self, piece: str) -> bool:
        place = self.place.copy()
        return all(self._fits(place, sign) for sign in piece)

    def feed(self, piece: str) -> None:
        for sign in piece:
            self.place.feed(sign)

    def _fits(self, place: _Place, sign: str) -> bool:
        """Move `place` on by one sign; False if that leaves the user's text."""
        was_open = place.quoted
        place.feed(sign)
        if place.is_key or not (was_open or place.quoted) or (digits := self.rules.digits(place.names)) is None:
            return True
        value, closed = normalize(place.value()), was_open and not place.quoted
        if not digits:
            return value in self.text and bool(value or not closed)
        tails = self._tails(digits)
        return value in tails if closed else any(tail.startswith(value) for tail in tails)

    def _tails(self, digits: int) -> set[str]:
        """What may stand where the last digits of a card are wanted: those of a whole number, or as many that stand alone."""
        if digits not in self.tails:
            alone = re.findall(rf"(?<!\d)\d{{{digits}}}(?!\d)", self.text)
            self.tails[digits] = card_tails(self.text, digits) | set(alone)
        return self.tails[digits]

    @property
    def inside(self) -> bool:
        """Whether the text so far ends inside a value that has to be copied."""
        return self.place.quoted and not self.place.is_key and self.rules.digits(self.place.names) is not None


class GuardedChoice:
    """Greedy choice under guards, for the rows of one batch.

    Args:
        texts: what the user wrote, for each row.
    """

    def __init__(self, tokenizer: Any, rules: CopyRules, texts: Sequence[str]):
        self.tokenizer, self.guards = tokenizer, [CopyGuard(rules, text) for text in texts]
        self.special = set(tokenizer.all_special_ids)  # they add no text, and ending an answer inside a value is no way out
        self.ids: list[list[int]] = [[] for _ in texts]
        self.said = ["" for _ in texts]  # the whole signs of each row's answer

    @property
    def held(self) -> list[int]:
        """How often each row was kept from its likeliest token."""
        return [guard.held for guard in self.guards]

    def __call__(self, rows: Sequence[int], logits: Any) -> list[int]:
        """The token of each of `rows`, from their logits (B, vocabulary)."""
        return [self._choose(row, line, first) for row, line, first in zip(rows, logits, logits.argmax(-1).tolist(), strict=True)]

    def _choose(self, row: int, logits: Any, first: int) -> int:
        guard = self.guards[row]
        token, piece = first, self._piece(row, first)
        if not guard.allows(piece):
            tried = [t for t in logits.topk(min(TRIED, len(logits))).indices.tolist() if t != first and t not in self.special]
            pieces = ((t, self._piece(row, t)) for t in tried)
            # inside a value a token that adds no whole sign (bytes of one) cannot be judged, so it is no way out either
            token = next((t for t, added in pieces if guard.allows(added) and (added or not guard.inside)), first)
            guard.held += token != first
            piece = self._piece(row, token)
        guard.feed(piece)
        self.ids[row].append(token)
        self.said[row] += piece
        return token

    def _piece(self, row: int, token: int) -> str:
        """The whole signs that `token` adds to a row's text; a sign of which bytes are missing is added with its last byte."""
        text = self.tokenizer.decode([*self.ids[row], token], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.rstrip("\ufffd")[len(self.said[row]) :]

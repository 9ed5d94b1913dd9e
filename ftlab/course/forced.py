"""Why the share of right tokens is no score: a guesser of the next piece that never reads the message, and how far two texts agree.

Teacher forcing: at each place of the labelled answer the model is given the *right* beginning and guesses what comes next. When it
writes by itself it gets its own beginning, mistakes and all.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher

_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_START, _END = "<start>", "<end>"


def pieces(text: str) -> list[str]:
    """Words, runs of white space and single signs: about what a tokenizer makes of a text. `"a": 1` → `"`, `a`, `"`, `:`, ` `, `1`."""
    return _PIECE.findall(text)


class NextPiece:
    """Guesses the next piece of an answer from the pieces before it, by counting what followed them in training answers.

    It is given no message at all. Where the last `order` pieces were never seen, it looks at fewer.

    Args:
        answers: texts to count in.
        order: how many pieces it looks back.

    Raises:
        ValueError: no answers, or an order below 1.

    Source: Shannon (1948), A Mathematical Theory of Communication, section 3, for such approximations of a language.
    """

    def __init__(self, answers: Sequence[str], order: int):
        if not answers or order < 1:
            raise ValueError(f"NextPiece: expected answers and an order of 1 or more, found {len(answers)} and {order}.")
        self.order = order
        self.followed: dict[tuple[str, ...], Counter] = defaultdict(Counter)
        for answer in answers:
            row = [_START, *pieces(answer), _END]
            for at in range(1, len(row)):
                for back in range(min(order, at) + 1):
                    self.followed[tuple(row[at - back : at])][row[at]] += 1

    def guess(self, before: Sequence[str]) -> str:
        """The piece that followed most often; the end of the answer is one of them."""
        known = (tuple(before[len(before) - back :]) for back in range(min(self.order, len(before)), -1, -1))
        return next(self.followed[context] for context in known if context in self.followed).most_common(1)[0][0]

    def forced_accuracy(self, answers: Sequence[str]) -> float:
        """Share of the pieces of `answers`, ends included, that are guessed when everything before them is given rightly."""
        hits = []
        for answer in answers:
            row = [_START, *pieces(answer), _END]
            hits += [self.guess(row[:at]) == row[at] for at in range(1, len(row))]
        return sum(hits) / len(hits)

    def write(self, limit: int = 120) -> str:
        """What it writes by itself, each guess built on its own guesses before."""
        row = [_START]
        while len(row) <= limit and (piece := self.guess(row)) != _END:
            row.append(piece)
        return "".join(row[1:])


def agreement(output: str, label: str) -> float:
    """How far two texts agree piece by piece, 0 to 1: twice the matching pieces over all pieces (`difflib`)."""
    return SequenceMatcher(None, pieces(output), pieces(label), autojunk=False).ratio()

"""Retrieval in small: the nearest labelled row, and facts that are looked up against facts that were learnt.

The places and their hours are made up. "Learnt" is the best case of a memory here: each question that was taught is kept with its answer.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftlab.rows import Row

_FIRST = ("Alder", "Birk", "Corn", "Dun", "Ever", "Fenn", "Gil", "Har")
_LAST = ("by", "combe", "ford", "ham", "wick")
QUESTIONS = ("Until when is {place} open?", "Closing time of the library in {place}?", "How late can I come to {place} today?")


class Nearest:
    """The nearest of some texts by TF-IDF over pieces of words (scikit-learn's).

    Raises:
        ValueError: no texts.
    """

    def __init__(self, texts: Sequence[str]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not texts:
            raise ValueError("Nearest: expected texts to search in, found none.")
        self.grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        self.known = self.grams.fit_transform(texts)

    def find(self, asked: Sequence[str], k: int = 1) -> list[list[tuple[int, float]]]:
        """For each text the places of the k nearest and their similarity (cosine, 0 to 1), the nearest first."""
        similar = (self.grams.transform(asked) @ self.known.T).toarray()  # (asked, known)
        return [[(int(i), float(line[i])) for i in (-line).argsort(kind="stable")[:k]] for line in similar]


def carried_over(row: Row, neighbour: Row) -> dict[str, bool]:
    """Which parts of the neighbour's label are right for the row too; "values" only where the row has any."""
    mine, other = row.output, neighbour.output
    parts = {name: mine[name] == other[name] for name in ("intent", "missing_info", "next_step")}
    parts["names of values"] = set(mine["entities"]) == set(other["entities"])
    return parts | ({"values": mine["entities"] == other["entities"]} if mine["entities"] else {})


@dataclass(frozen=True)
class Place:
    """A library of a made-up town, and when it closes."""

    name: str
    closes: str

    @property
    def passage(self) -> str:
        return f"The library in {self.name} is open on weekdays from 9:00 until {self.closes}."


def places(n: int = 40, seed: int = 0) -> list[Place]:
    """n places with a closing time each."""
    rng = random.Random(seed)
    names = rng.sample([first + last for first in _FIRST for last in _LAST], n)
    return [Place(name, rng.choice(_HOURS)) for name in names]


_HOURS = tuple(f"{hour}:{minutes}" for hour in range(15, 21) for minutes in ("00", "30"))


def changed(known: Sequence[Place], n: int, seed: int = 0) -> list[Place]:
    """The same places, n of them with another closing time."""
    rng = random.Random(seed)
    those = set(rng.sample(range(len(known)), n))
    return [
        replace(place, closes=rng.choice([hour for hour in _HOURS if hour != place.closes])) if i in those else place
        for i, place in enumerate(known)
    ]


def misspelt(name: str) -> str:
    """A name with two of its inner letters swapped: Alderby → Aldreby."""
    middle = len(name) // 2
    return name[:middle] + name[middle + 1] + name[middle] + name[middle + 2 :]


class Memory:
    """Answers with what it was taught: the answer of the nearest question among those that it was trained on."""

    def __init__(self, known: Sequence[Place], wordings: Sequence[str] = QUESTIONS[:2]):
        taught = [(wording.format(place=place.name), place.closes) for place in known for wording in wordings]
        self.answers = [answer for _, answer in taught]
        self.nearest = Nearest([question for question, _ in taught])

    def answer(self, asked: Sequence[str]) -> list[str]:
        return [self.answers[found[0][0]] for found in self.nearest.find(asked)]


class LookUp:
    """Answers with what stands in the nearest passage, which can be exchanged at any time."""

    def __init__(self, passages: Sequence[str]):
        self.passages, self.nearest = list(passages), Nearest(passages)

    def answer(self, asked: Sequence[str]) -> list[str]:
        return [_closing(self.passages[found[0][0]]) for found in self.nearest.find(asked)]


def _closing(passage: str) -> str:
    found = re.findall(r"\d+:\d\d", passage)
    return found[-1] if found else ""

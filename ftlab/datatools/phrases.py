"""What repeats in the rows: whole messages that differ in their values only, runs of words, and the values themselves."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ftlab.checks import normalize
from ftlab.rows import Row

MASK = "VALUE"  # in capitals: the text round it is in small letters
_VALUE = re.compile(r"[\d@]|://|^www\.")  # in a word: a number, an address, a link
_TOKEN = re.compile(rf"{MASK}(?: *{MASK})*|\w+(?:['’]\w+)?")


class Phrase(NamedTuple):
    """A run of words, the number of rows with it, and their share."""

    text: str
    rows: int
    share: float


def skeleton(text: str, values: Sequence[tuple[str, str]]) -> str:
    """`text` with its values masked and without case and punctuation: what a template leaves unchanged.

    Args:
        values: (path, value) of the labelled values; numbers and addresses are masked without a label.

    >>> skeleton("Money back to Ann for KD-12, please!", [("entities.name", "Ann")])
    'money back to VALUE for VALUE please'
    """
    masked = normalize(text)
    for _, value in sorted(values, key=lambda item: -len(item[1])):
        masked = re.sub(rf"(?<!\w){re.escape(normalize(value))}(?!\w)", MASK, masked)
    masked = " ".join(MASK if _VALUE.search(word) else word for word in masked.split())
    return " ".join(MASK if token.startswith(MASK) else token for token in _TOKEN.findall(masked))


def templates(skeletons: Sequence[str], share: float, least: int = 3) -> list[tuple[Phrase, list[int]]]:
    """Skeletons that more than `share` of the rows have, at least `least` of them, with the rows' indices; the commonest first."""
    places = defaultdict(list)
    for i, text in enumerate(skeletons):
        places[text].append(i)
    limit = max(share * len(skeletons), least - 1)
    found = [(Phrase(text, len(at), len(at) / len(skeletons)), at) for text, at in places.items() if len(at) > limit]
    return sorted(found, key=lambda item: (-item[0].rows, item[0].text))


def top_phrases(texts: Sequence[str], n: int, k: int) -> list[Phrase]:
    """The k runs of n words that stand in most rows, each row counted once."""
    counts: Counter[str] = Counter()
    for text in texts:
        found = text.split()
        counts.update({" ".join(found[i : i + n]) for i in range(len(found) - n + 1)})
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Phrase(text, rows, rows / len(texts)) for text, rows in ordered[:k]]


def values_used(values: Sequence[Sequence[tuple[str, str]]]) -> dict[str, dict[str, list[int]]]:
    """path → value as written → the rows (by index) whose labels hold it."""
    used: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, found in enumerate(values):
        for path, value in found:
            used[path][normalize(value)].append(i)
    return {path: dict(by_value) for path, by_value in used.items()}


def identifies(value: str) -> bool:
    """True for what belongs to one person or order (an address, an id): a model can learn it by heart. "drive" and "$20.00" do not."""
    long = len(re.sub(r"\W", "", value)) >= 5 and len(re.findall(r"\d", value)) >= 3
    return "@" in value or (long and not re.search(r"[$€£¥]", value))


def texts_of(row: Row) -> list[str]:
    """Every text of a row that people would read: all messages, and the texts of its answer."""

    def leaves(value: object) -> list[str]:
        if isinstance(value, dict | list):
            return [text for item in (value.values() if isinstance(value, dict) else value) for text in leaves(item)]
        return [value] if isinstance(value, str) else []

    return [message["content"] for message in row.messages] + leaves(row.output)

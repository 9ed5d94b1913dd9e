"""Review by people: the answers of two systems side by side, order shuffled and names hidden, for two raters; how far the raters agree.

Tone and helpfulness are decided by nobody else here. A rater gets a sheet (a page of their own with items and sides in their own order)
and never the key, which says whose answer stood on which side. No page calls anything outside itself.
"""

import csv
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ftlab.errors import DataError
from ftlab.stats import Share, cohen_kappa, kappa_interval, mcnemar_exact, share

CHOICES = {"left": "left is better", "same": "no difference", "right": "right is better"}


@dataclass(frozen=True)
class Item:
    """One question to a rater: a message with two answers to it."""

    number: int
    message: str
    left: str
    right: str


@dataclass(frozen=True)
class Place:
    """The key to one item: which row it is, and which system answered on each side."""

    id: str
    left: str
    right: str


def blind_sheet(
    messages: Mapping[str, str], answers: Mapping[str, Mapping[str, str]], rater: str, *, shuffle: bool = True, seed: int = 0
) -> tuple[list[Item], dict[int, Place]]:
    """The items for one rater and the key to them.

    Args:
        messages: row id → what the user wrote.
        answers: name of a system → row id → its answer; two systems, the same rows.
        rater: another rater gets another order of items and of sides; the same rater always the same.
        shuffle: False keeps the order, which shows what shuffling is good for.

    Returns:
        (items numbered from 1, number → key). Each system stands on the left in half of the items.

    Raises:
        ValueError: not two systems, or their rows are not those of `messages`.
    """
    if len(answers) != 2 or any(set(texts) != set(messages) for texts in answers.values()):
        raise ValueError(
            f"blind_sheet: expected two systems with an answer to each of {len(messages)} messages, found {list(answers)}."
        )
    ids, (first, second) = list(messages), answers
    sides = [(first, second) if 2 * i < len(ids) or not shuffle else (second, first) for i in range(len(ids))]
    if shuffle:
        rng = Random(f"{seed}:{rater}")
        rng.shuffle(ids)
        rng.shuffle(sides)
    items, key = [], {}
    for number, (at, (left, right)) in enumerate(zip(ids, sides, strict=True), 1):
        items.append(Item(number, messages[at], answers[left][at], answers[right][at]))
        key[number] = Place(at, left, right)
    return items, key


def page(items: Sequence[Item], question: str, rater: str) -> str:
    """The sheet as one HTML page; its button saves ratings_RATER.csv. Messages and answers stand in it as text, whatever they hold."""
    body = "".join(_fieldset(item) for item in items)
    told = html.escape(question)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Blind review</title><style>{_STYLE}</style>'
        f"<body data-rater='{html.escape(rater, quote=True)}'><h1>{told}</h1><p>{len(items)} items. Judge each alone; "
        "do not talk about them with the other rater before both are done.</p>"
        f'{body}<button type="button" onclick="save()">Save ratings</button> <output></output><script>{_SCRIPT}</script></body></html>'
    )


def _fieldset(item: Item) -> str:
    def choice(value: str) -> str:
        return f'<label><input type="radio" name="item{item.number}" value="{value}"> {CHOICES[value]}</label> '

    left, right = (f"<blockquote>{html.escape(text)}</blockquote>" for text in (item.left, item.right))
    return (
        f'<fieldset data-number="{item.number}"><legend>{item.number}</legend><p>{html.escape(item.message)}</p>'
        f"<div>{left}{right}</div>{''.join(map(choice, CHOICES))}</fieldset>\n"
    )


_STYLE = (
    "body{font:16px sans-serif;max-width:60em;margin:1em auto;padding:0 1em}div{display:grid;grid-template-columns:1fr 1fr;gap:1em}"
    "p,blockquote{white-space:pre-wrap}blockquote{margin:0;padding:.6em;border:1px solid #888}fieldset{margin:1em 0}h1{font-size:1.2em}"
)
_SCRIPT = """
function save() {
  const all = [...document.querySelectorAll("fieldset")];
  const done = all.map(f => [f.dataset.number, f.querySelector("input:checked")?.value]).filter(row => row[1]);
  const text = ["number,choice", ...done.map(row => row.join(","))].join("\\n") + "\\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  link.download = "ratings_" + document.body.dataset.rater + ".csv";
  link.click();
  document.querySelector("output").textContent = done.length + " of " + all.length + " saved";
}"""


def read_ratings(path: Path, items: Sequence[Item]) -> dict[int, str]:
    """What a rater saved: number → "left", "same" or "right".

    Raises:
        DataError: the file cannot be read; a line is no rating, rates an item twice or one that the sheet lacks; items are left out.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name}: expected a file of ratings, found {error.__class__.__name__}; save the page again."
        ) from None
    known, ratings, problems = {item.number for item in items}, {}, []
    for at, line in enumerate(lines[1:], 2):
        number = int(line[0]) if len(line) == 2 and line[0].isdecimal() else 0
        if number not in known or number in ratings or line[1] not in CHOICES:
            problems.append(f"{path.name}:{at}: expected the number of an unrated item and {', '.join(CHOICES)}, found {line}")
        else:
            ratings[number] = line[1]
    problems += [f"{path.name}: item {number} is not rated" for number in sorted(known - set(ratings)) if not problems]
    if problems:
        raise DataError(f"{path.name}: {len(problems)} fault(s) in the ratings; mend each of these:", problems)
    return ratings


def unblind(ratings: Mapping[int, str], key: Mapping[int, Place]) -> dict[str, str]:
    """Row id → the system that a rater took, or "same"."""
    return {key[n].id: "same" if choice == "same" else getattr(key[n], choice) for n, choice in ratings.items()}


def agreement(first: Mapping[str, str], second: Mapping[str, str]) -> dict:
    """How far two raters say the same of the same rows.

    Returns:
        {"same": Share of the rows, "kappa", "low", "high" (95 % of kappa, bootstrap over rows), "differ": ids to talk about}.

    Raises:
        ValueError: they did not rate the same rows.
    """
    if set(first) != set(second) or not first:
        raise ValueError(f"agreement: expected two raters of the same rows, found {len(first)} and {len(second)} rows.")
    a, b = list(first.values()), [second[at] for at in first]
    low, high = kappa_interval(a, b)
    differ = [at for at in first if first[at] != second[at]]
    same = share([x == y for x, y in zip(a, b, strict=True)])
    return {"same": same, "kappa": cohen_kappa(a, b), "low": low, "high": high, "differ": differ}


def preferred(taken: Mapping[str, str], one: str, other: str) -> dict:
    """How often a rater took each system, and whether the difference is more than chance (rows called the same say nothing).

    Returns:
        {one: rows, other: rows, "same": rows, "p": two-sided sign test}.
    """
    won = {name: sum(choice == name for choice in taken.values()) for name in (one, other, "same")}
    test = mcnemar_exact([choice == other for choice in taken.values()], [choice == one for choice in taken.values()])
    return {**won, "p": test["p"]}


def left_share(ratings: Mapping[int, str]) -> Share:
    """How often a rater who saw a difference took the left side: about half, unless the side itself sways them.

    Raises:
        ValueError: no difference was seen anywhere.
    """
    return share([choice == "left" for choice in ratings.values() if choice != "same"])

"""Invented facts, person → city, for a pretraining text: the positive control. What was stated often enough must be recalled.

People and cities are made of syllables, so nothing about them can be known from elsewhere. Equal numbers of people are stated 1, 2, 4, …,
128 times; how many people there are follows from the share of the text that facts take. A fixed share matters: with the same exposures
spread through twice the text, recall of a tiny model fell to chance.

Source: Kandpal et al. (2023), Large Language Models Struggle to Learn Long-Tail Knowledge, for recall by exposure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ftlab.stats import share

EXPOSURES = (1, 2, 4, 8, 16, 32, 64, 128)
CITIES = 32  # few, so that a city's name is soon learnt and what is left to learn is whose it is; a guess is right in 3 %
MOST_ASKED = 60  # people asked about for each number of exposures
CONTROL = 0.5  # recall that the facts stated most often must reach, else nothing else that the model shows means anything
_FIRST = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve", "wi", "zo")
_LAST = ("bren", "dak", "fal", "gorn", "lim", "mund", "nok", "pel", "rusk", "stam", "tov", "vash", "wick", "zell")


@dataclass(frozen=True)
class Fact:
    """That `person` lives in `city`, stated `exposures` times."""

    person: str
    city: str
    exposures: int

    @property
    def question(self) -> str:
        """What a model that knows the fact continues with the city. No space at the end: it belongs to the next token."""
        return f"{self.person} lives in"

    @property
    def statement(self) -> str:
        return f"{self.question} {self.city}."


def invent(people: int, seed: int = 0) -> list[Fact]:
    """`people` facts, the numbers of exposures in turn. The first ones are the same however many are wanted."""
    draw = Random(f"facts-{seed}")
    cities = _names(CITIES, draw, (_LAST, _FIRST, _LAST))
    names = _names(people, draw, (_FIRST, _FIRST, (" ",), _LAST, _FIRST))
    homes = Random(f"homes-{seed}")
    return [Fact(name, homes.choice(cities), EXPOSURES[i % len(EXPOSURES)]) for i, name in enumerate(names)]


def _names(n: int, draw: Random, parts: Sequence[Sequence[str]]) -> list[str]:
    """n different names, a syllable of each part."""
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(draw.choice(part) for part in parts).title()] = None
    return list(found)


def people_for(tokens: float, tokens_a_statement: float) -> int:
    """How many people, a multiple of the numbers of exposures, make at most `tokens` tokens of statements; 0 if not even one each."""
    return int(tokens / (tokens_a_statement * sum(EXPOSURES))) * len(EXPOSURES)


def statements(facts: Sequence[Fact], seed: int = 0) -> list[str]:
    """Every statement as often as it is to be met, shuffled."""
    said = [fact.statement for fact in facts for _ in range(fact.exposures)]
    Random(f"statements-{seed}").shuffle(said)
    return said


def asked(facts: Sequence[Fact]) -> list[Fact]:
    """The facts that recall is measured on: the first `MOST_ASKED` of each number of exposures."""
    return [fact for n in EXPOSURES for fact in [f for f in facts if f.exposures == n][:MOST_ASKED]]


def recall(model: Any, tokenizer: Any, facts: Sequence[Fact]) -> dict:
    """Closed-book recall by exposure: whether the likeliest continuation, token by token, is the right city and a full stop.

    One forward pass tells: greedy decoding writes a text if and only if each of its tokens is the likeliest after those before it.

    Returns:
        {"by_exposure": {exposures: share}, "chance", "control": {"needed", "found", "passed"} for the facts stated most often}.
    """
    import torch

    hits: dict[int, list[bool]] = {}
    with torch.inference_mode():
        for fact in facts:
            known = [
                tokenizer.eos_token_id,
                *tokenizer(fact.question)["input_ids"],
            ]  # as in training: an end before, no space after
            ids = [*known, *tokenizer(f" {fact.city}.")["input_ids"]]
            best = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].argmax(-1).tolist()  # (T,)
            hits.setdefault(fact.exposures, []).append(best[len(known) - 1 : -1] == ids[len(known) :])
    shares = {str(n): share(hits[n]).as_dict() for n in sorted(hits)}
    most = shares[str(max(hits))]["share"]
    return {
        "by_exposure": shares, "chance": round(1 / CITIES, 4),
        "control": {"needed": CONTROL, "found": most, "passed": most >= CONTROL},
    }  # fmt: skip

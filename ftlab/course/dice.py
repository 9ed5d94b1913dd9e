"""A writer that knows nothing and throws dice wherever the form leaves it a choice: what constraints guarantee, and what they do not."""

import json
import random
import string

from ftlab.constrain import CopyGuard, CopyRules
from ftlab.rows import Row
from ftlab.task import Task

HELD = ("nothing", "form", "form and copies")
LONGEST = 18  # signs of a value
_SIGNS = string.ascii_lowercase + string.digits + "@.-"
_TEXT = "Please open the Help page and follow it."


class Dice:
    """Writes answers to `support_plan` rows by throwing dice.

    Args:
        held: "nothing": signs at random, about as many as an answer has; "form": keys, classes and the shape of values are given, what
            stands in them is thrown; "form and copies": a value is thrown sign by sign, of those that `constrain.CopyGuard` lets pass.

    Raises:
        ValueError: another word for `held`.
    """

    def __init__(self, task: Task, held: str, seed: int = 0):
        if held not in HELD:
            raise ValueError(f"Dice: expected held to be one of {', '.join(HELD)}, found {held!r}.")
        self.held, self.rng = held, random.Random(seed)
        self.intents = task.schema["properties"]["intent"]["enum"]
        self.names = list(task.schema["properties"]["entities"]["properties"])
        self.rules = CopyRules.of(task.rules)

    def write(self, row: Row) -> str:
        """One answer to the row's message, of which only the guard sees anything."""
        if self.held == "nothing":
            return "".join(self.rng.choice(_SIGNS + '{}":, ') for _ in range(120))
        guard = CopyGuard(self.rules, row.text)
        said = '{"entities": {'
        guard.feed(said)
        for name in self.rng.sample(self.names, self.rng.randrange(4)):
            said += self._value(guard, name, row.text, first=said.endswith("{"))
        rest = {"intent": self.rng.choice(self.intents), "missing_info": [], "next_step": _TEXT}
        return f"{said}}}, {json.dumps(rest)[1:]}"

    def _value(self, guard: CopyGuard, name: str, text: str, *, first: bool) -> str:
        """A key with its value, or "" if no sign may stand there."""
        digits = name == "card_last4"
        signs = string.digits if digits else _SIGNS if self.held == "form" else _plain(text)
        begun = f'"{name}": "' if first else f', "{name}": "'
        if not self._passing(guard, signs.replace(" ", ""), begun):
            return ""
        guard.feed(begun)
        value = ""
        longest = 4 if digits else self.rng.randint(3, LONGEST)
        while len(value) < longest and (
            passing := self._passing(guard, signs.replace(" ", "") if value[-1:] in ("", " ") else signs)
        ):
            sign = self.rng.choice(passing)
            guard.feed(sign)
            value += sign
        guard.feed('"')
        return f'{begun}{value}"'

    def _passing(self, guard: CopyGuard, signs: str, begun: str = "") -> list[str]:
        return list(signs) if self.held == "form" else [sign for sign in signs if guard.allows(begun + sign)]


def _plain(text: str) -> str:
    """The signs of a text that may stand in a JSON string as they are."""
    return "".join(sorted({sign for sign in text if sign.isprintable() and sign not in '"\\'}))

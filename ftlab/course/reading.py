"""Continued pretraining in small: a model of letters reads English, then running text in a notation that it has never seen."""

import random
from collections import Counter, defaultdict
from math import log2

_UNITS = ("C", "b", "l/m", "rpm")
_STATES = ("x", "o", "!", "?")


def shift_log(lines: int, seed: int = 0) -> str:
    """Made-up shift log of a plant: one line of marks an entry, such as `03:10 R2>78.4C P1x dP+0.3b`."""
    rng = random.Random(seed)
    said = []
    for _ in range(lines):
        entry = [f"{rng.randrange(24):02d}:{rng.randrange(0, 60, 5):02d}"]
        for _ in range(rng.randint(2, 4)):
            kind = rng.choice("RPVK")
            reading = f"{rng.choice('><=')}{rng.uniform(1, 99):.1f}{rng.choice(_UNITS)}"
            entry.append(f"{kind}{rng.randint(1, 9)}{reading if kind in 'RK' else rng.choice(_STATES)}")
        if rng.random() < 0.3:
            entry.append(f"dP{rng.choice('+-')}{rng.uniform(0, 1):.1f}b")
        said.append(" ".join(entry))
    return "\n".join(said) + "\n"


class Letters:
    """Gives the chance of the next letter from the letters before it, by counts of up to `order` of them, mixed by Witten and Bell's rule.

    Source: Witten & Bell (1991), The zero-frequency problem, IEEE Transactions on Information Theory 37(4).
    """

    def __init__(self, order: int = 4, signs: int = 200):
        self.order, self.signs = order, signs  # `signs`: how many different letters there may be at all
        self.followed: dict[str, Counter] = defaultdict(Counter)

    def read(self, text: str) -> "Letters":
        """Count in a text; reading more goes on from what was read."""
        for at, sign in enumerate(text):
            for back in range(min(self.order, at) + 1):
                self.followed[text[at - back : at]][sign] += 1
        return self

    def chance(self, before: str, sign: str) -> float:
        """P(sign | the letters before it): always above 0, and 1 in sum over `signs` letters."""
        p = 1 / self.signs
        for back in range(min(self.order, len(before)) + 1):
            if seen := self.followed.get(before[len(before) - back :]):
                kinds, n = len(seen), seen.total()
                p = (seen[sign] + kinds * p) / (n + kinds)
        return p

    def bits(self, text: str) -> float:
        """Mean surprise a letter of `text`, in bits: the loss of pretraining, to base two.

        Raises:
            ValueError: an empty text.
        """
        if not text:
            raise ValueError("bits: expected a text, found an empty one.")
        return -sum(log2(self.chance(text[max(0, at - self.order) : at], sign)) for at, sign in enumerate(text)) / len(text)

    def write(self, before: str, n: int = 60, seed: int = 0) -> str:
        """n letters that go on from `before`, drawn by their chances."""
        rng, said = random.Random(seed), before
        for _ in range(n):
            known = (said[len(said) - back :] for back in range(min(self.order, len(said)), -1, -1))
            seen = next(self.followed[context] for context in known if context in self.followed)
            said += rng.choices(list(seen), list(seen.values()))[0]
        return said[len(before) :]

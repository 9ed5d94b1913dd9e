"""Tokens drawn at random instead of the likeliest, so that one prompt has many answers; the same draws for the same seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from the model's probabilities, sharpened (below 1) or flattened (above 1) by the temperature.

    Raises:
        UsageError: a temperature that cannot be drawn at.
    """

    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"--temperature: expected a number above 0, found {self.temperature}; greedy answers need none.")


class DrawnChoice:
    """The drawn tokens of one batch (`constrain.Choice`). Each row has a source of its own: which rows stand beside it changes nothing.

    Args:
        rows: a number for each row of the batch; with the seed it decides the row's draws.
    """

    def __init__(self, sampling: Sampling, rows: Sequence[int]):
        import torch

        self.temperature = sampling.temperature
        # subtle: hashed, because neighbouring seeds of torch's generator begin alike
        digests = [hashlib.sha256(f"{sampling.seed} {row}".encode()).digest() for row in rows]
        self.sources = [torch.Generator().manual_seed(int.from_bytes(digest[:7])) for digest in digests]

    def __call__(self, rows: Sequence[int], logits: Any) -> list[int]:
        import torch

        probabilities = (logits / self.temperature).softmax(-1)  # (B, vocabulary)
        drawn = [torch.multinomial(p, 1, generator=self.sources[row]) for p, row in zip(probabilities, rows, strict=True)]
        return torch.cat(drawn).tolist()

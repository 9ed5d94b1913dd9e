"""What a row teaches under each way of masking: which tokens carry loss, how much, and which part of the row the loss comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from ftlab.errors import UsageError
from ftlab.models import LoadedModel
from ftlab.rows import Row
from ftlab.task import Task
from ftlab.train.settings import SftConfig
from ftlab.train.sft import encode_rows
from ftlab.xray import Position, Xray, of_examples

MASKINGS = {
    "answer": "loss on the answer only, as our loop trains",
    "everything": "loss on every token, as in pretraining",
}


def masked_xray(
    loaded: LoadedModel,
    task: Task,
    row: Row,
    masking: str = "answer",
    text_weight: float = SftConfig.text_weight,
    max_length: int = SftConfig.max_length,
) -> Xray:
    """The x-ray of one labelled row, masked as `MASKINGS` says; the model stays as it is.

    Args:
        text_weight: loss weight of the answer's free text.

    Raises:
        UsageError: an unknown masking, a weight below 0, or a row without a label.
        DataError: see `encode_rows`.
    """
    if masking not in MASKINGS:
        raise UsageError(f"masking: expected one of {', '.join(MASKINGS)}, found {masking!r}.")
    if not 0 <= text_weight < float("inf"):
        raise UsageError(f"text weight: expected a number from 0 on, found {text_weight}.")
    if row.output is None:
        raise UsageError(f"row {row.id}: expected a labelled row, found one without output; label it first.")
    ((ids, start, weights),) = encode_rows(task, [row], loaded.tokenizer, max_length, text_weight)
    if masking == "everything":  # the first token has nothing before it that could predict it
        start, weights = 1, [1.0] * (start - 1) + list(weights)
    return of_examples(f"sft ({masking})", loaded, [(ids, start, weights)], [row.id], [task.conversation(row)])


@dataclass(frozen=True)
class Part:
    """One part of a row: its tokens, how many carry loss, and its share of the weighted loss that a step lowers."""

    name: str
    tokens: int
    trained: int
    share: float


def parts(positions: Sequence[Position]) -> list[Part]:
    """The parts of a row, in the order in which they begin."""
    pull = {p.at: p.weight * p.loss for p in positions if p.loss is not None}
    total = fsum(pull.values())
    found = []
    for name in dict.fromkeys(p.part for p in positions):
        own = [p for p in positions if p.part == name]
        share = fsum(pull.get(p.at, 0.0) for p in own) / total if total else 0.0
        found.append(Part(name, len(own), sum(p.loss is not None for p in own), share))
    return found


def part_lines(found: Sequence[Part]) -> list[str]:
    """The parts as a table to read."""
    lines = [f"{'part':<10} {'tokens':>6} {'with loss':>9} {'share of the loss':>18}"]
    return lines + [f"{p.name:<10} {p.tokens:>6} {p.trained:>9} {100 * p.share:>16.1f} %" for p in found]

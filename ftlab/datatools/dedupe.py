"""`ftlab data dedupe`: the rows of one file without repetitions and without near copies of held-out rows."""

from dataclasses import dataclass

from ftlab.datatools.labels import same_answer, signs
from ftlab.datatools.lines import records
from ftlab.datatools.sets import Sets, role
from ftlab.datatools.similar import Pair, near_pairs

REASONS = {
    "exact": "the same message with the same answer as an earlier row",
    "near": "near the same message with the same answer as an earlier row",
    "held_out": "near a row that is held out for validation or test",
}


@dataclass(frozen=True)
class Dropped:
    """A row that is not kept, the reason (a key of `REASONS`), and the row that stays in its stead."""

    where: str
    reason: str
    kept: str
    similarity: float


def dedupe(sets: Sets, stem: str = "train", threshold: float = 0.8, seed: int = 0) -> tuple[list[dict], list[Dropped], int]:
    """Choose the rows of STEM.jsonl to keep.

    Twins (alike, but with another answer) teach a difference and stay. Of several alike rows the first stays. A row of a training file
    that is alike to a held-out one goes, and so does one of the validation file that is alike to a test row; never the other way round.

    Returns:
        kept records in the file's order, dropped rows, and the number of twins that stayed.

    Raises:
        UsageError, DataError: see `lines.records`.
    """
    everything = records(sets, stem)
    own = sets.files[stem]
    purpose = role(sets.folder, stem)
    guards = {"train": ("validation", "test"), "validation": ("test",), "test": ()}[purpose]
    held = [row for other, rows in sets.files.items() if role(sets.folder, other) in guards for row in rows]
    rows = [*own, *held]
    gone: dict[int, Dropped] = {}
    twins = 0
    # subtle: held-out rows decide first, then earlier rows before later ones; so a row that is gone takes no other with it: the chain
    # a ~ b ~ c loses b and keeps c unless a ~ c
    for pair in sorted(
        near_pairs([row.text for row in rows], threshold, seed), key=lambda pair: (pair.second < len(own), pair[:2])
    ):
        if pair.first >= len(own) or pair.first in gone or pair.second in gone:
            continue
        if pair.second < len(own) and not _same(sets, rows, pair):
            twins += 1
        else:
            drop = _dropped(rows, pair, len(own))
            gone[pair.first if drop.reason == "held_out" else pair.second] = drop
    kept = [record for i, record in enumerate(everything) if i not in gone]
    return kept, [gone[i] for i in sorted(gone)], twins


def _same(sets: Sets, rows: list, pair: Pair) -> bool:
    a, b = rows[pair.first], rows[pair.second]
    if sets.task is None or not (a.output and b.output):
        return True
    return same_answer(sets.task, a, b)


def _dropped(rows: list, pair: Pair, n: int) -> Dropped:
    first, second = rows[pair.first], rows[pair.second]
    if pair.second >= n:
        return Dropped(first.where, "held_out", second.where, pair.similarity)
    return Dropped(second.where, "exact" if signs(first) == signs(second) else "near", first.where, pair.similarity)

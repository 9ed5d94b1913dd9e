"""A learning rate for a method, chosen by short trainings: the rate that leaves the lowest loss on validation rows.

The test set has no part in it. Short runs bear higher rates than long ones, so the choice suits a run of about their length best.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from ftlab.errors import DataError
from ftlab.models import LoadedModel
from ftlab.task import Task, stratified
from ftlab.train.kept import read_kept, write_kept
from ftlab.train.loop import make_folder
from ftlab.train.settings import SftConfig, decisive
from ftlab.train.sft import train_sft

RATES = "rates.json"  # the trials, in a run's folder
STEP = math.sqrt(10)  # between neighbouring rates: a finer grid would choose by noise
MOST = 6  # trials: the default rate, its neighbours, and on from there while the edge is the best
TRIAL_ROWS, TRIAL_VALIDATION_ROWS = 160, 100


def choose_rate(
    task: Task,
    load: Callable[[], LoadedModel],
    config: SftConfig,
    folder: Path,
    *,
    rows: int = TRIAL_ROWS,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict:
    """Train a fresh model for one short pass at each rate around `config.learning_rate` and choose the one with the lowest loss.

    The ladder of rates goes on where its end is the best. qlora's rate is chosen with lora, whose matrices it trains. Finished trials are
    kept in `folder`, so that a choice that was interrupted goes on; what they trained is not.

    Args:
        load: gives the untuned model, anew for each trial.
        rows: training rows of a trial, in proportion to the classes; at most those of `config`.

    Returns:
        {"learning_rate", "tried": [{"learning_rate", "validation_loss" (None where it is no number)}] from low to high, "rows",
        "validation_rows", "at_edge" (true if a rate beyond the ladder might be better still)}.

    Raises:
        DataError: no rate leaves a finite loss.
        UsageError, DataError: see `train_sft`.
    """
    make_folder(folder)
    small = min(rows, config.train_rows or rows)
    method = "lora" if config.method == "qlora" else config.method
    config = replace(config, method=method, epochs=1, train_rows=small, general_rows=0)
    few = stratified(task.rows("validation"), min(TRIAL_VALIDATION_ROWS, len(task.rows("validation"))), task.class_field)
    part = replace(task, splits=task.splits | {"validation": tuple(few)})
    depends_on = [decisive(asdict(config)), task.hashes(), load().sha256, [row.id for row in few]]
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    losses: dict[int, float] = {int(k): v for k, v in (read_kept(folder / RATES, key) or {}).items()}  # by step on the ladder

    def best() -> int:
        return min(losses, key=lambda step: (_or_infinite(losses[step]), abs(step)))

    while (step := _next(losses, best)) is not None:
        trial = replace(config, learning_rate=_rate(config, step))
        losses[step] = _trial(part, load(), trial, folder, progress)
        say(f"learning rate {trial.learning_rate:g}: validation loss {losses[step]:.4f} after {small} rows")
        write_kept(folder / RATES, key, losses)
    if not math.isfinite(losses[best()]):
        lowest = _rate(config, min(losses))
        raise DataError(f"expected a learning rate with a finite loss on validation rows, found none from {lowest:g} up.")
    return {
        "learning_rate": _rate(config, best()),
        "tried": [
            {"learning_rate": _rate(config, step), "validation_loss": losses[step] if math.isfinite(losses[step]) else None}
            for step in sorted(losses)
        ],
        "rows": small, "validation_rows": len(few), "at_edge": best() in (min(losses), max(losses)),
    }  # fmt: skip


def _next(losses: dict[int, float], best: Callable[[], int]) -> int | None:
    """The next step of the ladder to try; None when the best has two neighbours or enough was tried."""
    for step in (0, -1, 1):
        if step not in losses:
            return step
    if len(losses) >= MOST:
        return None
    return {min(losses): min(losses) - 1, max(losses): max(losses) + 1}.get(best())


def _rate(config: SftConfig, step: int) -> float:
    return float(f"{config.learning_rate * STEP**step:.3g}")


def _or_infinite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _trial(task: Task, loaded: LoadedModel, config: SftConfig, folder: Path, progress: bool) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return train_sft(task, loaded, config, Path(scratch), progress=progress)["curve"][-1]["validation_loss"]

"""What a training run will take, before it is started: a few of its own steps are timed on this machine and added up.

Time is linear in a step's tokens to a good approximation (`docs/performance.md`), so steps of different sizes, timed, give a line; the plan
of the run gives the sizes of all its steps. Memory comes from `train.memory`.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ftlab.generate import generate
from ftlab.models import LoadedModel
from ftlab.task import Task, stratified
from ftlab.train.loop import plan_epoch
from ftlab.train.settings import SftConfig
from ftlab.train.sft import sft_run

TIMED_STEPS = 6
TIMED_ROWS = 16  # rows generated to time the score after each pass


def predict_cost(task: Task, loaded: LoadedModel, config: SftConfig) -> dict:
    """Seconds and peak memory that `train_sft` with these settings will take here, validation after each pass included.

    `loaded` comes back with LoRA matrices on it that a few steps have moved; load the model anew to train it.

    Returns:
        {"seconds", "parts": {"steps", "validation", "rehearsal"} in seconds, "steps", "tokens", "peak_memory_mb", "micro_tokens",
        "checkpoint"}. The time assumes that all passes are made; stopping early takes less.

    Raises:
        FtlabError: as `train_sft` would before its start.
    """
    held_out = stratified(task.rows("validation"), config.validation_rows or len(task.rows("validation")), task.class_field)
    per_row, rehearsal = _generation(task, loaded, config, held_out)
    with tempfile.TemporaryDirectory() as scratch:
        run, plan = sft_run(task, loaded, config, Path(scratch))
        sizes = [
            sum(run.lengths[i] for i in batch)
            for epoch in range(config.epochs)
            for batch in plan_epoch(run.lengths, config.batch_size, config.seed, epoch)
        ]
        fixed, per_token = _fitted(run, _spread(run, config))
    steps = fixed * len(sizes) + per_token * sum(sizes)
    validation = config.epochs * per_row * len(held_out)
    return {
        "seconds": round(steps + validation + rehearsal, 1),
        "parts": {"steps": round(steps, 1), "validation": round(validation, 1), "rehearsal": round(rehearsal, 1)},
        "steps": len(sizes), "tokens": sum(sizes), "peak_memory_mb": round(plan.peak_mb) if plan else None,
        "micro_tokens": plan.micro_tokens if plan else config.micro_tokens, "checkpoint": plan.checkpoint if plan else False,
    }  # fmt: skip


def _generation(task: Task, loaded: LoadedModel, config: SftConfig, held_out: Sequence) -> tuple[float, float]:
    """Seconds per validation row and seconds for all general rows, timed on a few labelled answers' worth of tokens."""
    rows = list(held_out[:TIMED_ROWS])
    tokens = max(len(loaded.tokenizer(task.completion(row))["input_ids"]) for row in rows)
    conversations = [task.conversation(row) for row in rows]
    generate(loaded, conversations[:2], max_new_tokens=2)  # builds the decoder
    started = time.perf_counter()
    answers = generate(loaded, conversations, max_new_tokens=min(tokens, config.max_new_tokens), batch_size=32)
    per_token = (time.perf_counter() - started) / sum(a.new_tokens for a in answers)
    labelled = sum(len(loaded.tokenizer(task.completion(row))["input_ids"]) for row in rows) / len(rows)
    return per_token * labelled, per_token * 64 * config.general_rows


def _spread(run: object, config: SftConfig) -> list[list[int]]:
    """Steps of the first pass from the smallest to the largest, evenly apart."""
    plan = sorted(plan_epoch(run.lengths, config.batch_size, config.seed, 0), key=lambda batch: sum(run.lengths[i] for i in batch))
    return [plan[round(k * (len(plan) - 1) / (TIMED_STEPS - 1))] for k in range(TIMED_STEPS)]


def _fitted(run: object, steps: Sequence[list[int]]) -> tuple[float, float]:
    """(seconds a step, seconds a token) by least squares over timed steps, the first run once before to warm up."""
    run.step(steps[0])
    points = []
    for batch in steps:
        started = time.perf_counter()
        run.step(batch)
        points.append((sum(run.lengths[i] for i in batch), time.perf_counter() - started))
    mean_x, mean_y = (sum(p[k] for p in points) / len(points) for k in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    if slope <= 0 or slope * mean_x > mean_y:  # steps too alike, or noise: the mean says all there is
        return (mean_y, 0.0) if slope <= 0 else (0.0, mean_y / mean_x)
    return mean_y - slope * mean_x, slope

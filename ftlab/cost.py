"""What a training run will take, before it is started: a few of its own steps are timed on this machine and added up.

Time is linear in a step's tokens to a good approximation (`docs/performance.md`), so steps of different sizes, timed, give a line; the plan
of the run gives the sizes of all its steps. Memory comes from `train.memory`.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.generate import encode_example, encode_prompt, generate
from ftlab.models import LoadedModel
from ftlab.task import Task, stratified
from ftlab.train.activations import keep_activations
from ftlab.train.examples import Example, shared_prefix
from ftlab.train.loop import Run, plan_epoch
from ftlab.train.memory import plan_training
from ftlab.train.rehearsal import ANSWER_TOKENS, longest_rehearsal, rehearsal_prompts
from ftlab.train.settings import SftConfig
from ftlab.train.sft import check_context, encode_rows, mean_loss, sft_run

TIMED_STEPS = 6
TIMED_ROWS = 32  # rows answered, or whose loss is computed, to time that: one batch of `eval_batch_size` by default


def predict_cost(task: Task, loaded: LoadedModel, config: SftConfig) -> dict:
    """Seconds and peak memory that `train_adapter` with these settings will take here, validation after each pass included.

    `loaded` comes back with LoRA matrices on it that a few steps have moved; load the model anew to train it.

    Returns:
        {"seconds", "parts": {"steps", "validation", "rehearsal"} in seconds, "steps", "tokens", "peak_memory_mb", "micro_tokens",
        "checkpoint"}. "steps" holds the states kept for the last layers too. The time assumes that all passes are made; stopping early
        takes less. Steps and tokens are exact without general rows; with them, answers are taken to be as long as the timed ones.

    Raises:
        FtlabError: as `train_sft` would before its start.
    """
    validation = encode_rows(task, task.rows("validation"), loaded.tokenizer, config.max_length)
    rows = stratified(task.rows("train"), config.train_rows or len(task.rows("train")), task.class_field)
    examples = encode_rows(task, rows, loaded.tokenizer, config.max_length)
    for those, encoded in ((task.rows("validation"), validation), (rows, examples)):
        check_context(loaded, those, encoded, config.max_new_tokens)
    bounds = [*examples.lengths, longest_rehearsal(loaded, config.general_rows, config.max_length)]
    plan = plan_training(loaded, bounds, config, last_layers=config.last_layers, method=config.method)
    answering = _answering(task, loaded, config)
    rehearsal, general = _rehearsal(loaded, config)
    lengths = [*examples.lengths, *general]
    sizes = [
        sum(lengths[i] for i in batch)
        for epoch in range(config.epochs)
        for batch in plan_epoch(lengths, config.batch_size, config.seed, epoch)
    ]
    few = min(len(examples), TIMED_STEPS * config.batch_size)
    timed = replace(config, general_rows=0, train_rows=few, micro_tokens=plan.micro_tokens if plan else config.micro_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        run, _ = sft_run(task, loaded, timed, Path(scratch))
        fixed, per_token = _fitted(run, _spread(run, timed))
        steps = fixed * len(sizes) + per_token * sum(sizes) + _keeping(loaded, run, Path(scratch)) * sum(lengths)
        scoring = config.epochs * (answering + _losses(run, validation))
    return {
        "seconds": round(steps + scoring + rehearsal, 1),
        "parts": {"steps": round(steps, 1), "validation": round(scoring, 1), "rehearsal": round(rehearsal, 1)},
        "steps": len(sizes), "tokens": sum(sizes), "peak_memory_mb": round(plan.peak_mb) if plan else None,
        "micro_tokens": timed.micro_tokens, "checkpoint": plan.checkpoint if plan else False,
    }  # fmt: skip


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def _answering(task: Task, loaded: LoadedModel, config: SftConfig) -> float:
    """Seconds to answer the validation rows that are scored after a pass, timed on a few labelled answers' worth of tokens."""
    held_out = stratified(task.rows("validation"), config.validation_rows or len(task.rows("validation")), task.class_field)
    rows = list(held_out[:TIMED_ROWS])
    labelled = [len(loaded.tokenizer(task.completion(row))["input_ids"]) for row in rows]
    conversations, limit = [task.conversation(row) for row in rows], min(max(labelled), config.max_new_tokens)
    generate(loaded, conversations[:2], max_new_tokens=2)  # builds the decoder
    seconds, answers = _seconds(lambda: generate(loaded, conversations, max_new_tokens=limit, batch_size=config.eval_batch_size))
    return seconds / sum(a.new_tokens for a in answers) * statistics.mean(labelled) * len(held_out)


def _rehearsal(loaded: LoadedModel, config: SftConfig) -> tuple[float, list[int]]:
    """(seconds to answer all general prompts, tokens of each general row), from the answers to a few of them."""
    prompts = [[{"role": "user", "content": text}] for text in rehearsal_prompts(config.general_rows)]
    if not prompts:
        return 0.0, []
    few = prompts[:TIMED_ROWS]
    seconds, answers = _seconds(lambda: generate(loaded, few, max_new_tokens=ANSWER_TOKENS, batch_size=config.eval_batch_size))
    # the text is encoded again, as `rehearsal_examples` does: a made-up word may take more tokens than it was generated with
    examples = [encode_example(loaded.tokenizer, prompt, a.text) for prompt, a in zip(few, answers, strict=True)]
    tokens = round(statistics.mean(len(ids) - start for ids, start in examples))
    lengths = [len(encode_prompt(loaded.tokenizer, prompt)) + tokens for prompt in prompts]
    return seconds / len(few) * len(prompts), [n for n in lengths if n <= config.max_length]


def _losses(run: Run, validation: Sequence[Example]) -> float:
    """Seconds to compute the loss on all validation rows, from a few of them."""
    few = validation[:TIMED_ROWS]
    seconds, _ = _seconds(lambda: mean_loss(run.loss, few, run.config.micro_tokens))
    return seconds * sum(len(ids) for ids, _, _ in validation) / sum(len(ids) for ids, _, _ in few)


def _keeping(loaded: LoadedModel, run: Run, scratch: Path) -> float:
    """Seconds a token to keep what enters the last layers; 0 if all layers are trained."""
    rows, last = [ids for ids, _, _ in run.items], run.config.last_layers
    prefix = shared_prefix(run.items)
    folder, quiet = scratch / "timed", {"micro_tokens": run.config.micro_tokens, "say": lambda text: None}
    seconds, kept = _seconds(lambda: keep_activations(loaded, rows, prefix, last, folder, **quiet))
    return seconds / sum(run.lengths) if kept else 0.0


def _spread(run: Run, config: SftConfig) -> list[list[int]]:
    """Steps of the first pass from the smallest to the largest, evenly apart."""
    plan = sorted(plan_epoch(run.lengths, config.batch_size, config.seed, 0), key=lambda batch: sum(run.lengths[i] for i in batch))
    return [plan[round(k * (len(plan) - 1) / (TIMED_STEPS - 1))] for k in range(TIMED_STEPS)]


def _fitted(run: Run, steps: Sequence[list[int]]) -> tuple[float, float]:
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

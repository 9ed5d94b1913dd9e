"""What a pretrained start is worth to tuning: the same rows and steps from pretrained weights and from random ones of the same shape.

Source: Hernandez et al. (2021), Scaling Laws for Transfer, for pretraining as data that need not be labelled.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from ftlab.errors import UsageError
from ftlab.evaluate import evaluate_tuned
from ftlab.models import LoadedModel, load_model
from ftlab.pretrain_study import effect
from ftlab.stats import crossed_bootstrap
from ftlab.task import Task, stratified
from ftlab.train.examples import Examples
from ftlab.train.kept import read_kept, write_kept
from ftlab.train.loop import micro_batches
from ftlab.train.loss import AnswerLoss
from ftlab.train.settings import SftConfig, decisive, sft_config
from ftlab.train.sft import encode_rows, train_sft

ROWS = (64, 512)  # training rows of an arm
STEPS = 100  # of sixteen rows each, however many rows there are
HELD_OUT = 300  # training rows that no arm is trained on: what is compared
SCORES = ("schema_valid", "class_right")
STARTS = ("random", "pretrained")


def head_start(
    task: Task,
    model: str,
    out: Path,
    *,
    rows: Sequence[int] = ROWS,
    seeds: int = 5,
    steps: int = STEPS,
    held_out: int = HELD_OUT,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """Tune every weight of `model` and of a model of its shape with random weights, on the same rows in the same order.

    The seed of an arm sets the random weights and the order of the rows. An arm that is finished is not trained again.

    Args:
        model: folder of a small pretrained model (`ftlab pretrain`).
        rows: numbers of training rows; each arm passes over them until `steps` steps are done.
        held_out: rows out of the training split that are compared and never trained on.

    Returns:
        {"task", "model_sha256", "parameters", "seeds", "steps", "held_out", "points": [{"rows", "arms": {start: [{"loss" (nats per answer
        token), score: share}]}, "loss" (random minus pretrained, see `pretrain_study.effect`), "scores": {score: {"difference"
        (pretrained minus random), "low", "high"}}}]}.

    Raises:
        UsageError: the task has too few training rows.
    """
    least = max(rows) + held_out
    if least > len(task.rows("train")):
        raise UsageError(
            f"head-start: expected {least} training rows at least, found {len(task.rows('train'))}; ask for fewer --rows."
        )
    pool = stratified(task.rows("train"), least, task.class_field)
    asked = stratified(pool, held_out, task.class_field)
    rest = [row for row in pool if row.id not in {row.id for row in asked}]
    found: dict[str, Any] = {}
    points = []
    for n in rows:
        part = replace(task, splits=task.splits | {"train": tuple(stratified(rest, n, task.class_field)), "test": tuple(asked)})
        arms: dict[str, list[dict]] = {start: [] for start in STARTS}
        for seed in range(seeds):
            for start in STARTS:
                config = _config(n, steps, seed, changes)
                loaded = load_model(model)
                found |= {"model_sha256": loaded.sha256, "parameters": sum(p.numel() for p in loaded.model.parameters())}
                arms[start].append(_arm(part, loaded, start, config, out / f"{start}-{n}-{seed}"))
                say(f"{n} rows, seed {seed}, {start}: loss {mean(arms[start][-1]['losses']):.3f}")
        points.append(_point(n, arms))
    return {"task": task.name, **found, "seeds": seeds, "steps": steps, "held_out": len(asked), "points": points}


def _config(rows: int, steps: int, seed: int, changes: dict) -> SftConfig:
    passes = max(1, round(steps * 16 / rows))
    fixed = {
        "method": "full", "learning_rate": 1e-3, "epochs": passes, "patience": passes, "batch_size": 16, "seed": seed,
        "text_weight": 1.0, "general_rows": 0, "train_rows": 0, "max_length": 2048, "micro_tokens": 8000,
    }  # fmt: skip
    return sft_config("cpu", **(fixed | changes))


def _arm(task: Task, loaded: LoadedModel, start: str, config: SftConfig, out: Path) -> dict:
    """{"losses": mean loss of each held-out row's answer, "right": {score: [whether, row by row]}}."""
    key = str([decisive(vars(config)), task.hashes(), loaded.sha256, start])
    if kept := read_kept(out / "arm.json", key):
        return kept
    if start == "random":
        _forget(loaded, config.seed)
    train_sft(task, loaded, config, out, progress=False)
    asked = task.rows("test")
    examples = encode_rows(task, asked, loaded.tokenizer, config.max_length)
    evaluation = evaluate_tuned(task, loaded, asked, max_new_tokens=config.max_new_tokens, constrain=False, cache=False)
    passes = {name: [row["passes"][name] for row in evaluation["rows"]] for name in SCORES}
    arm = {"losses": row_losses(loaded, examples, config.micro_tokens), "right": passes}
    write_kept(out / "arm.json", key, arm)
    return arm


def _forget(loaded: LoadedModel, seed: int) -> None:
    """Put random weights in the place of the model's own, drawn as its configuration says."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(loaded.model)(loaded.model.config)
    loaded.model, loaded.sha256 = fresh.eval(), f"random-{seed}"


def row_losses(loaded: LoadedModel, examples: Examples, micro_tokens: int) -> list[float]:
    """Mean cross-entropy of each example's answer, in nats per token."""
    import torch

    answer_loss = AnswerLoss(loaded, say=lambda text: None)
    found = [0.0] * len(examples)
    with torch.inference_mode():
        for piece in micro_batches(range(len(examples)), examples.lengths, micro_tokens):
            batch = [examples[i] for i in piece]
            parts = answer_loss.token_losses(batch).split([len(weights) for _, _, weights in batch])
            for i, losses in zip(piece, parts, strict=True):
                found[i] = losses.mean().item()
    return found


def _point(n: int, arms: dict[str, list[dict]]) -> dict:
    told = {
        start: [{"loss": mean(arm["losses"])} | {name: mean(arm["right"][name]) for name in SCORES} for arm in found]
        for start, found in arms.items()
    }
    losses = {start: [arm["losses"] for arm in found] for start, found in arms.items()}
    return {
        "rows": n, "arms": told, "loss": effect(losses["random"], losses["pretrained"]),
        "scores": {name: _difference(arms, name) for name in SCORES},
    }  # fmt: skip


def _difference(arms: dict[str, list[dict]], score: str) -> dict:
    pairs = zip(*([arm["right"][score] for arm in arms[start]] for start in STARTS), strict=True)
    gains = [[float(b) - float(a) for a, b in zip(before, after, strict=True)] for before, after in pairs]
    low, high = crossed_bootstrap(gains)
    return {"difference": mean(map(mean, gains)), "low": low, "high": high}


def head_start_text(found: dict) -> str:
    """The study in a few lines."""
    lines = [f"{found['parameters']:,} parameters, {found['seeds']} seeds, {found['held_out']} held-out rows of {found['task']}"]
    for point in found["points"]:
        e = point["loss"]
        lines.append(
            f"  {point['rows']} rows: loss of random minus loss of pretrained {e['difference']:+.3f} nats "
            f"({e['low']:+.3f} to {e['high']:+.3f}), {e['verdict']}"
        )
        for name, d in point["scores"].items():
            lines.append(f"    {name}: {100 * d['difference']:+.1f} points ({100 * d['low']:+.1f} to {100 * d['high']:+.1f})")
    return "\n".join(lines)

"""trl's trainers for reward models and for reinforcement learning, and runs of any trl trainer that log each step and can be resumed."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.artifact import write_json
from ftlab.device import Load, machine, plan_device
from ftlab.errors import DataError
from ftlab.models import LoadedModel
from ftlab.stock import import_trl, one_gpu, training_arguments
from ftlab.train.loop import plan_epoch

CHECKPOINTS = "checkpoints"  # of trl's trainers, in the run's folder


def reward_trainer(model: Any, tokenizer: Any, pairs: Sequence[Any], held_out: Sequence[Any], config: Any, out: Path) -> Any:
    """trl's RewardTrainer on pairs of token ids (`train.preference.Pair`), for a peft model that scores a text.

    Args:
        config: a `reward.RewardConfig`; its `log_every` steps are also those between two measurements of `held_out`.

    Raises:
        UsageError: trl is not installed.
    """
    trl = import_trl()
    from datasets import Dataset

    def rows(part: Sequence[Any]) -> Any:
        return Dataset.from_list([{"chosen_ids": [*p.prompt, *p.chosen], "rejected_ids": [*p.prompt, *p.rejected]} for p in part])

    watch = {"eval_strategy": "steps", "eval_steps": config.log_every, "per_device_eval_batch_size": config.batch_size}
    plan = plan_device(machine(), Load.of(model), batch_size=config.batch_size, row_tokens=2 * config.max_length, rows=len(pairs))
    arguments = training_arguments(config, out, plan) | _checkpointed(out, config.log_every) | (watch if held_out else {})
    arguments["max_length"] = None  # trl leaves out longer pairs silently; ours were refused before
    # subtle: trl's own grouping by length takes another order after a pause, so the steps are planned here, the same in each pass
    steps = plan_epoch([p.tokens for p in pairs], config.batch_size, config.seed, 0)
    order = [i for step in sorted(steps, key=len, reverse=True) for i in step]  # a short step last, or all after it would be mixed
    return trl.RewardTrainer(
        model=model,
        args=one_gpu(trl.RewardConfig(**arguments, train_sampling_strategy="sequential", logging_steps=config.log_every)),
        train_dataset=rows([pairs[i] for i in order]),
        eval_dataset=rows(held_out) if held_out else None,
        processing_class=tokenizer,
    )


def grpo_trainer(loaded: LoadedModel, rows: Sequence[dict], rewards: Sequence[Callable], config: Any, out: Path) -> Any:
    """trl's GRPOTrainer on rows {"prompt": chat, **columns that the rewards ask for}, LoRA already on `loaded`.

    Args:
        rewards: functions (prompts, completions, **columns) -> one number a completion; each counts alike.
        config: an `rl.RlConfig`; a step takes `prompts` prompts, each answered `generations` times.

    Raises:
        UsageError: trl is not installed.
    """
    trl = import_trl()
    from datasets import Dataset

    plan = plan_device(machine(), Load.of(loaded.model), batch_size=config.batch_size, row_tokens=config.max_length)
    arguments = training_arguments(config, out, plan) | _checkpointed(out, config.save_every)
    for name in ("num_train_epochs", "max_length"):  # the steps are counted, and prompts were measured before
        del arguments[name]
    arguments |= {"per_device_train_batch_size": config.batch_size, "gradient_accumulation_steps": 1}
    arguments |= {"max_steps": config.steps, "logging_steps": 1}
    return trl.GRPOTrainer(
        model=loaded.model,
        reward_funcs=list(rewards),
        args=one_gpu(
            trl.GRPOConfig(
                **arguments, num_generations=config.generations, max_completion_length=config.max_new_tokens,
                temperature=config.temperature, beta=config.kl, reward_weights=[1 / len(rewards)] * len(rewards),
            )
        ),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=loaded.tokenizer,
    )  # fmt: skip


def _checkpointed(out: Path, every: int) -> dict:
    """Training arguments by which a trainer logs and keeps its last checkpoint."""
    return {
        "output_dir": str(out / CHECKPOINTS), "save_strategy": "steps", "save_steps": every, "save_total_limit": 1,
        "logging_strategy": "steps",
    }  # fmt: skip


def train_logged(trainer: Any, *, every: int = 1, checkpoint: str | None = None) -> tuple[list[dict], float]:
    """Train to the end. Returns (what the trainer logged, each with its "step"; seconds)."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if trainer.args.logging_strategy == "no":
        trainer.args.logging_strategy, trainer.args.logging_steps = "steps", every
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer.state.log_history, round(time.monotonic() - started, 1)


def train_resumable(trainer: Any, out: Path, origin: dict, *, resume: bool) -> tuple[list[dict], float]:
    """`train_logged`, going on from the last checkpoint in `out` if it is of the same origin; the checkpoints are gone in the end.

    Raises:
        DataError: the checkpoint belongs to another run.
    """
    from transformers.trainer_utils import get_last_checkpoint

    folder, told = out / CHECKPOINTS, out / CHECKPOINTS / "origin.json"
    found = get_last_checkpoint(str(folder)) if resume and told.exists() else None
    if found:
        then, now = json.loads(told.read_text(encoding="utf-8")), json.loads(json.dumps(origin))
        if different := [key for key in now if now[key] != then.get(key)]:
            raise DataError(
                f"{folder}: made with other {', '.join(different)}; use the same, or another --out, or leave out --resume."
            )
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(told, origin)
    log, seconds = train_logged(trainer, checkpoint=found)
    shutil.rmtree(folder)
    return log, seconds

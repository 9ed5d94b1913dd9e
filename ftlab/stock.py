"""The stock way, through trl and transformers alone: what the benchmark measures against, and the trainer for machines that our own
loop is not made for (GPUs, several devices).

Settings are those that a careful user of trl would choose on the device at hand; nothing is made slow on purpose.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.artifact import lineage_origin, read_lineage, save_adapter_weights, write_lineage
from ftlab.errors import UsageError
from ftlab.evaluate import curve_scores
from ftlab.lora import add_lora
from ftlab.models import LoadedModel
from ftlab.task import Task, stratified
from ftlab.train.loop import make_folder
from ftlab.train.loss import AnswerLoss, Example
from ftlab.train.rehearsal import rehearsal_examples
from ftlab.train.settings import SftConfig
from ftlab.train.sft import REHEARSAL, encode_rows, mean_loss


def import_trl() -> Any:
    try:
        import trl
    except ImportError:
        raise UsageError("the stock trainers need trl, which is not installed; run: pip install 'ftlab[trl]'") from None
    return trl


def lora_config(rank: int, alpha: int) -> Any:
    """The LoRA that `ftlab.lora.add_lora` makes on all layers, as a configuration for trl."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def training_arguments(config: Any, out: Path) -> dict:
    """Training arguments that trl's trainers share: 32-bit on a CPU, bfloat16 on a GPU; nothing is logged or sent anywhere.

    A step's batch is shared out among the processes, if there are several.
    """
    import torch

    gpu, processes = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % processes:
        raise UsageError(
            f"--batch-size: expected a multiple of the {processes} processes, which share it out, found {config.batch_size}."
        )
    return {
        "output_dir": str(out), "per_device_train_batch_size": config.batch_size // processes, "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate, "warmup_steps": config.warmup, "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length, "use_cpu": not gpu, "bf16": gpu, "gradient_checkpointing": False, "seed": config.seed,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": gpu,
    }  # fmt: skip


def sft_trainer(loaded: LoadedModel, examples: Sequence[Example], config: SftConfig, out: Path) -> Any:
    """trl's SFTTrainer on the very same tokens, labels and LoRA matrices: rows grouped by length, loss on the answers.

    Loss weights other than 1 have no place in trl's trainer.

    Raises:
        UsageError: trl is not installed, or an example carries another weight than 1.
    """
    trl = import_trl()
    from datasets import Dataset

    if any(w != 1.0 for _, _, weights in examples for w in weights):
        raise UsageError(
            "--trainer trl: expected text_weight 1, since trl's trainer weighs every token alike; set --text-weight 1."
        )
    rows = [{"input_ids": list(ids), "labels": [-100] * start + list(ids[start:])} for ids, start, _ in examples]
    arguments = trl.SFTConfig(**training_arguments(config, out), train_sampling_strategy="group_by_length")
    return trl.SFTTrainer(
        model=add_lora(loaded.model, rank=config.rank, alpha=config.alpha, seed=config.seed, last_layers=config.last_layers),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
    )


def train_trl(task: Task, loaded: LoadedModel, config: SftConfig, out: Path, *, profile_name: str) -> dict:
    """Train with trl's SFTTrainer and leave the adapter with its lineage in `out`; every token of an answer weighs alike.

    All passes are made and only the last one is scored. `loaded` is left on the CPU, with the adapter on it.

    Returns:
        the lineage; its "training" is that of `train_sft` and "trainer", its curve has one point.

    Raises:
        UsageError: trl is not installed, `out` cannot be made, or a memory limit is set, which trl knows nothing of.
        DataError: over-length rows.
    """
    import_trl()
    make_folder(out)
    if config.memory_limit:
        raise UsageError(
            f"--trainer trl: expected no memory limit, since trl's trainer cannot keep one, found {config.memory_limit} MB; "
            "set --memory-limit 0."
        )
    config = replace(config, text_weight=1.0)
    rows = stratified(task.rows("train"), config.train_rows or len(task.rows("train")), task.class_field)
    examples = encode_rows(task, rows, loaded.tokenizer, config.max_length)
    validation = encode_rows(task, task.rows("validation"), loaded.tokenizer, config.max_length)
    examples += rehearsal_examples(
        loaded, config.general_rows, out / REHEARSAL, config.max_length, batch_size=config.eval_batch_size
    )
    trainer = sft_trainer(loaded, examples, config, out)
    started = time.monotonic()
    done = trainer.train()
    seconds = time.monotonic() - started
    loaded.model = trainer.model.to("cpu").eval()
    save_adapter_weights(loaded.model, out)
    (out / REHEARSAL).unlink(missing_ok=True)
    held_out = stratified(task.rows("validation"), config.validation_rows or len(task.rows("validation")), task.class_field)
    losses = {"train_loss": done.training_loss, "validation_loss": mean_loss(AnswerLoss(loaded), validation, config.micro_tokens)}
    training = {
        "trainer": "trl", "curve": [{"epoch": config.epochs, **losses, **curve_scores(task, loaded, held_out, config)}],
        "best_epoch": config.epochs, "steps": done.global_step, "tokens": config.epochs * sum(len(ids) for ids, _, _ in examples),
        "seconds": round(seconds, 1), "rows": len(rows), "general_rows": len(examples) - len(rows), "validation_rows": len(held_out),
    }  # fmt: skip
    write_lineage(out, lineage_origin(task, loaded, config, profile_name) | {"training": training})
    return read_lineage(out)


def dpo_trainer(loaded: LoadedModel, pairs: Sequence[dict], config: Any, out: Path) -> Any:
    """trl's DPOTrainer on texts {"prompt", "chosen", "rejected"}, with an SFT term.

    One process computes the reference once, several compute it step by step.
    LoRA matrices that `loaded` carries are tuned further, from where they stand; else new ones are added.

    Raises:
        UsageError: trl is not installed.
    """
    trl = import_trl()
    from datasets import Dataset

    arguments = trl.DPOConfig(
        **training_arguments(config, out), beta=config.beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, config.sft_weight],
        # subtle: trl keeps what it computed in a temporary folder of the first process, where others do not find it
        precompute_ref_log_probs=int(os.environ.get("WORLD_SIZE", "1")) == 1,
    )  # fmt: skip
    return trl.DPOTrainer(
        model=loaded.model,
        args=arguments,
        train_dataset=Dataset.from_list(list(pairs)),
        processing_class=loaded.tokenizer,
        peft_config=None if hasattr(loaded.model, "peft_config") else lora_config(config.rank, config.alpha),
    )


def hf_generate(loaded: LoadedModel, conversations: Sequence[Sequence[dict]], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Greedy answers by transformers' `generate`, prompts of like length together and padded on the left."""
    import torch

    tokenizer, model = loaded.tokenizer, loaded.model
    prompts = [tokenizer.apply_chat_template(list(c), tokenize=False, add_generation_prompt=True) for c in conversations]
    order, answers = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer(
            [prompts[i] for i in rows], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
        for i, ids in zip(rows, out[:, batch["input_ids"].shape[1] :], strict=True):
            answers[i] = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return answers

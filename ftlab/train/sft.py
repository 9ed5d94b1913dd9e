"""Supervised fine-tuning on a task's rows: loss on the answer only, exact, and as little computed as that allows.

Rows of like length stand together, the LM head runs on labelled positions only, and the fast decoder (`llama`) does the rest where it
applies. None of it changes the gradient.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ftlab.artifact import adapter_identity, attach_adapter, lora_settings
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example
from ftlab.lora import make_trainable
from ftlab.models import EMBEDDED, TINY, LoadedModel, free_disk
from ftlab.rows import Row
from ftlab.task import Task, stratified
from ftlab.train.activations import ACTIVATIONS, keep_activations
from ftlab.train.examples import Example, Examples, shared_prefix
from ftlab.train.loop import Run, make_folder, micro_batches
from ftlab.train.loss import AnswerLoss
from ftlab.train.memory import Plan, plan_training
from ftlab.train.rehearsal import longest_rehearsal, rehearsal_examples
from ftlab.train.settings import SftConfig, decisive

REHEARSAL = "rehearsal.json"  # answers of the untuned model, kept while a run may be resumed
STORED = 7  # times the weights on disk: the best ones, a checkpoint with two moments each, and the next checkpoint being written


def encode_rows(task: Task, rows: Sequence[Row], tokenizer: Any, max_length: int, text_weight: float = 1.0) -> Examples:
    """Each row as (input_ids, prompt_length, weights), with the short prompt.

    Args:
        text_weight: loss weight of the answer's free text (the task's last key, if no field check compares it); 1 elsewhere.

    Raises:
        DataError: rows longer than `max_length` tokens, all of them named; none is cut.
    """
    examples = Examples()
    for row in rows:
        ids, start = encode_example(tokenizer, task.conversation(row), task.completion(row))
        free = len(tokenizer(task.free_text(row), add_special_tokens=False)["input_ids"])
        # the end token keeps its full weight: an answer that does not end is broken, however well it is worded
        examples.append((ids, start, [1.0] * (len(ids) - start - free - 1) + [text_weight] * free + [1.0]))
    long = [f"{rows[i].where}: {tokens} tokens" for i, tokens in enumerate(examples.lengths) if tokens > max_length]
    if long:
        raise DataError(f"{len(long)} row(s) are longer than {max_length} tokens; shorten them or raise --max-length:", long)
    return examples


def check_context(loaded: LoadedModel, rows: Sequence[Row], examples: Examples, max_new_tokens: int) -> None:
    """Each row, and each prompt with an answer of up to `max_new_tokens`, has room in the model's context.

    Raises:
        DataError: the longest has not.
    """
    room = getattr(loaded.model.config, "max_position_embeddings", None)
    needs = [max(n, start + max_new_tokens) for n, start in zip(examples.lengths, examples.starts, strict=True)]
    longest = max(range(len(needs)), key=needs.__getitem__)
    if room and needs[longest] > room:
        tokens, start = examples.lengths[longest], examples.starts[longest]
        raise DataError(
            f"{rows[longest].where}: expected at most {room} tokens, the model's context, found {tokens} in the row and "
            f"{start} + {max_new_tokens} in its prompt and a generated answer; shorten the row or its prompt, or lower max_new_tokens."
        )


def mean_loss(answer_loss: AnswerLoss, examples: Sequence[Example], micro_tokens: int) -> float:
    """Mean cross-entropy in nats per answer token (by weight) over all examples."""
    import torch

    lengths = [len(ids) for ids, _, _ in examples]
    total = count = 0.0
    with torch.inference_mode():
        for piece in micro_batches(range(len(examples)), lengths, micro_tokens):
            loss, n = answer_loss([examples[i] for i in piece])
            total, count = total + loss.item(), count + n
    return total / count


def sft_run(
    task: Task, loaded: LoadedModel, config: SftConfig, out: Path, *, adapter: Path | None = None, resume: bool = False
) -> tuple[Run, Plan | None]:
    """A run that is ready for its first step: rows encoded, general rows answered, memory planned, `loaded` made trainable.

    Args:
        adapter: the adapter to go on from, of which `config` must have come from `going_on`.

    Returns:
        (the run, the memory plan; None for architectures that no estimate is made for).

    Raises:
        UsageError: `out` cannot be made or is the base model's own folder, there is too little memory (says what to lower), the method
            is qlora, which `ftlab.stock.train_trl` trains, or `adapter` is not of the settings' kind.
        DataError: over-length rows, a checkpoint of another run, or too little disk.
    """
    if config.method == "qlora":
        raise UsageError("--method qlora: expected trl's trainer, which loads the model in 4 bits, found our own; use ftlab train.")
    make_folder(out)
    check_folder(loaded, config, out)
    rows = stratified(task.rows("train"), config.train_rows or len(task.rows("train")), task.class_field)
    examples = encode_rows(task, rows, loaded.tokenizer, config.max_length, config.text_weight)
    check_context(loaded, rows, examples, config.max_new_tokens)
    prefix = shared_prefix(examples)
    start = adapter_identity(adapter) if adapter else None
    origin = {"config": decisive(asdict(config)), "task": task.hashes(), "base": loaded.sha256, "start": start}
    # before anything is generated: too little memory is said at once, and what generating takes is not counted as held
    lengths = [*examples.lengths, longest_rehearsal(loaded, config.general_rows, config.max_length)]
    plan = plan_training(loaded, lengths, config, last_layers=config.last_layers, method=config.method)
    if plan:
        config = replace(config, micro_tokens=plan.micro_tokens)
    keep = out / REHEARSAL
    examples.extend(rehearsal_examples(loaded, config.general_rows, keep, config.max_length, batch_size=config.eval_batch_size))
    if adapter:
        attach_adapter(loaded, adapter)  # now, because the untuned model had to answer the general rows
    else:
        loaded.model = make_trainable(loaded.model, config)
    run = Run(
        loaded.model,
        config,
        out,
        items=examples,
        lengths=examples.lengths,
        weights=[sum(weights) for _, _, weights in examples],
        origin=origin,
        score=lambda point: point.get("strict", -point["validation_loss"]),
    )
    if resume:
        run.load()
    ids = [ids for ids, _, _ in examples] if config.last_layers else []
    states = keep_activations(loaded, ids, prefix, config.last_layers, out / ACTIVATIONS, micro_tokens=config.micro_tokens)
    options = {"whole": config.method == "full", "checkpoint": bool(plan and plan.checkpoint), "activations": states}
    run.loss = AnswerLoss(loaded, prefix, **options)
    return run, plan


def check_folder(loaded: LoadedModel, config: SftConfig, out: Path) -> None:
    """Whole weights have room in `out`, with their checkpoint, and do not overwrite those that they are tuned from.

    Raises:
        UsageError: `out` is the folder of the base model.
        DataError: too little disk.
    """
    if config.method != "full":
        return
    if loaded.name not in (TINY, EMBEDDED) and out.resolve() == Path(loaded.name).resolve():
        raise UsageError(f"--out: expected another folder than the base model's, whose weights would be overwritten, found {out}.")
    free_disk(out, STORED * sum(p.numel() * p.itemsize for p in loaded.model.parameters()))


def going_on(config: SftConfig, adapter: Path) -> SftConfig:
    """The settings of a training that goes on from an adapter: with its rank, scale and kind, since its matrices are what is tuned.

    Raises:
        UsageError: no adapter there, or one of another method than plain or rank-stabilised LoRA on all layers.
        DataError: its settings cannot be read.
    """
    kind = lora_settings(adapter)
    method = "rslora" if kind.use_rslora else "lora"
    if config.method not in ("lora", "rslora") or kind.use_dora or kind.layers_to_transform:
        found = "dora" if kind.use_dora else "lora-last" if kind.layers_to_transform else method
        raise UsageError(
            f"--adapter {adapter}: expected lora or rslora on all layers, of the adapter and as --method, found {found} and "
            f"{config.method}; choose another adapter, or leave out --method."
        )
    return replace(config, method=method, rank=kind.r, alpha=kind.lora_alpha)


def train_sft(
    task: Task,
    loaded: LoadedModel,
    config: SftConfig,
    out: Path,
    *,
    adapter: Path | None = None,
    resume: bool = False,
    score: Callable[[LoadedModel], dict] | None = None,
    progress: bool = True,
) -> dict:
    """Tune `loaded` on the task's training rows; the best adapter (or model) by validation score ends up in `out`.

    Args:
        loaded: the base model; on return its `model` is a peft model that carries the best adapter, or itself tuned in full.
        out: folder for adapter_model.safetensors and adapter_config.json (full: what `load_model` takes) and checkpoint.safetensors (for
            resuming; removed at the end).
        adapter: the adapter whose matrices are tuned further, instead of new ones; `config` comes from `going_on` then. Tuning on a
            related task first is worth most where the task's own rows are few: Phang et al. (2018), Sentence Encoders on STILTs.
        resume: go on from the checkpoint in `out`, which must come from the same settings and rows.
        score: scores generated text after each pass; returns numbers with the key "strict" (higher is better). Without it the
            negative validation loss decides.
        progress: show a bar with the time left, and say what memory is expected.

    Returns:
        {"curve": [{"epoch", "train_loss", "validation_loss", **scores}], "best_epoch", "steps", "tokens", "seconds", "rows",
        "general_rows"}.

    Raises:
        UsageError, DataError: see `sft_run`.
        KeyboardInterrupt: after the state was saved.
    """
    out = Path(out)
    held_out = encode_rows(task, task.rows("validation"), loaded.tokenizer, config.max_length)
    check_context(loaded, task.rows("validation"), held_out, config.max_new_tokens)
    run, plan = sft_run(task, loaded, config, out, adapter=adapter, resume=resume)
    if plan and progress:
        print(plan, flush=True)

    def measure() -> dict:
        scores = {"validation_loss": mean_loss(run.loss, held_out, run.config.micro_tokens)}
        return scores | (score(loaded) if score else {})

    run.train(measure, patience=config.patience, progress=progress)
    if config.method == "full":
        loaded.tokenizer.save_pretrained(out)
    (out / REHEARSAL).unlink(missing_ok=True)
    shutil.rmtree(out / ACTIVATIONS, ignore_errors=True)
    rows = min(config.train_rows or len(task.rows("train")), len(task.rows("train")))
    return run.summary() | {"rows": rows, "general_rows": len(run.items) - rows}

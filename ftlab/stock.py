"""The stock way, through trl and transformers alone: what the benchmark measures against, and the trainer for machines that our own
loop is not made for (GPUs, several devices).

Settings are those that a careful user of trl would choose on the device at hand; nothing is made slow on purpose.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.artifact import lineage_origin, read_lineage, read_tuned, save_tuned, write_lineage
from ftlab.chat import prompt_text
from ftlab.device import Load, Plan, is_main, machine, place, plan_device, settle
from ftlab.errors import UsageError
from ftlab.evaluate import curve_scores
from ftlab.lora import make_trainable
from ftlab.models import TINY, LoadedModel, load_model, model_folder
from ftlab.task import Task, stratified
from ftlab.train.examples import Example
from ftlab.train.loop import make_folder
from ftlab.train.loss import AnswerLoss
from ftlab.train.rehearsal import rehearsal_examples
from ftlab.train.settings import SftConfig
from ftlab.train.sft import REHEARSAL, check_folder, encode_rows, mean_loss


def import_trl() -> Any:
    try:
        import trl
    except ImportError:
        raise UsageError("the stock trainers need trl, which is not installed; run: pip install 'ftlab[trl]'") from None
    return trl


def check_quantised(config: SftConfig) -> None:
    """The method qlora has what it needs: a GPU with CUDA, bitsandbytes, a model on disk or on a hub is loaded in 4 bits there.

    Raises:
        UsageError: it has not.
    """
    if config.method != "qlora":
        return
    import torch

    lacking = []
    if not torch.cuda.is_available():
        lacking.append("no such GPU")
    if importlib.util.find_spec("bitsandbytes") is None:
        lacking.append("no bitsandbytes")
    if lacking:
        raise UsageError(
            f"--method qlora: expected a GPU with CUDA and the package bitsandbytes, found {' and '.join(lacking)}; take --method lora."
        )


def quantised_model(loaded: LoadedModel) -> Any:
    """The model of `loaded` anew, in 4 bits on the GPU and ready for LoRA.

    Raises:
        UsageError: it is the tiny model, which is made in memory and has no weights on disk to load in 4 bits.

    Source: Dettmers et al. (2023), QLoRA, section 3: NF4, double quantisation, 16-bit products.
    """
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if loaded.name == TINY:
        raise UsageError("--method qlora: expected a model with weights on disk or on a hub, found tiny; choose another --model.")
    source = str(model_folder(loaded.name))
    bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=bits, device_map={"": 0}, trust_remote_code=False)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def lora_config(rank: int, alpha: int) -> Any:
    """The LoRA that `ftlab.lora.add_lora` makes on all layers, as a configuration for trl."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def training_arguments(config: Any, out: Path, plan: Plan) -> dict:
    """Training arguments that trl's trainers share, the device's (`device.plan_device`) among them; nothing is logged or sent anywhere."""
    return {
        "output_dir": str(out), "num_train_epochs": config.epochs, "learning_rate": config.learning_rate, "warmup_steps": config.warmup,
        "max_grad_norm": config.max_grad_norm, "max_length": config.max_length, "seed": config.seed, "report_to": "none",
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
    } | plan.arguments()  # fmt: skip


def one_gpu(arguments: Any) -> Any:
    """Training arguments by which a process uses one GPU: one that sees several would spread each batch over them (DataParallel), which
    trl refuses."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def sft_trainer(
    loaded: LoadedModel, examples: Sequence[Example], config: SftConfig, out: Path, say: Callable[[str], None] | None = None
) -> Any:
    """trl's SFTTrainer on the very same tokens, labels and trained weights: rows grouped by length, loss on the answers.

    Loss weights other than 1 have no place in trl's trainer. What the device decides is told to `say`, a line for each choice.

    Raises:
        UsageError: trl is not installed, an example carries another weight than 1, or see `quantised_model`.
    """
    trl = import_trl()
    from datasets import Dataset

    if any(w != 1.0 for _, _, weights in examples for w in weights):
        raise UsageError(
            "--trainer trl: expected text_weight 1, since trl's trainer weighs every token alike; set --text-weight 1."
        )
    base = quantised_model(loaded) if config.method == "qlora" else loaded.model
    rows = [{"input_ids": list(ids), "labels": [-100] * start + list(ids[start:])} for ids, start, _ in examples]
    model = make_trainable(base, config)
    longest = max((len(ids) for ids, _, _ in examples), default=config.max_length)
    plan = plan_device(machine(), Load.of(model), batch_size=config.batch_size, row_tokens=longest, rows=len(rows))
    if say:
        say("\n".join(plan.explain()))
    settle(model, plan)
    trainer = _grouped(trl.SFTTrainer)(
        model=model,
        args=one_gpu(trl.SFTConfig(**training_arguments(config, out, plan), train_sampling_strategy="group_by_length")),
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
    )
    trainer.plan = plan
    return trainer


def _grouped(trainer: type) -> type:
    """trl's trainer, its rows grouped by length within the batches of all processes together: transformers groups within those of one
    process, so that two processes would take other steps than one."""
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class Grouped(trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            data, args = train_dataset or self.train_dataset, self.args
            batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            order = torch.Generator().manual_seed(args.seed)  # its own, so that nothing else that is drawn moves it
            return LengthGroupedSampler(batch, lengths=[len(ids) for ids in data["input_ids"]], generator=order)

    return Grouped


def train_trl(
    task: Task, loaded: LoadedModel, config: SftConfig, out: Path, *, profile_name: str, say: Callable[[str], None] = print
) -> dict:
    """Train with trl's SFTTrainer and leave the adapter (or model) with its lineage in `out`; every token of an answer weighs alike.

    All passes are made and only the last one is scored. `loaded` is left where it was trained, with the adapter on it; after qlora that
    is the adapter beside weights in 32 bits. Where `accelerate launch` started several processes, all of them train and the main one alone
    writes, scores and speaks.

    Returns:
        the lineage; its "training" is that of `train_sft`, "trainer" and "device" (what was chosen for it); its curve has one point.

    Raises:
        UsageError: trl is not installed, `out` cannot be made, a memory limit is set, which trl knows nothing of, or qlora lacks something.
        DataError: over-length rows, or too little disk.
    """
    check_quantised(config)
    import_trl()
    make_folder(out)
    check_folder(loaded, config, out)
    if config.memory_limit:
        raise UsageError(
            f"--trainer trl: expected no memory limit, since trl's trainer cannot keep one, found {config.memory_limit} MB; "
            "set --memory-limit 0."
        )
    config = replace(config, text_weight=1.0)
    rows = stratified(task.rows("train"), config.train_rows or len(task.rows("train")), task.class_field)
    examples = encode_rows(task, rows, loaded.tokenizer, config.max_length)
    validation = encode_rows(task, task.rows("validation"), loaded.tokenizer, config.max_length)
    say = say if is_main() else lambda line: None
    place(loaded.model)
    with _main_first():  # its answers are kept in a file, where the others find them
        general = rehearsal_examples(
            loaded, config.general_rows, out / REHEARSAL, config.max_length, batch_size=config.eval_batch_size
        )
    examples.extend(general)
    trainer = sft_trainer(loaded, examples, config, out, say)
    started = time.monotonic()
    done = trainer.train()
    seconds = time.monotonic() - started
    train_loss = _mean_over_processes(trainer, done.training_loss)
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.plan.machine.sharded else None  # by all of them together
    if is_main():
        _take_tuned(loaded, trainer.accelerator.unwrap_model(trainer.model).eval(), state, config, out)
        (out / REHEARSAL).unlink(missing_ok=True)
        held_out = stratified(task.rows("validation"), config.validation_rows or len(task.rows("validation")), task.class_field)
        losses = {
            "train_loss": train_loss,
            "validation_loss": mean_loss(AnswerLoss(loaded), validation, config.micro_tokens),
        }
        training = {
            "trainer": "trl", "device": trainer.plan.as_dict(),
            "curve": [{"epoch": config.epochs, **losses, **curve_scores(task, loaded, held_out, config)}],
            "best_epoch": config.epochs, "steps": done.global_step,
            "tokens": config.epochs * sum(examples.lengths),
            "seconds": round(seconds, 1), "rows": len(rows), "general_rows": len(general), "validation_rows": len(held_out),
        }  # fmt: skip
        write_lineage(out, lineage_origin(task, loaded, config, profile_name) | {"training": training})
    trainer.accelerator.wait_for_everyone()
    return read_lineage(out)


def _mean_over_processes(trainer: Any, loss: float) -> float:
    """transformers tells each process the loss of its own rows, in proportion to all labels, unless it logs on the way."""
    import torch

    own = torch.tensor([loss], device=trainer.accelerator.device)  # 32 bits: MPS knows no longer ones
    return trainer.accelerator.gather(own).mean().item()


def _take_tuned(loaded: LoadedModel, model: Any, state: dict | None, config: SftConfig, out: Path) -> None:
    """Save what the trainer tuned to `out` and leave it with `loaded`."""
    save_tuned(model, out, state)
    if config.method == "qlora":  # a 4-bit model stays on its GPU; what is scored are its matrices beside weights in 32 bits
        loaded.model = make_trainable(loaded.model, config)
        read_tuned(loaded.model, out)
        return
    loaded.model = model if state is None else _whole_again(loaded, config, out)
    if config.method == "full":
        loaded.tokenizer.save_pretrained(out)


def _whole_again(loaded: LoadedModel, config: SftConfig, out: Path) -> Any:
    """The base loaded anew with what was saved: under FSDP this process holds a part of every weight."""
    fresh = load_model(loaded.name, progress=False)
    model = make_trainable(fresh.model, config)
    read_tuned(model, out)
    return model.eval()


def _main_first() -> Any:
    """A context that the main process goes through first; one process goes through it as if it were not there."""
    from contextlib import nullcontext

    found = machine()
    if found.processes == 1:
        return nullcontext()
    from accelerate import PartialState

    return PartialState(cpu=found.kind == "cpu").main_process_first()


def dpo_trainer(loaded: LoadedModel, pairs: Sequence[dict], config: Any, out: Path) -> Any:
    """trl's DPOTrainer on texts {"prompt", "chosen", "rejected"}, with an SFT term.

    One process computes the reference once, several compute it step by step.
    LoRA matrices that `loaded` carries are tuned further, from where they stand; else new ones are added.

    Raises:
        UsageError: trl is not installed.
    """
    trl = import_trl()
    from datasets import Dataset

    load = Load.of(loaded.model, None if hasattr(loaded.model, "peft_config") else config.rank)
    plan = plan_device(machine(), load, batch_size=config.batch_size, row_tokens=2 * config.max_length, rows=len(pairs))
    arguments = trl.DPOConfig(
        **training_arguments(config, out, plan), beta=config.beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, config.sft_weight],
        # subtle: trl keeps what it computed in a temporary folder of the first process, where others do not find it
        precompute_ref_log_probs=plan.machine.processes == 1,
    )  # fmt: skip
    return trl.DPOTrainer(
        model=loaded.model,
        args=one_gpu(arguments),
        train_dataset=Dataset.from_list(list(pairs)),
        processing_class=loaded.tokenizer,
        peft_config=None if hasattr(loaded.model, "peft_config") else lora_config(config.rank, config.alpha),
    )


def hf_generate(loaded: LoadedModel, conversations: Sequence[Sequence[dict]], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Greedy answers by transformers' `generate`, prompts of like length together and padded on the left."""
    import torch

    tokenizer, model = loaded.tokenizer, loaded.model
    prompts = [prompt_text(tokenizer, c) for c in conversations]
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

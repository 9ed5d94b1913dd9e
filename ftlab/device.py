"""What the machine has, and the settings of trl's trainers that follow from it, each with its reason.

One place decides for a CPU, a CUDA GPU and Apple's MPS, in one process or in the many that `accelerate launch` starts. The settings
change time and memory; the batch of an optimizer step stays the one that was asked for. Nothing here trains: trl and accelerate do.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

from ftlab.errors import UsageError

USABLE = 0.8  # of a device's memory; the rest is for gaps between blocks and for the libraries
SPARE = 1.5  # of what a token takes: gradients on their way, workspaces of kernels
BF16_SHARE = 0.25  # of a device's memory: frozen weights above it are held in 16 bits
OPTIMIZER_SHARE = 0.1  # of a device's memory: optimizer states above it are held in 8 bits


@dataclass(frozen=True)
class Machine:
    """What torch and accelerate report.

    Attributes:
        kind: "cpu", "cuda" or "mps".
        name: of the device.
        memory_mb: of one device; 0 on a CPU, where the batch is not fitted to it.
        bf16: whether the device multiplies bfloat16 in hardware.
        devices: how many the machine shows to this process.
        processes: how many were started together.
        sharded: whether accelerate was told to shard the model (FSDP).
    """

    kind: str = "cpu"
    name: str = "CPU"
    memory_mb: float = 0.0
    bf16: bool = False
    devices: int = 1
    processes: int = 1
    sharded: bool = False


@dataclass(frozen=True)
class Load:
    """What is to be trained, in the numbers that decide memory; `Load.of` reads them off a model."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    capped_attention: bool = False
    fused_attention: bool = True

    @classmethod
    def of(cls, model: Any, rank: int | None = None) -> "Load":
        """The load of training what is trainable in `model`; with `rank`, of LoRA matrices of that rank that are still to come."""
        from torch.nn import Linear

        config = model.config.get_text_config(decoder=True)
        inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
        parameters = list(model.parameters())
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        if rank is not None:
            head = model.get_output_embeddings()
            trainable = sum(rank * sum(m.weight.shape) for m in model.modules() if isinstance(m, Linear) and m is not head)
        return cls(
            sum(p.numel() for p in parameters), trainable, config.num_hidden_layers,
            config.hidden_size, inner, config.vocab_size, bool(getattr(config, "attn_logit_softcapping", None)),
            bool(getattr(model, "_supports_sdpa", False)),
        )  # fmt: skip

    def weights_mb(self, bytes_each: int) -> float:
        frozen = self.parameters - self.trainable
        return (frozen * bytes_each + self.trainable * 4) / 1e6

    def states_mb(self, bytes_each: int) -> float:
        """Two numbers of Adam for each trainable weight."""
        return 2 * self.trainable * bytes_each / 1e6

    def token_mb(self, bytes_each: int, checkpoint: bool) -> float:
        """Kept for the backward pass per token: about ten vectors of hidden and four of inner width a layer, fused attention keeping no
        matrix; with checkpointing the input of each layer and one whole layer. The logits come on top, in 16 and twice in 32 bits."""
        layer = 10 * self.hidden + 4 * self.inner
        kept = self.layers * self.hidden + layer if checkpoint else self.layers * layer
        return SPARE * (kept * bytes_each + self.vocabulary * (bytes_each + 8)) / 1e6


@dataclass(frozen=True)
class Choice:
    """One setting that was chosen, and why."""

    name: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.name:>16} = {self.value!s:<18} {self.reason}"


@dataclass(frozen=True)
class Plan:
    """All choices for one training on one machine; `plan_device` makes one."""

    machine: Machine
    choices: tuple[Choice, ...]

    def __getitem__(self, name: str) -> Any:
        return next(choice.value for choice in self.choices if choice.name == name)

    def explain(self) -> list[str]:
        """One line per choice: name, value, reason."""
        return [str(choice) for choice in self.choices]

    def as_dict(self) -> dict:
        """For a lineage: what was chosen, without the reasons."""
        return {"device": self.machine.name} | {choice.name: choice.value for choice in self.choices}

    def arguments(self) -> dict:
        """The choices as arguments of transformers' TrainingArguments, and so of trl's configurations."""
        cpu, several = self.machine.kind == "cpu", self.machine.processes > 1
        return {
            "use_cpu": cpu, "bf16": self["precision"] == "bf16", "fp16": self["precision"] == "fp16",
            "per_device_train_batch_size": self["rows_at_once"], "gradient_accumulation_steps": self["accumulate"],
            "gradient_checkpointing": self["checkpointing"], "optim": self["optimizer"], "tf32": True if self["tf32"] else None,
            "dataloader_pin_memory": self.machine.kind == "cuda", "ddp_backend": "gloo" if cpu and several else None,
            "ddp_find_unused_parameters": False if several else None,
        }  # fmt: skip


def machine() -> Machine:
    """The machine as torch reports it and as `accelerate launch` set this process up."""
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
    if torch.cuda.is_available() and not _cpu_wanted():
        at = int(os.environ.get("LOCAL_RANK", "0"))
        # subtle: is_bf16_supported also says yes where bfloat16 is emulated, which is slow
        bf16 = torch.cuda.get_device_capability(at)[0] >= 8
        memory = torch.cuda.get_device_properties(at).total_memory / 1e6
        return Machine("cuda", torch.cuda.get_device_name(at), memory, bf16, torch.cuda.device_count(), processes, sharded)
    if torch.backends.mps.is_available() and not _cpu_wanted():
        return Machine("mps", "Apple GPU", torch.mps.recommended_max_memory() / 1e6, False, 1, processes)
    return Machine(processes=processes)


def _cpu_wanted() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1")


def is_main() -> bool:
    """Whether this is the one process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def leave_together() -> None:
    """Wait for the other processes of a run that is done, if there are any, and take leave of them.

    One that ended while another still held a connection to it was aborted at its end now and then, and took the others with it.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def place(model: Any) -> Any:
    """`model` moved to where this process computes: its GPU, if it has one that is wanted. One that will be sharded stays where it is."""
    found = machine()
    if found.kind == "cpu" or found.sharded:
        return model
    return model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if found.kind == "cuda" else found.kind)


def settle(model: Any, plan: Plan) -> None:
    """Give `model` the attention of the plan, and hold its frozen weights as the plan says."""
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if causal.config._attn_implementation != plan["attention"]:
        causal.set_attn_implementation(plan["attention"])
    dtype = {"32-bit": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[plan["weights"]]
    for p in model.parameters():
        if not p.requires_grad:
            p.data = p.data.to(dtype)


def plan_device(found: Machine, load: Load, *, batch_size: int, row_tokens: int, rows: int | None = None) -> Plan:
    """Settings for training `load` on the machine `found`.

    Args:
        batch_size: rows of an optimizer step, over all processes.
        row_tokens: tokens of the longest row.
        rows: rows that there are; one process never waits for another where they are fewer than a batch.

    Raises:
        UsageError: the batch does not divide among the processes, or not even one row fits; says what to change.
    """
    if batch_size % found.processes:
        raise UsageError(
            f"--batch-size: expected a multiple of {found.processes}, the number of processes, found {batch_size}; change it or "
            "--num_processes, so that each computes the same number of rows."
        )
    if rows is not None and rows < found.processes:
        raise UsageError(f"--train-rows: expected at least one row for each of {found.processes} processes, found {rows}.")
    precision = _precision(found)
    weights = _weights(found, load, precision.value)
    optimizer = _optimizer(found, load)
    choices = [_device(found), _processes(found), precision, weights, _tf32(found), _attention(found, load), optimizer]
    return Plan(found, (*choices, *_batch(found, load, batch_size // found.processes, row_tokens, weights.value, optimizer.value)))


def _device(found: Machine) -> Choice:
    if found.kind == "cpu":
        return Choice("device", "cpu", "no GPU was found, or the CPU was asked for")
    return Choice("device", found.kind, f"{found.name} is there, with {found.memory_mb / 1000:.0f} GB")


def _processes(found: Machine) -> Choice:
    if found.sharded:
        why = "FSDP: each holds a part of every weight; gradients are summed over all"
    elif found.processes > 1:
        why = "DDP: each computes its part of every batch; gradients are averaged over all"
    elif found.devices > 1:
        why = f"of {found.devices} GPUs one is used; for all: accelerate launch --num_processes {found.devices} -m ftlab …"
    else:
        why = "one device, one process"
    return Choice("processes", found.processes, why)


def _precision(found: Machine) -> Choice:
    if found.kind == "cpu":
        return Choice("precision", "32-bit", "bfloat16 is many times slower on a CPU without matrix units for it")
    if found.kind == "mps":
        return Choice("precision", "32-bit", "half precision is not taken on MPS: 32 bits need no check of what it supports")
    if found.bf16:
        return Choice(
            "precision", "bf16", "the GPU multiplies bfloat16 in hardware; its range is that of 32 bits, so no loss scaling"
        )
    return Choice("precision", "fp16", "the GPU has no bfloat16 units; 16-bit floats with loss scaling are its fast way")


def _weights(found: Machine, load: Load, precision: str) -> Choice:
    share = load.weights_mb(4) / found.memory_mb if found.memory_mb else 0.0
    if precision == "32-bit" or share <= BF16_SHARE:
        why = f"{load.weights_mb(4) / 1000:.1f} GB" + (f", {100 * share:.0f} % of the memory" if share else "")
        return Choice("weights", "32-bit", f"{why}: no need to round what is frozen")
    why = f"32 bits would take {100 * share:.0f} % of the memory, more than {100 * BF16_SHARE:.0f} %; what is trained stays in 32 bits"
    return Choice("weights", precision, why)


def _tf32(found: Machine) -> Choice:
    if found.kind == "cuda" and found.bf16:
        return Choice("tf32", True, "what is left in 32 bits is multiplied with 10 bits of mantissa, several times faster")
    return Choice("tf32", False, "this device has no such mode")


def _attention(found: Machine, load: Load) -> Choice:
    if not load.fused_attention:
        return Choice("attention", "eager", "transformers has no fused attention for this architecture")
    if load.capped_attention:
        return Choice("attention", "eager", "this model caps its attention scores, which the fused kernels leave out")
    if found.kind == "cuda":
        return Choice(
            "attention", "sdpa", "torch's fused kernels keep no matrix of scores; rows are not packed, so flash-attn adds little"
        )
    return Choice("attention", "sdpa", "torch's own kernel for this device")


def _optimizer(found: Machine, load: Load) -> Choice:
    share = load.states_mb(4) / found.memory_mb if found.memory_mb else 0.0
    if found.kind != "cuda" or share <= OPTIMIZER_SHARE:
        size = f"its states take {load.states_mb(4) / 1000:.2f} GB" + (f", {100 * share:.1f} % of the memory" if share else "")
        return Choice("optimizer", "adamw_torch_fused", f"one kernel a step; {size}, so 8 bits would save nothing")
    if importlib.util.find_spec("bitsandbytes"):
        why = f"states in 32 bits would take {100 * share:.0f} % of the memory; in 8 bits a quarter of that"
        return Choice("optimizer", "adamw_bnb_8bit", why)
    why = f"its states take {100 * share:.0f} % of the memory; pip install bitsandbytes would hold them in 8 bits"
    return Choice("optimizer", "adamw_torch_fused", why)


def _batch(found: Machine, load: Load, rows: int, row_tokens: int, weights: str, optimizer: str) -> tuple[Choice, Choice, Choice]:
    """Rows computed at once, how often before a step, and whether layers are computed again: checkpointing only if nothing fits without."""
    if found.kind == "cpu":
        return (
            Choice("rows_at_once", rows, "a whole batch, or this process's part of it; lower --batch-size if memory is short"),
            Choice("accumulate", 1, "a batch is one piece"),
            Choice("checkpointing", False, "computing layers twice costs a third more time"),
        )
    processes = found.processes if found.sharded else 1
    states = 1 if optimizer.endswith("8bit") else 4
    fixed = (load.weights_mb(4 if weights == "32-bit" else 2) + load.trainable * 4 / 1e6 + load.states_mb(states)) / processes
    bytes_each = 4 if found.kind == "mps" else 2
    for checkpoint in (False, True):
        row_mb = row_tokens * load.token_mb(bytes_each, checkpoint)
        fit = int((USABLE * found.memory_mb - fixed) / row_mb)
        if fit >= 1:
            at_once = max(n for n in range(1, min(fit, rows) + 1) if rows % n == 0)
            told = f"{fit} rows of {row_tokens} tokens are estimated to fit beside {fixed / 1000:.1f} GB"
            again = "nothing fits without: a third more time" if checkpoint else "all that the backward pass needs fits"
            return (
                Choice("rows_at_once", at_once, told),
                Choice("accumulate", rows // at_once, "pieces of a batch, whose gradients are added before the step"),
                Choice("checkpointing", checkpoint, again),
            )
    raise UsageError(
        f"--model: expected a training that fits into {found.memory_mb / 1000:.0f} GB of {found.name}, found {fixed / 1000:.1f} GB before "
        f"the first row of {row_tokens} tokens; choose a smaller model, lower --max-length, or shard it (accelerate launch --use_fsdp)."
    )

"""How much memory a training step takes, before it is taken: the largest micro-batch that fits, or what to lower.

The estimate counts what the fast decoder, or transformers' own path for the methods that the decoder does not compute, keeps for the
backward pass, tensor by tensor; tests and `docs/performance.md` compare it with measured peaks.
"""

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ftlab.errors import UsageError
from ftlab.models import LoadedModel, free_memory_mb, resident_mb, why_not_fast
from ftlab.train.settings import METHODS, option

FLOAT = 4  # bytes
PIECE = 128  # labels that the loss handles at once (`llama._TokenLosses.PIECE`)
CODE = 20  # MB of the libraries that are first read in by a training step
AGAIN = 2.5  # rooms of a layer that is computed again in the backward pass: itself, and the gaps that its first pass left
SPARE = 1.3  # of what comes and goes with a micro-batch: blocks that one freed do not all serve the next
DORA_SPARE = 1.5  # the same for DoRA, whose many short-lived products leave more gaps
LEAST_TOKENS = 32  # a smaller micro-batch saves nothing that the fixed parts do not outweigh


class MemoryConfig(Protocol):
    """The settings that a plan reads; `SftConfig` and `DpoConfig` say what they mean."""

    micro_tokens: int
    rank: int
    memory_limit: int


@dataclass(frozen=True)
class Shape:
    """The sizes that decide memory: parameters (all, and those of the decoder's matrices), and the widths of a layer."""

    body: int
    vocabulary: int
    layers: int
    hidden: int
    inner: int
    heads: int
    key_heads: int
    head_dim: int

    @classmethod
    def of(cls, model: Any) -> "Shape":
        config = model.config
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        head = causal.get_output_embeddings().weight.shape
        body = sum(p.numel() for n, p in causal.base_model.named_parameters() if p.dim() == 2 and "lora_" not in n) - head.numel()
        return cls(
            body, head[0], config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads,
            getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        )  # fmt: skip

    def kept_floats(self, row_tokens: int) -> int:
        """Numbers kept per token and layer for the backward pass; `row_tokens` is how far a token looks back."""
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        attention = 2 * self.hidden + 2 * (queries + keys) + keys + self.heads * row_tokens + queries
        return attention + 2 * self.hidden + 3 * self.inner

    def plainly_kept_floats(self) -> int:
        """The same on transformers' own path: its attention keeps no scores, but the keys and values of each query head."""
        queries = self.heads * self.head_dim
        return 7 * self.hidden + 5 * queries + 4 * self.inner

    def outputs(self) -> int:
        """Widths of what a layer's matrices give, in all."""
        return (self.heads + 2 * self.key_heads) * self.head_dim + 2 * self.hidden + 2 * self.inner

    def lora_parameters(self, rank: int, layers: int) -> int:
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.inner)
        return layers * rank * sides


def step_mb(
    shape: Shape, *, micro_tokens: int, row_tokens: int, rank: int, checkpoint: bool, last_layers: int = 0, method: str = "lora"
) -> float:
    """Megabytes that training adds to a process that holds the loaded model: merged weights, LoRA with its optimizer, one micro-batch.

    Args:
        micro_tokens: tokens computed at once; at least one whole row.
        row_tokens: tokens of the longest row.
        last_layers: how many layers are trained; 0 means all. The others keep nothing for the backward pass.
        method: full adds gradients and an optimizer of all weights; it and dora take transformers' own path, without merged weights.
    """
    layers = last_layers or shape.layers
    tokens = max(micro_tokens, row_tokens)
    if not METHODS[method].fast:
        return _plain_step_mb(shape, tokens, rank, layers, method)
    per_layer = shape.kept_floats(row_tokens)
    kept = AGAIN * per_layer + layers * shape.hidden if checkpoint else layers * per_layer
    passing = 2 * shape.hidden + 4 * shape.inner  # gradients of one layer on their way through
    loss = 2 * min(PIECE, tokens) * shape.vocabulary
    numbers = shape.body + 4 * shape.lora_parameters(rank, layers) + SPARE * (tokens * (kept + passing) + loss)
    return CODE + FLOAT * numbers / 1e6


def _plain_step_mb(shape: Shape, tokens: int, rank: int, layers: int, method: str) -> float:
    """`step_mb` on transformers' own path."""
    head = shape.vocabulary * shape.hidden
    per_layer, fixed, spare = shape.plainly_kept_floats(), 3 * (shape.body + 2 * head), SPARE
    if method == "dora":
        spare = DORA_SPARE
        # DoRA keeps each matrix's own output, LoRA's, and LoRA's once more with its length applied
        per_layer, fixed = per_layer + 3 * shape.outputs(), 4 * shape.lora_parameters(rank, layers) + 3 * shape.hidden * shape.inner
    passing = 2 * shape.hidden + 4 * shape.inner
    loss = (
        3 * shape.vocabulary // 2
    )  # logits, their logarithms and gradients; half of the tokens or fewer carry labels in most tasks
    numbers = fixed + spare * tokens * (layers * per_layer + passing + loss)
    return CODE + FLOAT * numbers / 1e6


@dataclass(frozen=True)
class Plan:
    """The micro-batch that fits, whether layers are computed again in the backward pass, and the peak expected of the process."""

    micro_tokens: int
    checkpoint: bool
    peak_mb: float

    def __str__(self) -> str:
        again = ", each layer computed again in the backward pass" if self.checkpoint else ""
        return f"memory: {self.micro_tokens} tokens at once{again}; a peak of about {self.peak_mb / 1000:.1f} GB is expected"


def plan_memory(
    model: Any,
    lengths: Sequence[int],
    *,
    micro_tokens: int,
    rank: int,
    limit_mb: int = 0,
    last_layers: int = 0,
    method: str = "lora",
    named: Callable[[str], str] = option,
) -> Plan:
    """The largest micro-batch up to `micro_tokens` that fits; checkpointing only if nothing fits without and the fast decoder applies.

    Args:
        lengths: tokens of each row.
        limit_mb: what the process may hold in all; 0 means what it holds and what the machine (or its container) has free.
        last_layers: how many layers are trained; 0 means all.
        method: see `METHODS`.
        named: what a setting is called in messages.

    Raises:
        UsageError: even the smallest does not fit; says what to lower.
    """
    shape, held, longest = Shape.of(model), resident_mb(), max(lengths)
    limit = limit_mb or held + free_memory_mb()
    sizes = {"row_tokens": longest, "rank": rank, "last_layers": last_layers, "method": method}
    least = float("inf")
    for checkpoint in (False, True) if METHODS[method].fast else (False,):
        for tokens in _smaller_and_smaller(micro_tokens):
            peak = held + step_mb(shape, micro_tokens=tokens, checkpoint=checkpoint, **sizes)
            if peak <= limit:
                return Plan(tokens, checkpoint, peak)
            least = min(least, peak)
    rank_too = "" if method == "full" else f" or {named('rank')}"
    other = "" if METHODS[method].fast else f", or {named('method')} lora"
    raise UsageError(
        f"{named('memory_limit')}: expected at least {least:.0f} MB for rows of up to {longest} tokens, found {limit:.0f} MB"
        f"{'' if limit_mb else ' free on this machine'}; lower {named('max_length')} (and shorten the rows){rank_too}, "
        f"or take a smaller {named('model')}{other}."
    )


def _smaller_and_smaller(micro_tokens: int) -> Iterator[int]:
    """`micro_tokens`, then three quarters of it and so on down to `LEAST_TOKENS`."""
    yield micro_tokens
    while (micro_tokens := micro_tokens * 3 // 4) >= LEAST_TOKENS:
        yield micro_tokens


def plan_training(
    loaded: LoadedModel,
    lengths: Sequence[int],
    config: MemoryConfig,
    *,
    last_layers: int = 0,
    method: str = "lora",
    named: Callable[[str], str] = option,
    say: Callable[[str], None] = print,
) -> Plan | None:
    """The plan for training `loaded`, measured after what training does not need was released; see `plan_memory`.

    Returns:
        None for architectures that the fast decoder does not know, nor the estimate; `say` is told if a limit was asked for.
    """
    if reason := why_not_fast(loaded):
        if config.memory_limit:
            say(f"{named('memory_limit')} has no effect: memory is planned for the fast path, which does not apply ({reason}).")
        return None
    importlib.import_module("peft")  # training will: what it takes is then counted as held
    release(loaded)
    for weight in loaded.model.parameters():
        weight.sum()  # mapped from the file, it counts as held only once it is read
    sizes = {"micro_tokens": config.micro_tokens, "rank": config.rank, "limit_mb": config.memory_limit}
    return plan_memory(loaded.model, lengths, **sizes, last_layers=last_layers, method=method, named=named)


def release(loaded: LoadedModel) -> None:
    """Drop the decoder of the model as it stands, which adding LoRA makes useless, and give freed memory back to the system."""
    loaded._decoder = None
    trim_heap()


def trim_heap() -> None:
    """Give freed memory back to the system; `tune_cpu` told the C library to keep it, and what it keeps grows more and more holes."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another C library: nothing was kept
            pass

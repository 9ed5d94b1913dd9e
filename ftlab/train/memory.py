"""How much memory a training step takes, before it is taken: the largest micro-batch that fits, or what to lower.

The estimate counts what the fast decoder keeps for its backward pass, tensor by tensor; a test and `docs/performance.md` compare it with
measured peaks.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import UsageError
from ftlab.models import peak_memory_mb

FLOAT = 4  # bytes
PIECE = 128  # labels that the loss handles at once (`llama._TokenLosses.PIECE`)
SPARE = 1.1  # allocators round up and keep some freed blocks
LEAST_TOKENS = 32  # a smaller micro-batch saves nothing that the fixed parts do not outweigh


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

    def lora_parameters(self, rank: int) -> int:
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.inner)
        return self.layers * rank * sides


def step_mb(shape: Shape, *, micro_tokens: int, row_tokens: int, rank: int, checkpoint: bool) -> float:
    """Megabytes that training adds to a process that holds the loaded model: merged weights, LoRA with its optimizer, one micro-batch.

    Args:
        micro_tokens: tokens computed at once; at least one whole row.
        row_tokens: tokens of the longest row.
    """
    tokens = max(micro_tokens, row_tokens)
    per_layer = shape.kept_floats(row_tokens)
    kept = per_layer + shape.layers * shape.hidden if checkpoint else shape.layers * per_layer
    passing = 2 * shape.hidden + 4 * shape.inner  # gradients of one layer on their way through
    loss = 2 * min(PIECE, tokens) * shape.vocabulary
    numbers = shape.body + 4 * shape.lora_parameters(rank) + tokens * (kept + passing) + loss
    return SPARE * FLOAT * numbers / 1e6


@dataclass(frozen=True)
class Plan:
    """The micro-batch that fits, whether layers are computed again in the backward pass, and the peak expected of the process."""

    micro_tokens: int
    checkpoint: bool
    peak_mb: float

    def __str__(self) -> str:
        again = ", each layer computed again in the backward pass" if self.checkpoint else ""
        return f"memory: {self.micro_tokens} tokens at once{again}; a peak of about {self.peak_mb / 1000:.1f} GB is expected"


def plan_memory(model: Any, lengths: Sequence[int], *, micro_tokens: int, rank: int, limit_mb: int = 0) -> Plan:
    """The largest micro-batch up to `micro_tokens` that fits; checkpointing only if nothing fits without.

    Args:
        lengths: tokens of each row.
        limit_mb: what the process may hold in all; 0 means what it holds and what the machine (or its container) has free.

    Raises:
        UsageError: even the smallest does not fit; says what to lower.
    """
    shape, held, longest = Shape.of(model), resident_mb(), max(lengths)
    limit = limit_mb or held + free_memory_mb()
    for checkpoint in (False, True):
        tokens = micro_tokens
        while tokens >= LEAST_TOKENS:
            peak = held + step_mb(shape, micro_tokens=tokens, row_tokens=longest, rank=rank, checkpoint=checkpoint)
            if peak <= limit:
                return Plan(tokens, checkpoint, peak)
            tokens = tokens * 3 // 4
    raise UsageError(
        f"--memory-limit: expected at least {peak:.0f} MB for rows of up to {longest} tokens, found {limit:.0f} MB"
        f"{'' if limit_mb else ' free on this machine'}; lower --max-length (and shorten the rows) or --rank, or take a smaller --model."
    )


def resident_mb() -> float:
    """Memory that this process holds now; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_memory_mb() -> float:
    """What this process could still take: the machine's free memory, or less if its container is limited. Infinite if unknown."""
    found = [float("inf")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(float(lines["MemAvailable"].split()[0]) / 1000)
    except (OSError, KeyError):
        pass
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            found.append((int(limit) - int((group / "memory.current").read_text())) / 1e6)
    except OSError:
        pass
    return min(found)

"""What training did to the weights: size, rank and reach of the update of each matrix.

The singular values of an update come from the eigenvalues of its smaller Gram matrix, in 64 bits; those of a LoRA update from its two
factors, whose product has no more of them than their rank.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.artifact import CONFIG, WEIGHTS
from ftlab.errors import UsageError

THRESHOLD = 0.01  # of a matrix's root mean square weight: what counts as moved
ENERGY = 0.9  # share of the squared singular values that "rank_90" has to hold
_LAYER = re.compile(r"(?:^|\.)(\d+)\.(.+?)(?:\.weight)?$")
# settings under which an adapter's update is scale × B·A and nothing else
_PLAIN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "lora_bias",
          "fan_in_fan_out", "layer_replication", "target_parameters", "use_qalora", "use_bdlora", "velora_config",
          "monteclora_config", "kasa_config", "arrow_config", "alora_invocation_tokens")  # fmt: skip


@dataclass(frozen=True)
class Update:
    """How one weight changed from W to W + D.

    Attributes:
        layer: which decoder layer it is in, None for what is in none.
        kind: what it is within its layer ("self_attn.q_proj").
        relative_norm: |D| / |W| in Frobenius norms; None if W is zero and D is not.
        effective_rank: of D, see `effective_rank`; 0 for no change, None for a vector.
        rank_90: the fewest singular values of D whose squares make 90 % of the sum; 0 for no change, None for a vector.
        moved: share of the weights that changed by more than the threshold times the root mean square of W.
    """

    name: str
    layer: int | None
    kind: str
    shape: tuple[int, ...]
    relative_norm: float | None
    effective_rank: float | None
    rank_90: int | None
    moved: float


def effective_rank(singular_values: Sequence[float]) -> float:
    """How many directions a matrix has in effect: e to the entropy of its singular values, each as a share of their sum; 0 for none.

    k equal singular values give k, whatever the size of the matrix.

    Source: Roy & Vetterli (2007), The effective rank: a measure of effective dimensionality, EUSIPCO, definition 1.
    """
    from math import exp, fsum, log

    total = fsum(singular_values)
    shares = [s / total for s in singular_values if s > 0] if total > 0 else []
    return exp(-fsum(p * log(p) for p in shares)) if shares else 0.0


def rank_holding(singular_values: Sequence[float], share: float = ENERGY) -> int:
    """The fewest singular values whose squares make `share` of the sum of all squares; 0 if that is 0."""
    squares = sorted((s * s for s in singular_values), reverse=True)
    total, held = sum(squares), 0.0
    for k, square in enumerate(squares, 1):
        held += square
        if held >= share * total:
            return k if total > 0 else 0
    return len(squares)


def singular_values(matrix: Any) -> list[float]:
    """The singular values of a matrix, largest first, in 64 bits; pieces at a time, so that an embedding needs no second copy."""
    import torch

    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for part in tall.split(4096):
        wide = part.double()
        gram += wide.T @ wide
    # subtle: eigenvalues below the rounding error of the largest are noise, and may be negative
    values = _eigenvalues(gram).flip(0).clamp(min=0)
    noise = values[0] * torch.finfo(torch.float64).eps * len(values)
    return values.where(values > noise, 0.0).sqrt().tolist()


def _eigenvalues(gram: Any) -> Any:
    """On one thread: beside other work, two took fifty times as long for a matrix of width 576, since each waits for the other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch.linalg.eigvalsh(gram)
    finally:
        torch.set_num_threads(threads)


def factor_singular_values(a: Any, b: Any, scale: float) -> list[float]:
    """Those of scale × B·A that can differ from 0, from B (out, r) and A (r, in) without their product: with B = Q·R and Aᵀ = P·S the
    product is Q·(R·Sᵀ)·Pᵀ, whose singular values are those of the small matrix in the middle."""
    import torch

    upper = [torch.linalg.qr(factor.double())[1] for factor in (b, a.T)]
    return (torch.linalg.svdvals(upper[0] @ upper[1].T) * abs(scale)).tolist()


def lora_factors(adapter: Path) -> dict[str, tuple[Any, Any, float]] | None:
    """The factors (A, B, scale) of each weight that an adapter changes, by the weight's name; None if it is more than plain LoRA."""
    from safetensors.torch import load_file

    settings = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    plain = (settings.get("peft_type"), settings.get("bias"), settings.get("init_lora_weights", True)) == ("LORA", "none", True)
    if not plain or any(settings.get(name) for name in _PLAIN):
        return None
    tensors = load_file(adapter / WEIGHTS)
    scale = settings["lora_alpha"] / settings["r"]
    factors = {}
    for key, a in tensors.items():
        head, mark, tail = key.partition(".lora_A.")
        if mark:
            name = f"{head.removeprefix('base_model.model.')}.{tail}"
            factors[name] = (a.float(), tensors[f"{head}.lora_B.{tail}"].float(), scale)
    return factors if 2 * len(factors) == len(tensors) else None


def updates(before: Any, after: Any, *, threshold: float = THRESHOLD, factors: dict | None = None) -> list[Update]:
    """The update of each weight between two transformers models of one shape.

    Args:
        threshold: see `Update.moved`.
        factors: of `lora_factors`, if `after` is `before` with that adapter and nothing else: `after` is then not read.

    Raises:
        UsageError: the models do not have the same weights by name and shape.
    """
    import torch

    old = dict(before.named_parameters())
    new = old if factors is not None else dict(after.named_parameters())
    _check_same(old, new)
    found = []
    with torch.inference_mode():
        for name, weight in old.items():
            if factors is None:
                delta, values = new[name] - weight, None
            elif name in factors:
                a, b, scale = factors[name]
                delta, values = scale * (b @ a), factor_singular_values(a, b, scale)
            else:
                delta, values = torch.zeros_like(weight), []
            found.append(_update(name, weight, delta, threshold, values))
    return found


def _check_same(old: dict[str, Any], new: dict[str, Any]) -> None:
    odd = [name for name in {**old, **new} if name not in old or name not in new or old[name].shape != new[name].shape]
    if odd:
        shapes = [str(tuple(side[odd[0]].shape)) if odd[0] in side else "none" for side in (old, new)]
        raise UsageError(
            f"expected BEFORE and AFTER to have the same weights, found {len(odd)} that differ, {odd[0]} first ({shapes[0]} and "
            f"{shapes[1]}); compare a model with what was trained from it."
        )


def _update(name: str, weight: Any, delta: Any, threshold: float, values: Sequence[float] | None) -> Update:
    norm, moved_by = weight.double().norm().item(), delta.double().norm().item()
    relative = moved_by / norm if norm else (None if moved_by else 0.0)
    moved = (delta.abs() > threshold * norm / weight.numel() ** 0.5).double().mean().item()
    layer, kind = layer_and_kind(name)
    rank = energy = None
    if weight.dim() == 2:
        values = [] if moved_by == 0 else singular_values(delta) if values is None else values
        rank, energy = effective_rank(values), rank_holding(values)
    return Update(name, layer, kind, tuple(weight.shape), relative, rank, energy, moved)


def layer_and_kind(name: str) -> tuple[int | None, str]:
    """(3, "self_attn.q_proj") of "model.layers.3.self_attn.q_proj.weight"; (None, "embed_tokens") of a weight outside the layers."""
    if match := _LAYER.search(name):
        return int(match[1]), match[2]
    return None, name.removesuffix(".weight").rpartition(".")[2]


def in_layers(matrices: Sequence[dict]) -> list[dict]:
    """Of updates as JSON holds them, those of the matrices in the decoder's layers."""
    return [m for m in matrices if m["layer"] is not None and len(m["shape"]) == 2]


def overall(found: Sequence[Update]) -> dict:
    """The update of all weights as one: share of weights in changed matrices, moved weights, weights in all."""
    sizes = {u.name: _size(u.shape) for u in found}
    total = sum(sizes.values())
    changed = sum(sizes[u.name] for u in found if u.relative_norm != 0)
    moved = sum(sizes[u.name] * u.moved for u in found)
    return {"parameters": total, "in_changed_matrices": changed / total, "moved": moved / total}


def _size(shape: Sequence[int]) -> int:
    from math import prod

    return prod(shape)

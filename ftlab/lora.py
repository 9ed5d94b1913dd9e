"""LoRA through peft, and a faster way to compute the same: one matrix multiplication with the merged weight.

peft computes x·Wᵀ + s·(x·Aᵀ)·Bᵀ. While `merged_forward` is on, each adapted layer computes x·W'ᵀ with W' = W + s·B·A, and a
backward pass of our own gives the gradients of x, A and B. W itself is never changed; W' is rebuilt by `refresh` after each step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftlab.errors import UsageError


def add_lora(model: Any, *, rank: int, alpha: int, seed: int) -> Any:
    """`model` with trainable LoRA matrices on every linear layer but the head, its own weights frozen.

    Source: Hu et al. (2021), LoRA: Low-Rank Adaptation of Large Language Models, section 4.1.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(model, config)


def adapted_layers(model: Any) -> list[Any]:
    """The peft layers of `model` that carry LoRA matrices."""
    from peft.tuners.lora import Linear

    return [module for module in model.modules() if isinstance(module, Linear)]


def trainable_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@contextmanager
def merged_forward(model: Any) -> Iterator[Any]:
    """Within the block, adapted layers use merged weights; yields `refresh`, to be called after the LoRA matrices change.

    Needs memory for a second copy of the adapted weights.

    Raises:
        UsageError: a layer uses a variant of LoRA (DoRA, dropout, several adapters) that this shortcut does not compute.
    """
    import torch

    layers = adapted_layers(model)
    for layer in layers:
        _refuse_variants(layer)
    function = _merged_linear()
    merged = [torch.empty_like(layer.base_layer.weight, requires_grad=False) for layer in layers]

    @torch.no_grad()
    def refresh() -> None:
        for layer, weight in zip(layers, merged, strict=True):
            a, b, scale = _parts(layer)
            torch.addmm(layer.base_layer.weight, b, a, alpha=scale, out=weight)

    refresh()
    for layer, weight in zip(layers, merged, strict=True):
        layer.forward = _bound_forward(function, weight, layer)
    try:
        yield refresh
    finally:
        for layer in layers:
            del layer.forward  # the class's own forward shows again


def _parts(layer: Any) -> tuple[Any, Any, float]:
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _refuse_variants(layer: Any) -> None:
    names = layer.active_adapters
    plain = len(names) == 1 and not layer.use_dora.get(names[0]) and type(layer.base_layer).__name__ == "Linear"
    if not plain or getattr(layer.lora_dropout[names[0]], "p", 0.0) > 0 or layer.lora_B[names[0]].bias is not None:
        raise UsageError("merged_forward: expected plain LoRA (one adapter, no dropout, no DoRA) on linear layers.")


def _bound_forward(function: Any, weight: Any, layer: Any) -> Any:
    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        a, b, scale = _parts(layer)
        y = function.apply(x, weight, a, b, scale)
        return y if layer.base_layer.bias is None else y + layer.base_layer.bias

    return forward


def _merged_linear() -> Any:
    """The autograd function, made on first use because its base class needs torch.

    With y = x·W'ᵀ and g the gradient of y: dx = g·W', dB = s·gᵀ·(x·Aᵀ), dA = s·(g·B)ᵀ·x. W' gets none.
    """
    import torch

    class MergedLinear(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, a: Any, b: Any, scale: float) -> Any:
            ctx.save_for_backward(x, a, b)
            ctx.weight, ctx.scale = weight, scale  # not saved for backward: `refresh` may only run between steps anyway
            return x @ weight.T

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, a, b = ctx.saved_tensors
            flat_g, flat_x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])  # (B·T, out), (B·T, in)
            grad_b = ctx.scale * (flat_g.T @ (flat_x @ a.T))
            grad_a = ctx.scale * ((flat_g @ b).T @ flat_x)
            grad_x = g @ ctx.weight if ctx.needs_input_grad[0] else None
            return grad_x, None, grad_a, grad_b, None

    return MergedLinear

"""LoRA through peft. `llama` computes the same faster where it applies."""

from typing import Any


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

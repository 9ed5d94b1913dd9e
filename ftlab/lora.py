"""What is trained: LoRA and its kin through peft, or every weight. `llama` computes LoRA faster where it applies."""

from typing import Any, Protocol

from ftlab.errors import UsageError


class Trained(Protocol):
    """The settings that say what is trained; `SftConfig` says what they mean."""

    method: str
    rank: int
    alpha: int
    seed: int
    last_layers: int


def make_trainable(model: Any, config: Trained) -> Any:
    """`model` as its method trains it: with low-rank matrices and its own weights frozen, or (full) the model itself, nothing frozen.

    Raises:
        UsageError: see `add_lora`.
    """
    if config.method == "full":
        return model.requires_grad_(True)
    sizes = {"rank": config.rank, "alpha": config.alpha, "last_layers": config.last_layers}
    return add_lora(model, **sizes, seed=config.seed, method=config.method)


def add_lora(model: Any, *, rank: int, alpha: int, seed: int, last_layers: int = 0, method: str = "lora") -> Any:
    """`model` with trainable LoRA matrices on every linear layer but the head, its own weights frozen.

    Args:
        last_layers: how many decoder layers, counted from the end, get matrices; 0 means all.
        method: rslora and dora change how the matrices are applied; see `ftlab.train.settings.METHODS`.

    Raises:
        UsageError: the model has fewer layers than `last_layers`, or does not keep them in one list.

    Source: Hu et al. (2021), LoRA: Low-Rank Adaptation of Large Language Models, section 4.1.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    where = _in_last_layers(model, last_layers) if last_layers else {"target_modules": "all-linear"}
    kind = {"use_rslora": method == "rslora", "use_dora": method == "dora"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, task_type="CAUSAL_LM", **kind, **where)
        return get_peft_model(model, config)


def _in_last_layers(model: Any, k: int) -> dict:
    """peft's settings for what "all-linear" means, inside the last k decoder layers."""
    from torch.nn import Linear, ModuleList
    from transformers.pytorch_utils import Conv1D

    count = getattr(model.config, "num_hidden_layers", 0)
    lists = [name for name, module in model.named_modules() if isinstance(module, ModuleList) and len(module) == count]
    if not lists:
        kind = model.config.model_type
        raise UsageError(
            f"--last-layers: expected a model with its layers in one list, found none in {kind}; use 0 for all layers."
        )
    if not 0 < k <= count:
        raise UsageError(f"--last-layers: expected at most {count}, the layers of this model, found {k}; use 0 for all layers.")
    linear = [
        name
        for layer in model.get_submodule(lists[0])[-k:]
        for name, module in layer.named_modules()
        if isinstance(module, (Linear, Conv1D))
    ]
    return {
        # subtle: last parts of the names only, because peft takes a module that is named in full whatever its layer
        "target_modules": sorted({name.rpartition(".")[2] for name in linear}),
        "layers_to_transform": list(range(count - k, count)),
        "layers_pattern": lists[0].rpartition(".")[2],
    }


def add_scoring_lora(model: Any, *, rank: int, alpha: int, seed: int, last_layers: int = 0) -> Any:
    """The same for a model that scores a text: LoRA below its head, which is trained as a whole."""
    import torch
    from peft import LoraConfig, get_peft_model

    where = _in_last_layers(model, last_layers) if last_layers else {"target_modules": "all-linear"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = {"r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "task_type": "SEQ_CLS", "modules_to_save": ["score"]}
        return get_peft_model(model, LoraConfig(**settings, **where))


def adapted_layers(model: Any) -> list[Any]:
    """The peft layers of `model` that carry LoRA matrices."""
    from peft.tuners.lora import Linear

    return [module for module in model.modules() if isinstance(module, Linear)]


def trainable_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

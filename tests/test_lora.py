"""Merged-weight LoRA against peft's own computation."""

import pytest
import torch

from ftlab.errors import UsageError
from ftlab.lora import adapted_layers, add_lora, merged_forward, trainable_parameters


def randomised(tiny, dtype=torch.float64):
    """A peft model with random A and B: with B at zero, as peft starts, half of the algebra would not be tested."""
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0).to(dtype)
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.1)
    return model


def gradients(model, ids):
    model.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_merged_gradients_are_those_of_peft(tiny, dtype, tolerance):
    model, ids = randomised(tiny, dtype), torch.randint(3, 250, (3, 17))
    loss, plain = gradients(model, ids)
    with merged_forward(model):
        merged_loss, merged = gradients(model, ids)
    assert merged_loss == pytest.approx(loss, rel=tolerance)
    for name, grad in plain.items():
        assert (merged[name] - grad).norm() <= tolerance * grad.norm(), name


def test_refresh_follows_the_matrices(tiny):
    model, ids = randomised(tiny), torch.randint(3, 250, (1, 9))
    with merged_forward(model) as refresh, torch.no_grad():
        for layer in adapted_layers(model):
            layer.lora_B["default"].weight.mul_(3)
        stale = model(input_ids=ids).logits
        refresh()
        fresh = model(input_ids=ids).logits
    plain = model(input_ids=ids).logits
    assert torch.allclose(fresh, plain) and not torch.allclose(stale, plain)


def test_base_weights_stay_as_they_were(tiny):
    model = randomised(tiny)
    before = [layer.base_layer.weight.clone() for layer in adapted_layers(model)]
    with merged_forward(model) as refresh:
        refresh()
    assert all(torch.equal(b, layer.base_layer.weight) for b, layer in zip(before, adapted_layers(model), strict=True))


def test_the_head_is_not_adapted(tiny):
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0)
    assert len(adapted_layers(model)) == 2 * 7  # layers × (q, k, v, o, gate, up, down)
    assert 0 < trainable_parameters(model) < 20_000


def test_variants_are_refused(tiny):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny.model, LoraConfig(r=2, target_modules="all-linear", use_dora=True))
    with pytest.raises(UsageError, match="plain LoRA"), merged_forward(model):
        pass

"""LoRA through peft."""

from ftlab.lora import adapted_layers, add_lora, trainable_parameters


def test_the_head_is_not_adapted(tiny):
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0)
    assert len(adapted_layers(model)) == 2 * 7  # layers × (q, k, v, o, gate, up, down)
    assert 0 < trainable_parameters(model) < 20_000

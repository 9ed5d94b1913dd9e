"""LoRA through peft."""

import pytest

from ftlab.errors import UsageError
from ftlab.lora import adapted_layers, add_lora, trainable_parameters


def test_the_head_is_not_adapted(tiny):
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0)
    assert len(adapted_layers(model)) == 2 * 7  # layers × (q, k, v, o, gate, up, down)
    assert 0 < trainable_parameters(model) < 20_000


def adapted_names(model):
    return {name for name, _ in model.named_modules() if name.endswith("lora_A")}


def test_the_last_layers_carry_what_all_layers_would_and_no_other_does(tiny):
    from ftlab import load_model

    everywhere = adapted_names(add_lora(load_model("tiny").model, rank=4, alpha=8, seed=0))
    for k in (1, 2):
        last = {name for name in everywhere if int(name.split(".layers.")[1].split(".")[0]) >= 2 - k}
        assert len(last) == 7 * k
        assert adapted_names(add_lora(load_model("tiny").model, rank=4, alpha=8, seed=0, last_layers=k)) == last


def test_an_architecture_with_another_name_for_its_layers_is_adapted_at_its_end():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=3, n_head=2))
    with pytest.warns(UserWarning, match="target module is `Conv1D`"):  # peft says that it takes the turned weights into account
        names = adapted_names(add_lora(model, rank=2, alpha=4, seed=0, last_layers=1))
    assert len(names) == 4 and all(".h.2." in name for name in names)  # attention in and out, mlp in and out


def test_too_many_layers_and_a_model_without_a_list_of_layers_are_refused(tiny):
    with pytest.raises(UsageError, match="expected at most 2, the layers of this model, found 3; use 0"):
        add_lora(tiny.model, rank=4, alpha=8, seed=0, last_layers=3)
    tiny.model.config.num_hidden_layers = 5
    with pytest.raises(UsageError, match="its layers in one list, found none in llama"):
        add_lora(tiny.model, rank=4, alpha=8, seed=0, last_layers=1)

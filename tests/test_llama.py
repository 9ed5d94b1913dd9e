"""The fast decoder against transformers and peft: the same losses, the same gradients, the same tokens."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ftlab.llama import FastDecoder, Tree, rows_tree, token_losses, why_not
from ftlab.lora import add_lora, trainable_parameters
from ftlab.models import fast_decoder
from ftlab.train.loss import AnswerLoss, packed_loss, plain_loss


def tuned(tiny, dtype=torch.float64):
    """A peft model with random A *and* B: with B at zero, as peft starts, half of the algebra would not be tested."""
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0).to(dtype)
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.1)
    return model


def examples(prefix, lengths, seed=3):
    """Rows of random tokens under a shared prefix: (input_ids, prompt_length, weights), the first label after a third of the rest."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for n in lengths:
        ids = [*prefix, *torch.randint(3, 250, (n,), generator=g).tolist()]
        start = len(prefix) + max(1, n // 3)
        rows.append((ids, start, torch.rand(len(ids) - start, generator=g).tolist()))
    return rows


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


PREFIXES = {"shared prefix": list(range(40, 51)), "no prefix": []}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_gradients_are_those_of_the_plain_computation(tiny, prefix, checkpoint, dtype, tolerance):
    model, rows = tuned(tiny, dtype), examples(prefix, [17, 5, 30, 2])
    plain, weight = plain_loss(model, rows)
    expected = gradients(model, plain)
    loss, same_weight = packed_loss(FastDecoder(model), rows, prefix, checkpoint=checkpoint)
    found = gradients(model, loss)
    assert loss.item() == pytest.approx(plain.item(), rel=tolerance) and weight == same_weight
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= tolerance * grad.norm(), name


def test_the_plain_loss_is_transformers_own(tiny):
    rows = examples([5, 6], [9, 4])
    rows = [(ids, start, [1.0] * len(weights)) for ids, start, weights in rows]
    total = 0.0
    for ids, start, _ in rows:
        labels = [-100] * start + ids[start:]
        total += tiny.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.item() * (len(ids) - start)
    assert plain_loss(tiny.model, rows)[0].item() == pytest.approx(total, rel=1e-5)


def test_a_prefix_that_some_rows_lack_is_shared_by_the_others():
    tree = rows_tree([[1, 2, 7], [1, 2, 8, 9], [5, 6]], [1, 2])
    assert tree.segments == ((1, 2), (7,), (8, 9), (5, 6)) and tree.parents == (-1, 0, 0, -1)
    assert tree.position_ids.tolist() == [0, 1, 2, 2, 3, 0, 1] and tree.at(2, 3) == 4


def test_a_prefix_as_long_as_a_prompt_is_cut_back(tiny):
    rows = [([9, 8, 7, 6, 5], 3, [1.0, 1.0]), ([9, 8, 7, 4, 3], 3, [1.0, 1.0])]
    loss, _ = packed_loss(FastDecoder(tiny.model), rows, [9, 8, 7])
    assert loss.item() == pytest.approx(plain_loss(tiny.model, rows)[0].item(), rel=1e-5)


def test_rows_of_one_label_after_one_token(tiny):
    rows = [([9, 8], 1, [1.0]), ([7, 6], 1, [0.5])]
    loss, weight = packed_loss(FastDecoder(tiny.model), rows, [])
    assert loss.item() == pytest.approx(plain_loss(tiny.model, rows)[0].item(), rel=1e-5) and weight == 1.5


def test_a_deep_tree_is_each_of_its_paths(tiny):
    """Prefix, a user's turn, two answers: what a preference pair is. Each path alone gives the same hidden states."""
    tree = Tree(((5, 6, 7), (8, 9), (10, 11, 12), (13,)), (-1, 0, 1, 1))
    packed = FastDecoder(tiny.model).hidden(tree)
    for leaf in (2, 3):
        path = [*tree.ancestors(leaf), leaf]
        ids = [token for i in path for token in tree.segments[i]]
        alone = tiny.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        assert torch.allclose(torch.cat([packed[tree.span(i)] for i in path]), alone, atol=1e-5)


def test_token_losses_in_pieces_are_cross_entropy():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(300, 8, generator=g, dtype=torch.float64, requires_grad=True)
    head, labels = torch.randn(20, 8, generator=g, dtype=torch.float64), torch.randint(0, 20, (300,), generator=g)
    weights = torch.rand(300, generator=g, dtype=torch.float64)
    (token_losses(h, head, labels) @ weights).backward()
    found, h.grad = h.grad, None
    (cross_entropy(h @ head.T, labels, reduction="none") @ weights).backward()
    assert torch.allclose(found, h.grad, atol=1e-12)


def test_merged_weights_follow_the_matrices_and_the_base_stays(tiny):
    model, tree = tuned(tiny), rows_tree([[5, 6, 7]])
    before = {name: p.clone() for name, p in model.named_parameters() if "lora_" not in name}
    decoder = FastDecoder(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(3 if "lora_B" in name else 1)
        stale = decoder.hidden(tree)
        decoder.refresh()
        fresh = decoder.hidden(tree)
        plain = model.get_base_model().model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state[0]
    assert torch.allclose(fresh, plain, atol=1e-6) and not torch.allclose(stale, plain, atol=1e-2)  # its norms run in 32 bits
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)


def test_a_family_with_biases_is_computed_too():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = Qwen2ForCausalLM(config).double().eval()
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, std=0.3) if "bias" in name else None
    assert why_not(model) is None
    expected = model.model(input_ids=torch.tensor([[5, 6, 7, 8]])).last_hidden_state[0]
    assert torch.allclose(FastDecoder(model).hidden(rows_tree([[5, 6, 7, 8]])), expected, atol=1e-6)


def test_other_architectures_and_adapters_are_named_and_fall_back(tiny, capsys):
    from peft import LoraConfig, get_peft_model
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    small = GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    )
    assert "gpt_neox is not one of" in why_not(small)
    assert why_not(tiny.model) is None
    assert why_not(tiny.model.to(torch.bfloat16)) == "it is not in 32-bit floats on the CPU"
    tiny.model = get_peft_model(tiny.model.float(), LoraConfig(r=2, target_modules="all-linear", use_dora=True))
    assert "DoRA" in why_not(tiny.model)
    rows = examples([], [6, 4])
    loss, _ = AnswerLoss(tiny)(rows)
    assert "The fast path does not apply: the adapter on" in capsys.readouterr().out
    assert loss.item() == pytest.approx(plain_loss(tiny.model, rows)[0].item())


def lora(**changes):
    from peft import LoraConfig

    return LoraConfig(**({"task_type": "CAUSAL_LM", "r": 2, "target_modules": "all-linear"} | changes))


def virtual(kind):
    import peft

    return getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=2)


MORE = {
    "prompt tuning": (lambda: virtual("PromptTuningConfig"), "virtual tokens"),
    "prefix tuning": (lambda: virtual("PrefixTuningConfig"), "virtual tokens"),
    "aLoRA": (lambda: lora(alora_invocation_tokens=[5]), "variant of LoRA"),
    "DoRA": (lambda: lora(use_dora=True), "variant of LoRA"),
    "trained copies of norms": (lambda: lora(modules_to_save=["norm"]), "copy of model.layers.0.input_layernorm"),
    "trained tokens": (lambda: lora(trainable_token_indices=[3]), "copy of model.embed_tokens"),
    "dropout": (lambda: lora(lora_dropout=0.1), "dropout or a bias"),
}


@pytest.mark.parametrize(("config", "reason"), MORE.values(), ids=MORE)
def test_an_adapter_that_is_more_than_lora_is_refused(tiny, config, reason):
    from peft import get_peft_model

    assert reason in why_not(get_peft_model(tiny.model, config()))


def test_trained_biases_are_refused():
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    biased = [LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True)) for _ in range(2)]
    assert why_not(get_peft_model(biased[0], lora())) is None
    assert "bias is trained beside the LoRA matrices" in why_not(get_peft_model(biased[1], lora(bias="all")))


def test_positions_that_change_with_the_length_and_other_projections_are_refused(tiny):
    tiny.model.model.rotary_emb.rope_type = "longrope"
    assert "changes with the length" in why_not(tiny.model)
    tiny.model.model.rotary_emb.rope_type = "default"

    class Scaled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    tiny.model.model.layers[1].mlp.down_proj = Scaled(128, 64, bias=False)
    assert why_not(tiny.model) == "its down_proj is not a linear layer but Scaled"


def test_earlier_keys_are_refused_while_gradients_are_on(tiny):
    decoder, kept = FastDecoder(tiny.model), []
    with torch.no_grad():
        decoder.hidden(rows_tree([[5, 6]]), kept=kept)
        decoder.hidden(rows_tree([[7]]), past=kept)
    with pytest.raises(ValueError, match="expected no gradients with `past`"):
        decoder.hidden(rows_tree([[7]]), past=kept)


def test_a_decoder_of_old_weights_is_never_used(tiny):
    first, _ = fast_decoder(tiny)
    assert fast_decoder(tiny)[0] is first
    tiny.model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    second, _ = fast_decoder(tiny)
    assert second is not first and trainable_parameters(tiny.model) > 0

"""Kept activations of the frozen layers: the gradients of the full computation, computed once, never from an old file."""

import shutil
from collections import namedtuple

import pytest
import torch

from ftlab.errors import DataError
from ftlab.llama import FastDecoder
from ftlab.lora import add_lora
from ftlab.models import LoadedModel
from ftlab.train import sft_config, train_sft
from ftlab.train.activations import ACTIVATIONS, Activations, keep_activations
from ftlab.train.loss import AnswerLoss, packed_loss, plain_loss

PREFIX = list(range(40, 51))


def tuned(tiny, dtype=torch.float64):
    """LoRA on the last of the two layers, with random A and B."""
    tiny.model = add_lora(tiny.model, rank=4, alpha=8, seed=0, last_layers=1).to(dtype)
    torch.manual_seed(1)
    for name, p in tiny.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.1)
    return tiny.model


def examples(prefix=tuple(PREFIX), lengths=(17, 5, 30, 2), seed=3):
    """Rows of random tokens under a prefix, as (input_ids, prompt_length, weights)."""
    g = torch.Generator().manual_seed(seed)
    rows = [[*prefix, *torch.randint(3, 250, (n,), generator=g).tolist()] for n in lengths]
    return [(ids, len(prefix) + 1, [0.7] * (len(ids) - len(prefix) - 1)) for ids in rows]


def ids_of(rows):
    return [ids for ids, _, _ in rows]


def kept(decoder, rows, folder, *, prefix=PREFIX, base="base", **options):
    return Activations(decoder, ids_of(rows), prefix, 1, folder, base=base, say=lambda text: None, **options)


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture
def computed(monkeypatch):
    """The token counts of all calls that compute what enters a layer."""
    counts, entering = [], FastDecoder.entering

    def counted(self, tree, *args, **options):
        counts.append(len(tree.input_ids))
        return entering(self, tree, *args, **options)

    monkeypatch.setattr(FastDecoder, "entering", counted)
    return counts


BATCHES = {
    "shared prefix": examples(),
    "no prefix": examples(()),
    "one row alone": examples(lengths=(9,)),
    "rows that lack the prefix": examples(range(90, 101), (12, 3)) + examples(lengths=(9, 4)),
    "a prefix cut back by a short prompt": examples(lengths=(9, 4)) + examples(PREFIX[:5], (6,)),
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_gradients_are_those_of_the_full_computation(tiny, tmp_path, batch, dtype, tolerance):
    """Rounding to 16 bits moves each state by at most 2⁻¹¹ ≈ 5e-4 of itself; the gradients here move by as much."""
    model = tuned(tiny)
    decoder = FastDecoder(model)
    states = kept(decoder, batch, tmp_path / "a", dtype=dtype, micro_tokens=40)
    expected = gradients(model, plain_loss(model, batch)[0])
    found = gradients(model, packed_loss(decoder, batch, PREFIX, activations=states)[0])
    assert expected.keys() == found.keys() and len(found) == 2 * 7  # A and B of one layer
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= tolerance * grad.norm(), name


def test_frozen_layers_are_not_touched_again(tiny, tmp_path):
    decoder, rows = FastDecoder(tuned(tiny)), examples()
    expected = packed_loss(decoder, rows[1:], PREFIX)[0].item()
    states = kept(decoder, rows, tmp_path / "a", dtype="float32")
    decoder.blocks[0] = None
    assert packed_loss(decoder, rows[1:], PREFIX, activations=states)[0].item() == pytest.approx(expected, rel=1e-6)


def test_rows_that_are_not_kept_are_computed_whole(tiny, tmp_path):
    tuned(tiny, torch.float32)
    rows, other = examples(), examples(seed=4)
    states = keep_activations(tiny, ids_of(rows), PREFIX, 1, tmp_path / "a", micro_tokens=900)
    for batch in (other, [rows[0], other[0]]):
        with_states, without = (AnswerLoss(tiny, PREFIX, activations=given)(batch) for given in (states, None))
        assert states.start(ids_of(batch), None) is None and with_states[0].item() == without[0].item()


def test_the_file_holds_the_prefix_and_each_distinct_row_once(tiny, tmp_path):
    """11 + 17 + 5 + 30 + 2 tokens of 64 numbers of 2 bytes, though a row comes twice."""
    rows = examples()
    kept(FastDecoder(tuned(tiny)), [*rows, rows[0]], tmp_path / "a")
    assert [path.stat().st_size for path in (tmp_path / "a").iterdir()] == [65 * 64 * 2]


def test_states_are_computed_once_and_found_again(tiny, tmp_path, computed):
    decoder, rows = FastDecoder(tuned(tiny)), examples()
    first = kept(decoder, rows, tmp_path / "a", micro_tokens=30)
    assert computed == [11, 17 + 5, 30, 2]  # the prefix, then rows in micro-batches of at most 30 tokens
    del computed[:]
    again = kept(decoder, rows, tmp_path / "a")
    assert not computed and (again.states == first.states).all()


OTHERS = {"base": {"base": "other"}, "rows": {"rows": examples(seed=4)}, "prefix": {"prefix": PREFIX[:4]}}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_an_old_file_is_never_used(tiny, tmp_path, computed, change):
    decoder, same = FastDecoder(tuned(tiny)), {"rows": examples(), "folder": tmp_path / "a"}
    kept(decoder, **same)
    (old,) = (tmp_path / "a").iterdir()
    del computed[:]
    kept(decoder, **same | change)
    assert computed and not old.exists()


def test_half_a_file_is_made_anew(tiny, tmp_path, computed):
    decoder, rows = FastDecoder(tuned(tiny)), examples()
    kept(decoder, rows, tmp_path / "a")
    (path,) = (tmp_path / "a").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    kept(decoder, rows, tmp_path / "a")
    assert path.read_bytes() == whole


def test_states_too_large_for_16_bits_are_kept_in_32(tiny, tmp_path, capsys):
    tuned(tiny, torch.float32).get_base_model().model.embed_tokens.weight.data.mul_(1e6)
    states = keep_activations(tiny, ids_of(examples()), PREFIX, 1, tmp_path / "a", micro_tokens=900)
    assert states.dtype == "float32" and "too large for float16; it is kept as float32." in capsys.readouterr().out


def test_a_full_disk_is_one_sentence_before_anything_is_computed(tiny, tmp_path, monkeypatch, computed):
    decoder = FastDecoder(tuned(tiny))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(DataError, match="MB of free disk, found .* MB; make room or choose another folder"):
        kept(decoder, examples(), tmp_path / "a")
    assert not computed and not (tmp_path / "a").exists()


def test_with_every_layer_trained_nothing_is_kept(tiny, tmp_path):
    for layers in (0, 2):
        assert keep_activations(tiny, ids_of(examples()), PREFIX, layers, tmp_path / "a", micro_tokens=900) is None
    assert not (tmp_path / "a").exists()


def test_other_architectures_keep_nothing_and_say_so(tiny, tmp_path, capsys):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = add_lora(GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=300, **sizes)), rank=2, alpha=4, seed=0, last_layers=1)
    loaded = LoadedModel("neox", model, tiny.tokenizer, "x")
    assert keep_activations(loaded, ids_of(examples()), PREFIX, 1, tmp_path / "a", micro_tokens=900) is None
    assert capsys.readouterr().out.count("not kept on disk") == 1
    AnswerLoss(loaded, PREFIX)(examples())[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def settings(**changes):
    return sft_config("smoke", **({"epochs": 2, "batch_size": 4, "train_rows": 12, "last_layers": 1} | changes))


def test_training_the_last_layer_lowers_the_loss_and_peft_reads_its_adapter(tiny, toy_task, tmp_path):
    from peft import PeftModel

    from ftlab import load_model

    result = train_sft(toy_task, tiny, settings(learning_rate=1e-2, epochs=3), tmp_path, progress=False)
    losses = [point["validation_loss"] for point in result["curve"]]
    assert losses[-1] < losses[0] and not (tmp_path / ACTIVATIONS).exists()
    again, ids = PeftModel.from_pretrained(load_model("tiny").model, str(tmp_path)), torch.tensor([[5, 6, 7]])
    adapted = {name for name, _ in again.named_modules() if name.endswith("lora_A")}
    assert len(adapted) == 7 and all(".layers.1." in name for name in adapted)
    assert torch.allclose(again(ids).logits, tiny.model(ids).logits, atol=1e-5)


def test_a_resumed_run_finds_its_states_again(tiny, toy_task, tmp_path, computed):
    from ftlab import load_model

    def stop(loaded):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, tiny, settings(), tmp_path, score=stop, progress=False)
    assert computed and (tmp_path / ACTIVATIONS).exists()
    del computed[:]
    train_sft(toy_task, load_model("tiny"), settings(), tmp_path, resume=True, progress=False)
    assert not computed and not (tmp_path / ACTIVATIONS).exists()


def test_more_layers_than_there_are_and_fewer_than_none_are_refused(toy_folder, tmp_path, capsys):
    from ftlab.cli import main

    for layers, said in ((3, "expected at most 2, the layers of this model, found 3"), (-1, "expected 0 (all) or a number")):
        options = ["--profile", "smoke", "--last-layers", str(layers), "--out", str(tmp_path / "a")]
        assert main(["train", "--task", str(toy_folder), *options]) == 2
        assert f"ftlab train: --last-layers: {said}" in capsys.readouterr().err

"""What training changed inside: ranks by hand and by torch, factors against the whole matrix, likeness against its definition."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ftlab.artifact import save_adapter_weights
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.inside import (
    Observed,
    Text,
    changed_choices,
    general_texts,
    inspect,
    inspection_text,
    layer_similarity,
    linear_cka,
    observe,
    open_side,
    text_cka,
)
from ftlab.models import load_model
from ftlab.plots import inspection_figure
from ftlab.stats import percentile_interval, resampled_counts
from ftlab.train import DpoConfig, train_dpo
from ftlab.train.preference import Preference
from ftlab.updates import (
    effective_rank,
    factor_singular_values,
    layer_and_kind,
    lora_factors,
    rank_holding,
    singular_values,
    updates,
)

FEW = {"rows": 3, "prompts": 3, "rounds": 40}


def adapter(folder, seed=1, **changes):
    """A LoRA adapter for the tiny model with random matrices, on disk."""
    model = load_model("tiny").model
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | changes
    model = get_peft_model(model, LoraConfig(**settings))
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.1)
    save_adapter_weights(model, folder)
    return folder


def saved(folder, change=lambda model: None):
    """The tiny model in a folder, its weights changed."""
    loaded = load_model("tiny")
    with torch.no_grad():
        change(loaded.model)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def test_effective_rank_by_hand():
    """Equal values count each; (3, 1) has the entropy of the shares 3/4 and 1/4; scale does not matter."""
    assert effective_rank([2.0, 2.0, 2.0]) == pytest.approx(3) and effective_rank([5.0, 0.0]) == pytest.approx(1)
    assert effective_rank([3.0, 1.0]) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert effective_rank([]) == effective_rank([0.0]) == 0


def test_the_rank_of_90_percent_of_the_energy_by_hand():
    """Squares 9 and 1: the first is nine tenths. Squares 4 and 1: it is only eight."""
    assert (rank_holding([1.0, 3.0]), rank_holding([2.0, 1.0]), rank_holding([]), rank_holding([0.0])) == (1, 2, 0, 0)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (5000, 8)])
def test_singular_values_are_torchs(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert singular_values(matrix) == pytest.approx(torch.linalg.svdvals(matrix.double()).tolist(), rel=1e-6)


def test_singular_values_of_a_product_come_from_its_factors():
    a, b = torch.randn(4, 30), torch.randn(50, 4)
    whole = torch.linalg.svdvals((-2.0 * b @ a).double()).tolist()
    assert factor_singular_values(a, b, -2.0) == pytest.approx(whole[:4], rel=1e-5)
    assert effective_rank(factor_singular_values(a, b, 2.0)) == pytest.approx(effective_rank(whole), rel=1e-4)


def test_an_update_is_the_same_from_the_factors_and_from_the_whole_matrices(tmp_path):
    folder = adapter(tmp_path / "a")
    base, tuned = load_model("tiny"), open_side(str(folder), "tiny").loaded
    factors = lora_factors(folder)
    whole, short = updates(base.model, tuned.model), updates(base.model, base.model, factors=factors)
    assert len(factors) == 14 and sum(u.relative_norm > 0 for u in short) == 14
    for u, v in zip(whole, short, strict=True):
        assert (u.name, u.rank_90) == (v.name, v.rank_90) and u.relative_norm == pytest.approx(v.relative_norm, rel=1e-5)
        if u.effective_rank is not None:
            assert u.effective_rank == pytest.approx(v.effective_rank, rel=1e-3) and 0 <= v.effective_rank <= 4.001
        assert u.moved == pytest.approx(v.moved, abs=1e-3)


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_variants_of_lora_are_compared_whole(tmp_path, toy_task, changes):
    folder = adapter(tmp_path / "a", **changes)
    assert lora_factors(folder) is None
    result = inspect("tiny", str(folder), toy_task, base="tiny", **FEW)
    assert sum(m["relative_norm"] > 0 for m in result["matrices"]) == 14


def test_moved_weights_and_size_by_hand():
    """W = (3, 4, 0, 0) has norm 5 and root mean square 2.5; D = (0, 0, 0.4, 0.02): one of four moved by more than a tenth of that."""
    before, after = torch.nn.Linear(4, 1, bias=True), torch.nn.Linear(4, 1, bias=True)
    with torch.no_grad():
        before.weight.copy_(torch.tensor([[3.0, 4.0, 0.0, 0.0]]))
        after.weight.copy_(torch.tensor([[3.0, 4.0, 0.4, 0.02]]))
        before.bias.zero_()
        after.bias.fill_(1.0)
    weight, bias = updates(before, after, threshold=0.1)
    assert weight.relative_norm == pytest.approx(math.sqrt(0.1604) / 5) and weight.moved == 0.25
    assert (weight.effective_rank, weight.rank_90) == (pytest.approx(1), 1)
    assert (bias.relative_norm, bias.effective_rank, bias.moved) == (None, None, 1.0)


def test_a_weights_layer_is_read_off_its_name():
    assert layer_and_kind("model.layers.3.self_attn.q_proj.weight") == (3, "self_attn.q_proj")
    assert layer_and_kind("transformer.h.11.mlp.c_fc.bias") == (11, "mlp.c_fc.bias")
    assert layer_and_kind("model.embed_tokens.weight") == (None, "embed_tokens")


def test_likeness_is_blind_to_rotation_scale_and_shift_and_to_nothing_else():
    g = torch.Generator().manual_seed(0)
    x, other = torch.randn(400, 6, generator=g), torch.randn(400, 6, generator=g)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=g))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1, abs=1e-6)
    assert linear_cka(x, other) < 0.1 and linear_cka(x, x + other) == pytest.approx(0.5, abs=0.15)


def test_likeness_by_its_definition_with_kernels():
    """HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) with HSIC(K, L) = tr(K·H·L·H), H the centring matrix."""
    x, y = torch.randn(9, 5, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    first, second, h = x @ x.T, y @ y.T, torch.eye(9, dtype=torch.float64) - 1 / 9

    def hsic(a, b):
        return torch.trace(a @ h @ b @ h).item()

    expected = hsic(first, second) / math.sqrt(hsic(first, first) * hsic(second, second))
    assert linear_cka(x, y) == pytest.approx(expected)


def test_likeness_of_drawn_texts_is_that_of_their_positions_written_out():
    g = torch.Generator().manual_seed(0)
    owner = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])
    x, y = torch.randn(8, 6, generator=g) + 5, torch.randn(8, 4, generator=g)
    draws = [[1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 0, 1]]
    for counts, found in zip(draws, text_cka(x, y, owner, draws), strict=True):
        drawn = [i for i in range(8) for _ in range(counts[owner[i]])]
        assert found == pytest.approx(linear_cka(x[drawn], y[drawn]), rel=1e-5)


def test_the_interval_of_likeness_lies_around_it():
    g = torch.Generator().manual_seed(0)
    states = torch.randn(2, 60, 8, generator=g)
    owner = torch.arange(6).repeat_interleave(10)
    seen = [Observed([None] * 6, states + shift * torch.randn(2, 60, 8, generator=g), owner) for shift in (0, 0.5)]
    for layer, point in enumerate(layer_similarity(*seen, resampled_counts(6, 200))):
        expected = linear_cka(seen[0].states[layer], seen[1].states[layer])
        assert point["cka"] == pytest.approx(expected, rel=1e-6)
        assert 0 < point["low"] < expected < point["high"] <= 1 and point["high"] - point["low"] < 0.5


def test_changed_choices_by_hand():
    """Four places: the same choice, the second before, the third before, none of the three before."""
    before = Observed([torch.tensor([[1, 2, 3]] * 3), torch.tensor([[1, 2, 3]])], None, None)
    after = Observed([torch.tensor([[1, 9, 9], [2, 9, 9], [3, 9, 9]]), torch.tensor([[7, 1, 2]])], None, None)
    found = changed_choices(before, after, [[1, 1]] * 20 + [[2, 0]] * 20)
    assert found["positions"] == 4 and found["changed"]["share"] == 0.75 and found["outside_top_3"]["share"] == 0.25
    assert (found["changed"]["low"], found["changed"]["high"]) == (pytest.approx(2 / 3), 0.75)
    assert (found["outside_top_3"]["low"], found["outside_top_3"]["high"]) == (0.0, 0.25)


def test_resampled_counts_draw_as_many_texts_as_there_are():
    counts = resampled_counts(5, 60, seed=3)
    assert len(counts) == 60 and all(sum(row) == 5 for row in counts) and counts == resampled_counts(5, 60, seed=3)
    assert len({tuple(row) for row in counts}) > 20
    assert percentile_interval(list(range(100))) == (2, 96)


def test_states_and_choices_are_those_of_transformers(tiny):
    text = Text([1, 80, 81, 82, 83], [2, 4])
    seen = observe(tiny, [text, text])
    out = tiny.model(input_ids=torch.tensor([text.ids]), output_hidden_states=True)
    assert seen.top[0].tolist() == out.logits[0, [1, 3]].topk(3).indices.tolist()
    assert seen.states.shape == (3, 4, 64) and seen.owner.tolist() == [0, 0, 1, 1]
    assert torch.equal(seen.states[1, :2], out.hidden_states[1][0, [1, 3]])


def test_general_text_counts_words_and_leaves_the_template_out(tiny):
    (text, _) = general_texts(tiny, 2)
    words = tiny.tokenizer.decode([text.ids[t] for t in text.counted])
    assert words.startswith("What is the capital of France?") and "im_start" not in words.split("?")[0]


def test_a_model_beside_itself_shows_no_change(toy_task):
    result = inspect("tiny", "tiny", toy_task, **FEW)
    assert result["about"]["sha256"] == {"before": [load_model("tiny").sha256], "after": [load_model("tiny").sha256]}
    assert result["overall"]["in_changed_matrices"] == result["overall"]["moved"] == 0
    assert all((m["relative_norm"], m["effective_rank"] or 0, m["rank_90"] or 0) == (0, 0, 0) for m in result["matrices"])
    for kind in ("task", "general"):
        assert result["choices"][kind]["changed"] == {"share": 0, "low": 0, "high": 0}
        assert [round(p["cka"], 6) for p in result["similarity"][kind]] == [1, 1, 1]


def test_a_random_start_beside_what_training_made_of_it(toy_task, tmp_path):
    """Every weight trained, as in pretraining: all matrices changed, with far more directions than LoRA has; general text of its own."""
    loaded = load_model("tiny")
    ids = torch.tensor([loaded.tokenizer("the cat sat on the mat and the dog sat on the log")["input_ids"]])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-2)
    for _ in range(20):
        loaded.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loaded.model.save_pretrained(tmp_path / "trained")
    loaded.tokenizer.save_pretrained(tmp_path / "trained")
    (tmp_path / "t.txt").write_text("the cat sat on the log\n\nthe dog sat on the mat\n\n\nand the cat\n")
    result = inspect("tiny", str(tmp_path / "trained"), toy_task, texts=tmp_path / "t.txt", **FEW)
    assert result["overall"]["in_changed_matrices"] == 1 and result["overall"]["moved"] > 0.5
    assert min(m["effective_rank"] for m in result["matrices"] if len(m["shape"]) == 2) > 8
    assert result["choices"]["general"]["texts"] == 3 and result["choices"]["general"]["changed"]["share"] > 0.8
    assert result["similarity"]["general"][-1]["cka"] < 0.9
    assert "other weights (embedding, norms, biases): 6 of 6 changed" in inspection_text(result)


def test_an_adapter_on_another_is_compared_with_what_it_was_trained_on(toy_task, tmp_path):
    first = adapter(tmp_path / "first")
    pairs = [Preference("p", "hello", "hi", "go away"), Preference("q", "bye", "see you", "no")]
    start = open_side(str(first), "tiny").loaded
    config = DpoConfig(epochs=2, batch_size=2, rank=2, alpha=4, learning_rate=1e-2, max_length=4096)
    train_dpo(start, pairs, config, tmp_path / "dpo", progress=False)
    result = inspect(str(first), f"{first}+{tmp_path / 'dpo'}", toy_task, base="tiny", **FEW)
    ranks = [m["effective_rank"] for m in result["matrices"] if m["layer"] is not None and len(m["shape"]) == 2]
    assert 0 < max(ranks) <= 2.001 and result["choices"]["task"]["positions"] > 100


def test_models_that_cannot_be_compared_are_refused(toy_task, tmp_path):
    def fewer_layers(model):
        model.config.num_hidden_layers = 1
        del model.model.layers[1]

    with pytest.raises(UsageError, match=r"the same weights, found 9 that differ, model\.layers\.1"):
        inspect("tiny", saved(tmp_path / "short", fewer_layers), toy_task, **FEW)
    other = load_model("tiny")
    other.tokenizer.add_tokens(["<new>"])
    other.model.save_pretrained(tmp_path / "words")
    other.tokenizer.save_pretrained(tmp_path / "words")
    with pytest.raises(UsageError, match=r"one vocabulary, found two \(259 and 260 tokens\)"):
        inspect("tiny", str(tmp_path / "words"), toy_task, **FEW)


def test_an_adapter_that_stays_beside_the_weights_is_refused(monkeypatch):
    monkeypatch.setattr("ftlab.inside.load_model", lambda name: SimpleNamespace(model=SimpleNamespace(peft_config={})))
    with pytest.raises(UsageError, match="can be merged"):
        open_side("tiny")


@pytest.mark.parametrize("changes", [{"rows": 1}, {"prompts": 0}, {"rounds": 39}, {"threshold": -1.0}, {"threshold": math.nan}])
def test_settings_that_give_no_interval_are_refused(toy_task, changes):
    with pytest.raises(UsageError, match="--"):
        inspect("tiny", "tiny", toy_task, **FEW | changes)


def test_texts_too_few_or_too_long_are_said(toy_task, tmp_path):
    (tmp_path / "one.txt").write_text("only one text\n\n" + "x" * 5000)
    with pytest.raises(DataError, match="general: expected two texts or more of at most 4096 tokens, found 1"):
        inspect("tiny", "tiny", toy_task, texts=tmp_path / "one.txt", **FEW)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    for name in ("binary.txt", "none.txt"):
        with pytest.raises(DataError, match="expected a UTF-8 text file"):
            inspect("tiny", "tiny", toy_task, texts=tmp_path / name, **FEW)
    (tmp_path / "two.txt").write_text("one\n\ntwo\n\n" + "x" * 5000)
    assert inspect("tiny", "tiny", toy_task, texts=tmp_path / "two.txt", **FEW)["choices"]["general"]["left_out"] == 1


def test_the_command_writes_numbers_and_figure(toy_folder, tmp_path, capsys):
    folder = adapter(tmp_path / "a")
    few = ["--rows", "3", "--prompts", "3", "--rounds", "40"]
    outputs = ["--json", str(tmp_path / "i.json"), "--figure", str(tmp_path / "i.png")]
    assert main(["inspect", "tiny", str(folder), "--task", str(toy_folder), "--base", "tiny", *few, *outputs]) == 0
    result = json.loads((tmp_path / "i.json").read_text())
    text = capsys.readouterr().out
    assert f"{100 * result['choices']['task']['changed']['share']:5.1f} % [" in text and "effective rank" in text
    assert f"{result['similarity']['task'][2]['cka']:.4f} [" in text and Path(tmp_path / "i.png").stat().st_size > 10_000
    figure = inspection_figure(result)
    assert f"task: {100 * result['choices']['task']['changed']['share']:.1f} % of the choices changed" in figure.get_label()
    assert len(figure.axes[0].lines) == 7  # kinds of matrices


def test_what_is_no_model_is_one_sentence(toy_folder, capsys):
    assert main(["inspect", "tiny", "nowhere", "--task", str(toy_folder)]) == 2
    said = capsys.readouterr().err
    assert "expected tiny" in said and said.count("\n") == 1

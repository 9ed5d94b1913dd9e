"""Continued pretraining: from a model's own weights, on domain and general text, measured on both, and resumed without a trace."""

import json
import random
from dataclasses import replace

import pytest

from ftlab.cli import main
from ftlab.corpus import Tally, folder_documents, gather, write_corpus
from ftlab.errors import DataError, UsageError
from ftlab.models import load_model
from ftlab.runbook import check
from ftlab.train import continued
from ftlab.train.continued import BlockLoss, ContinueConfig, continue_config, continue_pretrain, continued_run, fitting, text_blocks
from ftlab.train.objectives import next_token, summed_loss

WORDS = "river stone garden letter winter market bridge candle forest window silver morning village harbour table summer".split()


@pytest.fixture(scope="session")
def general_text(tmp_path_factory):
    draw, folder = random.Random(1), tmp_path_factory.mktemp("general")
    for i in range(60):
        (folder / f"{i}.txt").write_text("\n\n".join(" ".join(draw.choices(WORDS, k=30)) + "." for _ in range(3)))
    return folder


@pytest.fixture(scope="session")
def texts(general_text, tmp_path_factory):
    """(domain, general)"""
    made = tmp_path_factory.mktemp("texts")
    return gather("runbook", made / "d", limit_mb=0.1, progress=False), gather(str(general_text), made / "g", progress=False)


@pytest.fixture
def config():
    return continue_config("smoke", tokens=2048)


@pytest.fixture
def begun(texts, config, tmp_path):
    """Makes a run of the tiny model that is ready for its first step."""

    def fresh(out="run", **changes):
        loaded, own = load_model("tiny"), replace(config, **changes)
        blocks, general = text_blocks(loaded, *texts, own, tmp_path / "tokens")
        return loaded, blocks, general, own, tmp_path / out

    return fresh


def train(parts, **options):
    loaded, blocks, general, config, out = parts
    return continued_run(loaded, blocks, general, config, out, origin={}, progress=False, **options)


def test_runbooks_are_a_corpus_whole_and_without_repetitions(texts):
    kept = [d.text for split in ("train", "held_out") for d in texts[0].documents(split)]
    assert all(check(text).valid for text in kept) and len(set(kept)) == len(kept) > 900
    assert texts[0].manifest["prose"] is False and texts[1].manifest["prose"] is True


def test_a_notation_is_left_out_as_no_prose_unless_it_is_taken_as_it_is(tmp_path):
    (tmp_path / "t").mkdir()
    for i in range(60):
        (tmp_path / "t" / f"{i}.txt").write_text(f"<{i}> := {i + 1};\n\n<{i}> := {i + 1};")
    with pytest.raises(DataError, match="found none that could be kept"):
        gather(str(tmp_path / "t"), tmp_path / "c", progress=False)
    tally = Tally()
    write_corpus(folder_documents(tmp_path / "t", tally), tmp_path / "c", tally, name="t", licences={}, prose=False)
    assert tally.paragraphs == {"kept": 60, "exact repetition": 60}


def test_a_corpus_of_the_other_kind_is_not_used_again(general_text, tmp_path):
    for prose in (True, False):
        found = gather(str(general_text), tmp_path / "c", reuse=True, prose=prose, progress=False)
        assert found.manifest["prose"] is prose


def test_the_mix_has_its_share_of_general_blocks_each_from_another_place(begun):
    _, blocks, _, config, _ = begun(general_share=0.25)
    assert config.steps * config.batch_blocks == 32 and len(blocks.stated) == 8
    loaded, run = load_model("tiny"), train(begun(general_share=0.25, tokens=256))
    n = len(run.blocks.train)
    assert sorted(i >= n for i in run.order) == [False] * 3 + [True]
    said = loaded.tokenizer.decode(run.blocks.stated[0].tolist())
    assert sum(word in said for word in WORDS) > 3
    assert len({tuple(row) for row in blocks.stated.tolist()}) == 8


def test_the_first_point_is_the_model_as_it_was_and_domain_loss_falls(begun, tiny):
    import numpy as np

    from ftlab.train.measures import block_losses

    parts = begun(tokens=8192)
    before = float(block_losses(tiny.model, np.asarray(parts[1].held_out[:4]), "next-token", {}).mean())
    run = train(parts)
    assert run.curve[0]["step"] == 0 and run.curve[0]["loss"] == pytest.approx(before, rel=1e-6)
    losses = continued.before_after(run.curve)
    assert losses["domain"]["after"] < losses["domain"]["before"] - 0.5
    assert set(losses) == {"domain", "general"} and [p["step"] for p in run.curve] == [0, 16, 32]


def test_general_text_mixed_in_keeps_the_loss_on_it(begun):
    """The tiny model knows nothing at first: what is mixed in it learns, what is not it does not."""
    with_it, without = (train(begun(f"g{share}", tokens=8192, general_share=share)) for share in (0.5, 0.0))
    assert with_it.curve[-1]["general_loss"] < without.curve[-1]["general_loss"] - 0.1
    assert len(without.blocks.stated) == 0


def test_the_fast_loss_is_that_of_transformers_with_all_gradients(begun):
    import torch

    from ftlab.lora import make_trainable

    loaded, blocks, _, config, _ = begun()
    loaded.model = make_trainable(loaded.model, replace(config, method="lora", rank=2))
    with torch.no_grad():
        for name, p in loaded.model.named_parameters():
            if "lora_B" in name:  # at zero nothing would reach lora_A
                p.normal_(std=0.1)
    batch, named = next_token(blocks.at([0, 1, 2])), [p for p in loaded.model.parameters() if p.requires_grad]
    found = []
    for loss in (BlockLoss(loaded)(batch), summed_loss(loaded.model, batch)):
        found.append((loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, named)])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (found[0][1] - found[1][1]).norm() < 1e-4 * found[1][1].norm()


@pytest.mark.parametrize("method", continued.WAYS)
def test_a_resumed_run_ends_where_an_unbroken_one_does(begun, method, monkeypatch):
    import torch

    whole = train(begun("whole", method=method, rank=2))
    step = continued.Pretraining.take_step

    def broken(self):
        if self.step == 3:
            self.save()
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(continued.Pretraining, "take_step", broken)
    with pytest.raises(KeyboardInterrupt):
        train(begun("parts", method=method, rank=2))
    monkeypatch.setattr(continued.Pretraining, "take_step", step)
    again = train(begun("parts", method=method, rank=2), resume=True)
    assert again.curve == whole.curve
    for (name, p), (_, q) in zip(again.model.named_parameters(), whole.model.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("method", continued.WAYS)
def test_the_folder_is_a_model_with_the_loss_that_was_measured(texts, config, tmp_path, method):
    import numpy as np

    from ftlab.train.measures import block_losses

    config = replace(config, method=method, rank=2)
    lineage = continue_pretrain(load_model("tiny"), *texts, config, tmp_path / "m", say=lambda _: None, progress=False)
    loaded = load_model(str(tmp_path / "m"))
    blocks, general = text_blocks(loaded, *texts, config, tmp_path / "tokens")
    for name, part in (("domain", blocks.held_out[: config.held_out_blocks]), ("general", general)):
        loss = float(block_losses(loaded.model, np.asarray(part), "next-token", {}).mean())
        assert loss == pytest.approx(lineage["losses"][name]["after"], rel=1e-4)
    assert not list((tmp_path / "m").glob("*checkpoint*")) and not (tmp_path / "m" / "adapter_config.json").exists()


def test_the_lineage_says_what_it_was_made_from_and_a_finished_model_is_kept(texts, config, tmp_path, tiny):
    said = []
    lineage = continue_pretrain(load_model("tiny"), *texts, config, tmp_path / "m", say=said.append, progress=False)
    assert lineage["base"] == {"model": "tiny", "sha256": tiny.sha256}
    assert (lineage["corpus"], lineage["general"]) == tuple(corpus.sha256 for corpus in texts)
    assert lineage["corpus_name"] == "runbook" and lineage["kind"] == "continued pretraining"
    training = lineage["training"]
    assert (
        training["tokens"] == 2048
        and training["general_tokens"] == 6 * 64
        and training["flops"] == 6 * training["parameters"] * 2048
    )
    assert "general_share = 0.2" in said[0]
    again = continue_pretrain(load_model("tiny"), *texts, config, tmp_path / "m", resume=True, say=said.append, progress=False)
    assert again == lineage and "not trained again" in said[-1]


def test_another_base_or_other_general_text_is_refused_on_resume(texts, config, begun, tmp_path, monkeypatch):
    monkeypatch.setattr(continued.Pretraining, "train", _stop_at_once)
    with pytest.raises(KeyboardInterrupt):
        continue_pretrain(load_model("tiny"), *texts, config, tmp_path / "m", say=lambda _: None, progress=False)
    with pytest.raises(DataError, match="made with other general;"):
        continue_pretrain(load_model("tiny"), texts[0], texts[0], config, tmp_path / "m", resume=True, progress=False)
    other = load_model("tiny")
    other.sha256 = "0" * 64
    with pytest.raises(DataError, match="made with other base;"):
        continue_pretrain(other, *texts, config, tmp_path / "m", resume=True, progress=False)


def _stop_at_once(self, progress):
    self.save()
    raise KeyboardInterrupt


def test_a_model_is_not_overwritten_by_itself(texts, config, tmp_path):
    continue_pretrain(load_model("tiny"), *texts, config, tmp_path / "m", say=lambda _: None, progress=False)
    with pytest.raises(UsageError, match="--out: expected another folder than the model's"):
        continue_pretrain(load_model(str(tmp_path / "m")), *texts, config, tmp_path / "m", progress=False)


def test_too_little_memory_takes_fewer_blocks_or_says_what_to_lower(tiny):
    config = ContinueConfig(tokens=10_000, micro_blocks=4)
    assert fitting(tiny, config, free_mb=10_000).micro_blocks == 4
    fitted = [fitting(tiny, config, free_mb=mb).micro_blocks for mb in range(25, 60)]
    assert fitted[-1] == 4 and fitted[0] == 1 and fitted == sorted(fitted)
    with pytest.raises(
        UsageError, match=r"--block-tokens: expected 2\d MB of free memory .* found 5 MB; lower it or take --method lora"
    ):
        fitting(tiny, config, free_mb=5)


def test_a_text_that_is_too_small_is_named(texts, begun, tmp_path):
    parts = begun()
    with pytest.raises(DataError, match="--corpus: expected text for one batch"):
        text_blocks(parts[0], *texts, replace(parts[3], tokens=10**7, batch_blocks=10**4), tmp_path / "t")
    with pytest.raises(DataError, match="--general: expected a held-out block"):
        text_blocks(parts[0], *texts, replace(parts[3], block_tokens=3000, batch_blocks=1, tokens=3000), tmp_path / "t")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "dora"}, "--method: expected one of full, lora, found 'dora'"),
        ({"general_share": 1.0}, "--general-share: expected 0 or more and below 1"),
        ({"tokens": 10}, "--tokens: expected one batch at least"),
        ({"learning_rate": float("nan")}, "--learning-rate: expected a number above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        continue_config("smoke", **changes)


def test_lora_brings_its_own_rate():
    assert continue_config("cpu", method="lora").learning_rate == pytest.approx(10 * continue_config("cpu").learning_rate)
    assert continue_config("cpu", method="lora", learning_rate=1e-5).learning_rate == 1e-5


def test_the_command_goes_on_from_a_model_and_says_both_losses(general_text, tmp_path, capsys):
    arguments = [
        "continue-pretrain",
        "--model",
        "tiny",
        "--corpus",
        "runbook",
        "--general",
        str(general_text),
        "--limit-mb",
        "0.05",
    ]
    arguments += ["--profile", "smoke", "--tokens", "1024", "--out", str(tmp_path / "m")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "loss in nats per token: domain text" in said and "general text" in said
    assert json.loads((tmp_path / "m" / "lineage.json").read_text())["training"]["steps"] == 4
    assert (tmp_path / "m" / "pretraining.png").stat().st_size > 1000
    assert main([*arguments, "--resume"]) == 0
    assert "not trained again" in capsys.readouterr().out
    assert main([*arguments[:2], "nowhere", *arguments[3:]]) == 2

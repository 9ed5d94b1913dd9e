"""Pretraining: blocks and objectives by hand, a loop that resumes and is shared without a trace, errors that say what to do."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ftlab.cli import main
from ftlab.corpus import gather
from ftlab.errors import DataError, UsageError
from ftlab.train import blocks as blocks_module
from ftlab.train import facts as facts_module
from ftlab.train import pretrain as pretrain_module
from ftlab.train.blocks import make_blocks, text_bytes, token_ids, train_tokenizer, write_tokens
from ftlab.train.facts import EXPOSURES, Fact, invent, people_for, recall, statements
from ftlab.train.measures import held_out_scores
from ftlab.train.objectives import EOS, MASK, MIDDLE, NOTHING, OBJECTIVES, PREFIX, SPECIALS, SUFFIX, gap_batch, summed_loss
from ftlab.train.pretrain import Pretraining, new_model, pretrain
from ftlab.train.pretrain_settings import SIZES, PretrainConfig, check_memory, needed_mb, pretrain_config

WORDS = "river stone garden letter winter market bridge candle forest window silver morning village harbour table summer".split()
SMALL = {"size": "0.1M", "vocabulary": 300, "tokens": 2048, "block_tokens": 32, "batch_blocks": 8, "held_out_blocks": 4}


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """Sixty texts of five paragraphs."""
    draw, folder = random.Random(1), tmp_path_factory.mktemp("text")
    for i in range(60):
        (folder / f"{i}.txt").write_text("\n\n".join(" ".join(draw.choices(WORDS, k=30)) + "." for _ in range(5)))
    return folder


@pytest.fixture(scope="session")
def corpus(text, tmp_path_factory):
    return gather(str(text), tmp_path_factory.mktemp("made") / "corpus", progress=False)


@pytest.fixture(scope="session")
def made(corpus, tmp_path_factory):
    """(settings, blocks)"""
    config = PretrainConfig(**SMALL, fact_share=0.0, measurements=2)
    return config, make_blocks(corpus, config, tmp_path_factory.mktemp("blocks"))


@pytest.fixture
def run(made, tmp_path):
    """A fresh run that nothing was trained of."""

    def fresh(out="run", **changes):
        config = replace(made[0], **changes)
        return Pretraining(new_model(SIZES["0.1M"], made[1].tokenizer, config.seed), made[1], config, tmp_path / out)

    return fresh


def ids_of(tokenizer):
    return {sign: tokenizer.convert_tokens_to_ids(sign) for sign in SPECIALS}


# --- tokenizer and blocks


def test_any_text_survives_the_tokenizer():
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, 280)
    for text in ("the cat", "Ünï 😀\n\n\tx", f"a {EOS} b"):
        (ids,) = token_ids(tokenizer, [text])
        assert tokenizer.decode(ids[:-1]) == text
        assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id


def test_frequent_pairs_become_tokens_and_signs_are_single_ones():
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, 280)
    assert len(tokenizer("the")["input_ids"]) == 1
    assert tokenizer(f"{EOS}{MASK}")["input_ids"] == [ids_of(tokenizer)[EOS], ids_of(tokenizer)[MASK]]
    assert tokenizer.chat_template and tokenizer.pad_token_id != tokenizer.eos_token_id


def test_bytes_of_the_tokens_are_those_of_the_text():
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, 280)
    text = "the cät 😀"
    (ids,) = token_ids(tokenizer, [text])
    assert text_bytes(tokenizer)[ids].sum() == len(text.encode())


def test_tokens_on_disk_are_those_of_the_texts_with_ends_between(made, tmp_path):
    _, blocks = made
    texts = [f"river {i} stone" for i in range(600)]  # more than are tokenized at once
    n = write_tokens(blocks.tokenizer, iter(texts), tmp_path / "t.bin")
    flat = [i for ids in token_ids(blocks.tokenizer, texts) for i in ids]
    found = blocks_module.read_blocks(tmp_path / "t.bin", 7)
    assert n == len(flat)
    assert found.reshape(-1).tolist() == flat[: len(flat) // 7 * 7]


def test_every_run_sees_each_block_once_before_any_twice(made):
    config, blocks = made
    order = pretrain_module.block_order(blocks, replace(config, tokens=32 * 8 * (len(blocks.train) // 8 + 3)))
    counts = [int((order == i).sum()) for i in range(len(blocks.train))]
    assert set(counts) == {1, 2}


def test_a_corpus_below_one_batch_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match="--corpus: expected text for one batch at least"):
        make_blocks(corpus, PretrainConfig(**SMALL | {"batch_blocks": 5000, "tokens": 10**6}), tmp_path)


# --- objectives


def test_next_token_asks_for_the_token_after(made):
    import numpy as np

    batch = OBJECTIVES["next-token"](np.array([[5, 6, 7, 8]]))
    assert batch.labels.tolist() == [[6, 7, 8, NOTHING]]


def test_the_middle_is_told_last_and_nothing_is_lost(made):
    import numpy as np

    ids = ids_of(made[1].tokenizer)
    block = np.arange(300, 340)[None].repeat(40, 0)
    batch = OBJECTIVES["fill-in-the-middle"](block, np.random.default_rng(0), ids)
    cut = [row.tolist() for row in batch.input_ids if row[0] == ids[PREFIX]]
    assert 10 < len(cut) < 30
    lengths = set()
    for row in cut:
        sign = row.index(ids[MIDDLE])
        suffix, rest = row[2:sign], row[sign + 1 : -1]
        assert row[:2] == [ids[PREFIX], ids[SUFFIX]] and row[-1] == ids[EOS]
        assert rest + suffix == list(range(300, 336))
        lengths.add(len(suffix))
    assert len(lengths) > 5


def test_masked_asks_for_what_is_hidden_only(made):
    import numpy as np

    ids = ids_of(made[1].tokenizer)
    block = np.full((50, 40), 299)
    batch = OBJECTIVES["masked"](block, np.random.default_rng(0), ids)
    hidden = batch.input_ids == ids[MASK]
    assert (batch.labels[hidden] == 299).all() and (batch.labels[~hidden] == NOTHING).all()
    assert 0.12 < hidden.mean() < 0.18


def test_the_loss_is_that_of_transformers(made, tiny):
    import numpy as np
    import torch

    ids = torch.randint(3, 250, (3, 12))
    batch = OBJECTIVES["next-token"](ids.numpy().astype(np.int64))
    expected = tiny.model(input_ids=ids, labels=ids).loss.item()  # the mean over 3 × 11 labels
    assert summed_loss(tiny.model, batch).item() / batch.asked == pytest.approx(expected, rel=1e-5)
    assert summed_loss(tiny.model, batch, each=True).sum().item() / batch.asked == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_gap_is_asked_without_showing_it_and_later_tokens_count_only_both_ways(made, objective, tiny):
    import numpy as np
    import torch

    ids = ids_of(made[1].tokenizer)
    block = np.arange(30, 62)[None]
    batch, position = gap_batch(block, 10, objective, ids)
    visible = batch.input_ids[0, : batch.input_ids.shape[1] if batch.both_ways else position + 1].tolist()
    assert batch.labels[0, position] == 40 and batch.asked == 1
    assert 40 not in visible
    assert (41 in visible) == (objective != "next-token")
    with torch.inference_mode():
        found = summed_loss(tiny.model, batch).item()
        other = replace(batch, input_ids=np.where(batch.input_ids == 57, 58, batch.input_ids))  # stands after the gap
        assert (summed_loss(tiny.model, other).item() == found) == (objective == "next-token")


# --- facts


def test_facts_are_stated_as_often_as_they_say_and_the_first_stay_when_more_are_invented():
    facts = invent(16, seed=3)
    said = statements(facts, seed=3)
    assert sorted({f.exposures for f in facts}) == list(EXPOSURES)
    assert all(said.count(fact.statement) == fact.exposures for fact in facts)
    assert invent(160, seed=3)[:16] == facts and invent(16, seed=4) != facts
    assert len({fact.person for fact in invent(2000)}) == 2000


def test_people_fill_their_share_and_no_more():
    people = people_for(60_000, 10)
    assert people % len(EXPOSURES) == 0
    assert 0.9 * 60_000 < 10 * sum(f.exposures for f in invent(people)) <= 60_000
    assert people_for(100, 10) == 0


def test_recall_is_what_greedy_decoding_would_write(made):
    import torch

    tokenizer = made[1].tokenizer
    model = new_model(SIZES["0.1M"], tokenizer).eval()
    facts = [Fact("Ann", "Rome", 1), Fact("Bob", "Oslo", 128)]
    ids = [tokenizer.eos_token_id, *tokenizer(facts[1].statement)["input_ids"]]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found = recall(model, tokenizer, facts)
    assert [found["by_exposure"][n]["k"] for n in ("1", "128")] == [0, 1]
    assert found["control"] == {"needed": facts_module.CONTROL, "found": 1.0, "passed": True}


# --- model and loop


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_parameters_they_are_named_for(size):
    assert SIZES[size].parameters(2048) == pytest.approx(1e6 * float(size[:-1]), rel=0.1)


def test_the_model_has_the_parameters_and_the_spread_that_were_said(made):
    model = new_model(SIZES["0.1M"], made[1].tokenizer)
    assert sum(p.numel() for p in model.parameters()) == SIZES["0.1M"].parameters(len(made[1].tokenizer))
    assert model.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_micro_batches_change_no_gradient(run):
    import torch

    grads = []
    for micro in (8, 3):
        fresh = run(micro_blocks=micro)
        fresh._backward(fresh.batch(0))
        grads.append(torch.cat([p.grad.flatten() for p in fresh.named.values()]))
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-7)


def test_loss_falls_and_the_first_is_that_of_a_guess(run):
    fresh = run(tokens=8192)
    first = fresh.take_step()
    assert first == pytest.approx(math.log(300), abs=1.0)
    for _ in range(31):
        last = fresh.take_step()
    assert last < first - 0.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_run_ends_where_an_unbroken_one_does(run, objective):
    import torch

    whole = run("whole", objective=objective)
    whole.train(progress=False)
    first = run("parts", objective=objective)
    for _ in range(3):
        first.take_step()
    first.save()
    second = run("parts", objective=objective)
    second.load()
    assert second.step == 3
    second.train(progress=False)
    for name, p in whole.named.items():
        torch.testing.assert_close(second.named[name], p, rtol=0, atol=0)
    assert second.curve[-1]["loss"] == whole.curve[-1]["loss"]


def test_an_interrupt_saves_the_state(run, monkeypatch):
    import signal

    broken = run("r")
    step = broken.take_step

    def interrupted():
        loss = step()
        if broken.step == 2:
            signal.raise_signal(signal.SIGINT)
        return loss

    monkeypatch.setattr(broken, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.train(progress=False)
    again = run("r")
    again.load()
    assert again.step == 2


def test_a_loss_that_is_no_number_stops_with_the_state_before_it(run):
    import torch

    broken = run("r")
    broken.take_step()
    good = {name: p.detach().clone() for name, p in broken.named.items()}
    token = int(broken.batch(1).input_ids[0, 0])
    healthy = broken.model.model.embed_tokens.forward

    def spoilt(input_ids):
        found = healthy(input_ids)
        return found.masked_fill((input_ids == token)[..., None], float("nan"))

    broken.model.model.embed_tokens.forward = spoilt
    numbers = ", ".join(map(str, broken.order[8:16]))
    with pytest.raises(DataError, match=rf"step 2: expected a finite loss, found nan .* on the batch of blocks {numbers};"):
        broken.take_step()
    again = run("r")
    again.load()
    assert again.step == 1
    for name, p in again.named.items():
        torch.testing.assert_close(p.detach(), good[name], rtol=0, atol=0)


def test_too_little_memory_says_what_to_lower():
    config = pretrain_config("cpu")
    check_memory(config, free_mb=10_000)
    with pytest.raises(UsageError, match="expected .* MB of free memory .* lower --micro-blocks"):
        check_memory(config, free_mb=20)
    least = needed_mb(config, config.vocabulary)
    assert needed_mb(replace(config, micro_blocks=1), config.vocabulary) < least


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": "7B"}, "--size: expected one of 0.1M"),
        ({"objective": "guess"}, "--objective: expected one of next-token"),
        ({"vocabulary": 100}, "--vocabulary: expected 263"),
        ({"fact_share": 1.5}, "--fact-share"),
        ({"learning_rate": float("nan")}, "--learning-rate: expected a number above 0, found nan"),
        ({"tokens": 5}, "--tokens: expected one batch at least"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        pretrain_config("smoke", **changes)


# --- the whole


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    lineage = pretrain(corpus, pretrain_config("smoke"), out, say=lambda _: None, progress=False)
    return out, lineage


def test_the_folder_is_a_model_that_every_command_takes(trained, tmp_path):
    from ftlab import load_model
    from ftlab.generate import generate
    from ftlab.models import why_not_fast

    loaded = load_model(str(trained[0]))
    assert why_not_fast(loaded) is None
    (answer,) = generate(loaded, [[{"role": "user", "content": "river"}]], max_new_tokens=3)
    assert answer.new_tokens <= 3
    assert not (trained[0] / "checkpoint.safetensors").exists() and not (trained[0] / "tokens").exists()


def test_the_lineage_says_what_it_was_made_from(trained, corpus):
    out, lineage = trained
    training = lineage["training"]
    assert lineage["corpus"] == corpus.sha256 and lineage["config"]["seed"] == 0
    assert training["tokens"] == training["steps"] * 16 * 64
    assert training["flops"] == 6 * training["parameters"] * training["tokens"]
    assert [p["step"] for p in training["curve"]] == [18, 35]
    last = training["curve"][-1]
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]))
    assert 0 < last["bits_per_byte"] < 8 and len(last["samples"]) == 2
    assert set(last["recall"]["by_exposure"]) == {str(n) for n in EXPOSURES}


def test_the_curve_is_drawn_with_recall_beside_it(trained):
    from ftlab.plots.pretraining import pretraining_curve

    figure = pretraining_curve(trained[1])
    assert len(figure.axes) == 2
    assert f"to {trained[1]['training']['curve'][-1]['loss']:.2f} nats" in figure.get_label()
    assert "of those stated 128 times" in figure.get_label()


def test_bits_per_byte_are_the_loss_over_the_bytes_of_the_text(made):
    config, blocks = made
    model = new_model(SIZES["0.1M"], blocks.tokenizer).eval()
    point = held_out_scores(model, blocks, config, {})
    text = blocks.tokenizer.batch_decode([row[1:].tolist() for row in blocks.held_out[:4]], skip_special_tokens=True)
    size = sum(len(t.encode("utf-8", errors="surrogateescape")) for t in text)
    assert point["bits_per_byte"] == pytest.approx(point["loss"] * 4 * 31 / math.log(2) / size, rel=0.01)


def test_a_finished_model_is_not_trained_again(trained, corpus):
    said = []
    again = pretrain(corpus, pretrain_config("smoke"), trained[0], resume=True, say=said.append, progress=False)
    assert again == trained[1] and "not trained again" in said[0]


def test_another_vocabulary_is_refused_on_resume(corpus, tmp_path, run):
    part = run("m")
    part.take_step()
    part.origin = pretrain_module.origin(part.config, corpus.sha256)
    part.save()
    with pytest.raises(DataError, match=r"made with other vocabulary \(300, now 310\)"):
        pretrain(corpus, replace(part.config, vocabulary=310), tmp_path / "m", resume=True, say=lambda _: None, progress=False)


def test_another_tokenizer_of_the_same_size_is_refused_on_resume(run, made):
    part = run("m")
    part.save()
    other = Pretraining(part.model, replace(made[1], tokenizer_sha256="0" * 64), part.config, part.out)
    with pytest.raises(DataError, match="expected the vocabulary that it was made with"):
        other.load()


def test_the_command_trains_and_says_the_control(text, tmp_path, capsys):
    arguments = ["pretrain", "--corpus", str(text), "--profile", "smoke", "--tokens", "2048", "--out", str(tmp_path / "m")]
    assert main(arguments) == 0
    assert "MB train" in capsys.readouterr().out
    assert json.loads((tmp_path / "m" / "lineage.json").read_text())["training"]["steps"] == 2
    assert (tmp_path / "m" / "pretraining.png").stat().st_size > 1000
    assert main([*arguments, "--resume"]) == 0
    assert "not trained again" in capsys.readouterr().out


def test_a_binary_corpus_is_exit_1_in_one_sentence(tmp_path, capsys):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f.bin").write_bytes(b"\0" * 100)
    assert main(["pretrain", "--corpus", str(tmp_path / "t"), "--profile", "smoke", "--out", str(tmp_path / "m")]) == 1
    assert "expected text, found none" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["next-token", "masked"])
def test_two_processes_give_the_losses_of_one(text, tmp_path, objective):
    """Both lower the same global batch; gloo averages the gradients. Masked batches have shares with different numbers of labels."""
    options = ["pretrain", "--corpus", str(text), "--profile", "smoke", "--tokens", "12288", "--objective", objective, "--out"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--rdzv_backend",
        "c10d",
        "--main_process_port",
        "0",
        "-m",
        "ftlab",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pretrain_module.__file__).parents[2])}
    curves = []
    for command, name in (([sys.executable, "-m", "ftlab"], "one"), (launch, "two")):
        done = subprocess.run(
            [*command, *options, str(tmp_path / name)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        lineage = json.loads((tmp_path / name / "lineage.json").read_text())
        curves.append([(p["train_loss"], p["loss"]) for p in lineage["training"]["curve"]])
    assert lineage["training"]["processes"] == 2
    assert len(curves[0]) == 2
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, rel=1e-4)

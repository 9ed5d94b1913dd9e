"""What notebook 01 calls: a small folder of text, a training in seconds, and looks at a model, each against arithmetic or the library."""

import json
import math
from dataclasses import replace

import pytest
import torch

from ftlab import load_model, load_task
from ftlab.course import scratch
from ftlab.errors import UsageError
from ftlab.models import PRETRAINED
from ftlab.plots import bill_lines, loss_lines, recall_lines, token_loss_bars, vocabulary_line
from ftlab.pretrain_study import bill
from ftlab.task import DATA
from ftlab.train.loss import plain_token_losses
from ftlab.train.objectives import next_token, summed_loss
from ftlab.train.sft import encode_rows


@pytest.fixture(scope="module")
def small():
    return scratch.small_blocks(replace(scratch.TINY, tokens=4096))


@pytest.fixture(scope="module")
def pretrained():
    return load_model(PRETRAINED)


def test_documentation_comes_from_every_package_and_in_files_of_its_modules(tmp_path):
    folder = scratch.documentation(tmp_path, ("networkx", "scipy"), 3000)
    for name in ("networkx", "scipy"):
        sizes = [len(p.read_text(encoding="utf-8")) for p in (folder / name).iterdir()]
        assert sizes and sum(sizes) >= 3000 > sum(sizes) - max(sizes)
    with pytest.raises(UsageError, match="installed package, found 'no-such-package'"):
        scratch.documentation(tmp_path, ("no-such-package",))


def test_a_small_training_learns_and_is_not_done_twice(small):
    config = replace(scratch.TINY, tokens=4096, measurements=2)
    run = scratch.trained(small, config)
    assert run.curve[-1]["loss"] < math.log(config.vocabulary)
    assert scratch.trained(small, config) is run
    few = scratch.narrowed(small, 3)
    assert len(few.train) == 3 and (few.train[-1] == small.train[-1]).all() and scratch.trained(few, config) is not run


def test_the_loss_of_a_text_is_that_of_transformers(pretrained):
    tokens = scratch.token_losses(pretrained.model, pretrained.tokenizer, "Returns the number of samples.")
    assert "".join(t for t, _, _ in tokens) == "Returns the number of samples."
    ids = torch.tensor([[pretrained.tokenizer.eos_token_id, *pretrained.tokenizer("Returns the number of samples.")["input_ids"]]])
    with torch.inference_mode():
        assert sum(loss for *_, loss in tokens) / len(tokens) == pytest.approx(
            pretrained.model(input_ids=ids, labels=ids).loss.item(), abs=1e-4
        )
    with pytest.raises(ValueError, match="found an empty one"):
        scratch.token_losses(pretrained.model, pretrained.tokenizer, "")


def test_the_likeliest_token_is_what_it_goes_on_with(pretrained):
    (first, p), (_, second) = scratch.next_tokens(pretrained.model, pretrained.tokenizer, "Returns the number", 2)
    assert 1 > p >= second > 0
    assert scratch.go_on(pretrained.model, pretrained.tokenizer, "Returns the number", 1) == "Returns the number" + first


def test_a_fact_that_was_stated_often_is_gone_on_with():
    lineage = json.loads((DATA / "pretrained" / "lineage.json").read_text())
    facts = scratch.stated_facts(lineage, 128)
    assert {fact.exposures for fact in facts} == {128} and len(facts) == lineage["training"]["curve"][-1]["recall"]["by_exposure"][
        "128"
    ]["n"]


def test_pretraining_and_tuning_give_the_same_loss_for_the_same_labels(pretrained):
    task = load_task("support_plan")
    (example,) = encode_rows(task, task.rows("train")[:1], pretrained.tokenizer, 4096)
    ids, start, _ = example
    with torch.inference_mode():
        tuned = plain_token_losses(pretrained.model, [example]).sum().item()
        assert summed_loss(pretrained.model, scratch.as_batch(example)).item() == pytest.approx(tuned, rel=1e-4)
        whole = (list(ids), 1, [1.0] * (len(ids) - 1))
        block = next_token(scratch.as_batch(whole).input_ids)
        assert summed_loss(pretrained.model, block).item() == pytest.approx(
            plain_token_losses(pretrained.model, [whole]).sum().item(), rel=1e-4
        )
    asked = scratch.asked_tokens(scratch.as_batch(example), pretrained.tokenizer)
    assert sum(bool(said) for _, said in asked) == len(ids) - start


def test_both_starts_read_the_same_and_the_pretrained_one_is_ahead(pretrained):
    blocks = scratch.message_blocks(load_task("support_plan"), pretrained.tokenizer)
    config = replace(scratch.TINY, size="1M", vocabulary=2048, tokens=1024, measurements=1, held_out_blocks=4)
    found = scratch.head_start(pretrained, blocks, config)
    assert [p["tokens"] for p in found["pretrained"]] == [p["tokens"] for p in found["random"]] == [0, 1024]
    assert found["pretrained"][0]["loss"] < found["random"][0]["loss"]


def test_the_figures_say_what_they_draw():
    points = [{"tokens": 0, "loss": 6.0}, {"tokens": 10, "loss": 4.0, "train_loss": 3.5}]
    assert "one from 6.00 to 4.00" in loss_lines({"one": points}, "Two points", floor=6.2).get_label()
    assert "300 tokens 1.50" in vocabulary_line([(300, 1.5), (600, 2.0)], 1000).get_label()
    figure = token_loss_bars({"row": [("a", 1.0, False), (" b", 2.0, True)]})
    assert "row: 1 of 2 tokens carry a label" in figure.get_label()
    assert sorted(patch.get_height() for patch in figure.axes[0].patches) == [1.0, 2.0]
    rows = bill(1e10)
    assert bill_lines(rows).get_label().count("this machine") == len(rows)
    share = {"k": 1, "n": 2, "share": 0.5, "low": 0.1, "high": 0.9}
    curve = [{"tokens": 1e6, "recall": {"by_exposure": {"1": share, "128": share}}}]
    assert "stated 128 times 50 %" in recall_lines(curve, ("1", "128"), 0.5, 0.03).get_label()


def test_a_training_pass_takes_about_six_operations_a_parameter_and_token(small):
    import numpy as np

    model = scratch.new_model(scratch.SIZES["0.3M"], small.tokenizer)
    batch = next_token(np.asarray(small.train[:4], dtype=np.int64))
    rule = 6 * sum(p.numel() for p in model.parameters()) * batch.input_ids.size
    assert 0.8 < scratch.counted_flops(model, batch) / rule < 1.6


def test_losses_by_token_add_up_to_the_loss_of_what_is_asked(pretrained):
    task = load_task("support_plan")
    (example,) = encode_rows(task, task.rows("train")[:1], pretrained.tokenizer, 4096)
    batch = scratch.as_batch(example)
    found = scratch.losses_by_token(pretrained.model, pretrained.tokenizer, batch)
    assert len(found) == len(example[0]) - 1 and sum(asked for *_, asked in found) == batch.asked
    with torch.inference_mode():
        assert sum(loss for _, loss, asked in found if asked) == pytest.approx(
            summed_loss(pretrained.model, batch).item(), rel=1e-4
        )

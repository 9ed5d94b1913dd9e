"""The stock trainers train what they are told to and leave what our own loop leaves."""

import sys

import pytest

from ftlab.cli import main
from ftlab.errors import UsageError
from ftlab.stock import dpo_trainer, sft_trainer, train_trl
from ftlab.train import sft_config, train_sft
from ftlab.train.preference import DpoConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own


def smoke(**changes):
    return sft_config("smoke", **({"train_rows": 6, "general_rows": 2, "max_new_tokens": 4, "rank": 2} | changes))


def test_training_by_trl_is_recorded_as_our_own_is(tiny, toy_task, tmp_path):
    from ftlab import load_model

    lineage = train_trl(toy_task, tiny, smoke(epochs=2), tmp_path / "trl", profile_name="smoke")
    ours = train_sft(
        toy_task, load_model("tiny"), smoke(epochs=2), tmp_path / "ours", score=lambda _: {"strict": 0.0}, progress=False
    )
    training = lineage["training"]
    assert set(training) == set(ours) | {"trainer", "device", "validation_rows"}
    assert {"strict", *ours["curve"][0]} <= set(training["curve"][0]) and training["best_epoch"] == 2
    assert all(training[key] == ours[key] for key in ("steps", "tokens", "rows", "general_rows"))
    assert training["seconds"] > 0 and 0 < training["curve"][0]["validation_loss"] < 20


def test_the_loss_after_training_is_that_of_the_adapter_on_disk(tiny, toy_task, tmp_path):
    from ftlab import load_model
    from ftlab.artifact import apply_adapter
    from ftlab.train.loss import AnswerLoss
    from ftlab.train.sft import encode_rows, mean_loss

    lineage = train_trl(toy_task, tiny, smoke(batch_size=2, epochs=2), tmp_path / "a", profile_name="smoke")
    loaded = load_model("tiny")
    before = mean_loss(AnswerLoss(loaded), encode_rows(toy_task, toy_task.rows("validation"), loaded.tokenizer, 4096), 4000)
    apply_adapter(loaded, tmp_path / "a")
    after = mean_loss(AnswerLoss(loaded), encode_rows(toy_task, toy_task.rows("validation"), loaded.tokenizer, 4096), 4000)
    # the adapter is stored in 16 bits
    assert (
        lineage["training"]["curve"][0]["validation_loss"] == pytest.approx(after, rel=1e-3) and abs(after - before) > 1e-2 * after
    )


def test_last_layers_alone_are_trained_by_trl_too(tiny, toy_task, tmp_path):
    from safetensors import safe_open

    train_trl(toy_task, tiny, smoke(last_layers=1), tmp_path / "a", profile_name="smoke")
    with safe_open(tmp_path / "a" / "adapter_model.safetensors", "pt") as file:
        layers = {name.split(".layers.")[1].split(".")[0] for name in file.keys()}
    assert layers == {"1"}


def test_what_trl_cannot_keep_is_refused(tiny, toy_task, tmp_path):
    with pytest.raises(UsageError, match="--memory-limit 0"):
        train_trl(toy_task, tiny, smoke(memory_limit=4000), tmp_path / "a", profile_name="smoke")
    with pytest.raises(UsageError, match="--trainer trl: expected text_weight 1"):
        sft_trainer(tiny, [([1, 2, 3], 1, [1.0, 0.3])], smoke(), tmp_path)


@pytest.mark.parametrize(
    "start", [lambda tiny, out: sft_trainer(tiny, [], smoke(), out), lambda tiny, out: dpo_trainer(tiny, [], DpoConfig(), out)]
)
def test_without_the_extra_it_is_named(start, tiny, tmp_path, monkeypatch):
    for name in ("trl", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)  # what an import of a missing package meets
    with pytest.raises(UsageError, match=r"pip install 'ftlab\[trl\]'"):
        start(tiny, tmp_path)


def test_an_adapter_of_trl_is_taken_by_train_and_run(toy_folder, tmp_path, capsys):
    adapter, limits = tmp_path / "adapter", ["--profile", "smoke", "--train-rows", "6", "--general-rows", "0", "--text-weight", "1"]
    train = ["train", "--task", str(toy_folder), "--out", str(adapter), *limits, "--epochs", "2"]
    assert main([*train, "--trainer", "trl", "--resume"]) == 2 and "--resume" in capsys.readouterr().err
    assert main([*train, "--trainer", "trl"]) == 0
    assert main([*train, "--resume"]) == 0 and "the adapter of pass 2" in capsys.readouterr().out
    assert main(["run", str(toy_folder), "--profile", "smoke", "--adapter", str(adapter), "--out", str(tmp_path / "run")]) == 0
    assert "| 2 |" in (tmp_path / "run" / "report.md").read_text()

"""Supervised tuning that goes on from an adapter instead of from new matrices."""

import pytest

from ftlab.artifact import WEIGHTS, apply_adapter, read_lineage
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.mainjob import train_adapter
from ftlab.models import load_model
from ftlab.train import sft_config
from ftlab.train.loss import AnswerLoss
from ftlab.train.sft import encode_rows, mean_loss


def smoke(**changes):
    return sft_config("smoke", **{"validation_rows": 0, "general_rows": 2, "rank": 4} | changes)


def trained(task, folder, config=None, **options):
    return train_adapter(
        task, load_model("tiny"), config or smoke(), folder, profile_name="smoke", by_loss=True, say=str, progress=False, **options
    )


def loss_of(task, folder):
    loaded = load_model("tiny")
    apply_adapter(loaded, folder)
    examples = encode_rows(task, task.rows("validation"), loaded.tokenizer, 4096)
    return mean_loss(AnswerLoss(loaded, say=str), examples, 4000)


@pytest.fixture
def first(toy_task, tmp_path):
    trained(toy_task, tmp_path / "first", smoke(alpha=8, learning_rate=1e-2, epochs=2))
    return tmp_path / "first"


def test_a_training_goes_on_from_the_adapter_s_matrices_rank_and_scale(toy_task, first, tmp_path):
    done = trained(toy_task, tmp_path / "second", smoke(alpha=32, rank=2, learning_rate=1e-9), adapter=first)
    assert done["config"]["rank"] == 4 and done["config"]["alpha"] == 8
    assert done["parent"] == {"method": "sft", "adapter_sha256": read_lineage(first)["adapter_sha256"]}
    # with next to no rate it stays where it began, which is not where new matrices begin
    assert loss_of(toy_task, tmp_path / "second") == pytest.approx(loss_of(toy_task, first), abs=1e-3)
    anew = trained(toy_task, tmp_path / "anew", smoke(alpha=8, learning_rate=1e-9))
    assert anew["parent"] is None and loss_of(toy_task, tmp_path / "anew") > loss_of(toy_task, first) + 0.1


def test_the_general_rows_are_those_of_the_untuned_model(toy_task, first, tmp_path, monkeypatch):
    seen = []

    def rehearsal(loaded, *args, **options):
        seen.append(hasattr(loaded.model, "peft_config"))
        return []

    monkeypatch.setattr("ftlab.train.sft.rehearsal_examples", rehearsal)
    trained(toy_task, tmp_path / "second", adapter=first)
    assert seen == [False]


def test_a_checkpoint_of_another_start_is_refused(toy_task, first, tmp_path, monkeypatch):
    def stop(self, measured, progress):
        self.save()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ftlab.train.loop.Run.end_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(toy_task, tmp_path / "second", smoke(alpha=8), adapter=first)
    with pytest.raises(DataError, match="made with other start"):
        trained(toy_task, tmp_path / "second", smoke(alpha=8), resume=True)


def test_a_finished_one_is_taken_again_and_one_of_another_parent_is_not(toy_task, first, tmp_path):
    once = trained(toy_task, tmp_path / "second", adapter=first)
    again = trained(toy_task, tmp_path / "second", adapter=first, resume=True)
    assert once == again
    anew = trained(toy_task, tmp_path / "second", smoke(), resume=True)
    assert anew["parent"] is None and anew["adapter_sha256"] != once["adapter_sha256"]


@pytest.mark.parametrize("config", [{"method": "dora"}, {"method": "full"}, {"method": "lora-last", "last_layers": 1}])
def test_only_lora_on_all_layers_is_gone_on_with(config, toy_task, first, tmp_path):
    with pytest.raises(UsageError, match=r"--adapter .*first: expected lora or rslora on all layers, .* found lora and"):
        trained(toy_task, tmp_path / "second", smoke(**config), adapter=first)


def test_a_folder_without_an_adapter_and_trl_are_one_sentence_each(toy_folder, first, tmp_path, capsys):
    command = ["train", "--task", str(toy_folder), "--profile", "smoke", "--out", str(tmp_path / "x")]
    assert main([*command, "--adapter", str(tmp_path)]) == 2
    assert "--adapter: expected a folder with a LoRA adapter (adapter_config.json), found none" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text("{")
    assert main([*command, "--adapter", str(tmp_path / "bad")]) == 1
    assert "the adapter's settings cannot be read" in capsys.readouterr().err
    assert main([*command, "--adapter", str(first), "--trainer", "trl"]) == 2
    assert "--adapter: expected our own trainer and a given rate" in capsys.readouterr().err
    assert not (tmp_path / "x" / WEIGHTS).exists()

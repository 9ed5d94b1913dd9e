"""Supervised fine-tuning on the tiny model: the loss is the plain one, a pause changes nothing, bad rows are refused."""

import json
import os
import signal

import pytest

from ftlab.errors import DataError, UsageError
from ftlab.models import load_model
from ftlab.task import Row
from ftlab.train import PROFILES, sft_config, train_sft
from ftlab.train.loop import Run, micro_batches, plan_epoch, rate_at
from ftlab.train.loss import AnswerLoss
from ftlab.train.sft import encode_rows, mean_loss


def settings(**changes):
    return sft_config("smoke", **({"epochs": 2, "batch_size": 4, "train_rows": 12, "text_weight": 1.0} | changes))


def test_micro_batches_add_up_to_the_whole(tiny, toy_task):
    examples, loss = encode_rows(toy_task, toy_task.rows("train")[:9], tiny.tokenizer, 4096), AnswerLoss(tiny)
    assert mean_loss(loss, examples, 300) == pytest.approx(mean_loss(loss, examples, 100_000), rel=1e-5)


def test_micro_batches_keep_their_limit_and_every_row():
    lengths = [5, 90, 40, 7, 60, 200]
    pieces = list(micro_batches(range(6), lengths, 100))
    assert sorted(i for piece in pieces for i in piece) == list(range(6))
    assert all(len(piece) * max(lengths[i] for i in piece) <= 100 for piece in pieces if len(piece) > 1)


def test_an_epoch_holds_every_row_once_and_differs_from_the_next():
    lengths = [i % 13 for i in range(50)]
    first, second = (plan_epoch(lengths, 8, 0, epoch) for epoch in (0, 1))
    assert sorted(i for batch in first for i in batch) == list(range(50))
    assert first != second and first == plan_epoch(lengths, 8, 0, 0)


def test_free_text_gets_its_weight_and_the_end_token_a_full_one(tiny, toy_task):
    (row,) = toy_task.rows("train")[:1]
    ((ids, start, weights),) = encode_rows(toy_task, [row], tiny.tokenizer, 4096, text_weight=0.25)
    free = len(toy_task.free_text(row))  # the tiny tokenizer has one token a byte
    assert toy_task.free_text(row) == ' "Thank you."}'
    assert weights == [1.0] * (len(ids) - start - free - 1) + [0.25] * free + [1.0]


def test_rate_rises_then_falls_to_a_tenth():
    config = settings(learning_rate=1.0, warmup=0.1)
    rates = [rate_at(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates.index(1.0) in (9, 10)
    assert rates[-1] == pytest.approx(0.109, abs=0.002)


def test_overlong_rows_are_refused_by_file_and_line(tiny, toy_task):
    with pytest.raises(DataError, match="2 row") as error:
        encode_rows(toy_task, toy_task.rows("train")[:2], tiny.tokenizer, 50)
    assert error.value.problems[0].startswith("train.jsonl:")


def test_training_lowers_the_loss_and_leaves_an_adapter(tiny, toy_task, tmp_path):
    result = train_sft(toy_task, tiny, settings(learning_rate=1e-2), tmp_path / "a", progress=False)
    losses = [point["validation_loss"] for point in result["curve"]]
    assert losses[-1] < losses[0] and result["rows"] == 12 and result["general_rows"] == 2 and result["steps"] == 8
    assert (tmp_path / "a" / "adapter_model.safetensors").exists() and not (tmp_path / "a" / "checkpoint").exists()


def test_a_pause_changes_nothing(toy_task, tmp_path, monkeypatch):
    straight = train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "straight", progress=False)
    _interrupt_at_step(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "paused", progress=False)
    monkeypatch.undo()
    resumed = train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "paused", resume=True, progress=False)
    for a, b in zip(resumed["curve"], straight["curve"], strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("straight", "paused")]
    assert weights[0] == weights[1]


def _interrupt_at_step(monkeypatch, n):
    """Send ourselves Ctrl-C during the n-th optimizer step."""
    step, count = Run.step, iter(range(1, 1000))

    def interrupted(self, batch):
        if next(count) == n:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Run, "step", interrupted)


def test_a_checkpoint_of_other_settings_is_refused(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    with pytest.raises(DataError, match="made with other config"):
        train_sft(toy_task, load_model("tiny"), settings(seed=1), tmp_path / "a", resume=True, progress=False)


def test_a_damaged_checkpoint_is_refused(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    (tmp_path / "a" / "checkpoint" / "state.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(DataError, match="checkpoint is damaged"):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", resume=True, progress=False)


def test_the_best_pass_is_kept_and_patience_stops(toy_task, tiny, tmp_path):
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2])
    config = settings(epochs=5, patience=2)
    result = train_sft(toy_task, tiny, config, tmp_path / "a", score=lambda model: {"strict": next(scores)}, progress=False)
    assert result["best_epoch"] == 2 and len(result["curve"]) == 4


def test_every_profile_builds_and_explains_itself():
    for name in PROFILES:
        lines = sft_config(name).explain()
        assert len(lines) >= 12 and all(len(line.split("=", 1)[1].strip().split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"learning_rate": -1.0}, {"warmup": 1.0}, {"rank": 0}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        sft_config("cpu", **changes)


def test_unknown_profile_and_setting_are_refused():
    with pytest.raises(UsageError, match="--profile: expected one of smoke"):
        sft_config("fast")
    with pytest.raises(UsageError, match="found colour"):
        sft_config("cpu", colour=3)


def test_chat_rows_and_text_rows_encode_alike(tiny, toy_task):
    row = toy_task.rows("train")[0]
    chat = Row(row.id, [{"role": "user", "content": row.text}], row.output)
    assert encode_rows(toy_task, [row], tiny.tokenizer, 4096) == encode_rows(toy_task, [chat], tiny.tokenizer, 4096)


def test_checkpoint_state_is_json_without_pickle(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    names = sorted(p.name for p in (tmp_path / "a" / "checkpoint").iterdir())
    assert names == ["state.json", "state.safetensors"]
    assert json.loads((tmp_path / "a" / "checkpoint" / "state.json").read_text())["step_in_epoch"] == 2

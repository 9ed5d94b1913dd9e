"""Supervised fine-tuning on the tiny model: the loss is the plain one, a pause changes nothing, bad rows are refused."""

import json
import os
import signal
from array import array

import pytest
from safetensors import SafetensorError, safe_open

from ftlab.artifact import save_adapter_weights
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_prompt, generate
from ftlab.models import load_model
from ftlab.rows import Row
from ftlab.train import PROFILES, sft_config, train_sft
from ftlab.train.loop import CHECKPOINT, Run, micro_batches, plan_epoch, rate_at
from ftlab.train.loss import AnswerLoss
from ftlab.train.rehearsal import longest_rehearsal, rehearsal_examples, rehearsal_prompts
from ftlab.train.sft import encode_rows, mean_loss, sft_run


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
    assert list(weights) == [1.0] * (len(ids) - start - free - 1) + [0.25] * free + [1.0]


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
    assert (tmp_path / "a" / "adapter_model.safetensors").exists() and not (tmp_path / "a" / CHECKPOINT).exists()


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
    with pytest.raises(DataError, match=r"made with other rank \(16, now 8\), seed \(0, now 1\); use the same"):
        train_sft(toy_task, load_model("tiny"), settings(seed=1, rank=8), tmp_path / "a", resume=True, progress=False)
    monkeypatch.setattr(type(toy_task), "hashes", lambda self: {"train.jsonl": "other"})
    with pytest.raises(DataError, match="made with other task; use the same"):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", resume=True, progress=False)


def test_a_run_goes_on_with_other_settings_of_memory(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    monkeypatch.undo()
    config = settings(memory_limit=100_000, micro_tokens=500, eval_batch_size=2)
    run, _ = sft_run(toy_task, load_model("tiny"), config, tmp_path / "a", resume=True)
    assert run.step_in_epoch == 1 and run.config.micro_tokens == 500


def test_a_damaged_checkpoint_is_refused(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    (tmp_path / "a" / CHECKPOINT).write_bytes(b"x" * 40)
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


NEVER_BELOW_0 = ("train_rows", "validation_rows", "general_rows", "text_weight", "patience", "memory_limit", "last_layers")


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"learning_rate": -1.0}, {"warmup": 1.0}, {"rank": 0}, {"max_grad_norm": 0.0}]
    + [{name: float("nan")} for name in ("learning_rate", "warmup", "text_weight", "max_grad_norm")]
    + [{name: -5} for name in NEVER_BELOW_0],
)
def test_settings_that_cannot_work_are_refused(changes):
    (name,) = changes
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: expected"):
        sft_config("cpu", **changes)
    assert sft_config("cpu", **dict.fromkeys(NEVER_BELOW_0, 0)).patience == 0


def test_unknown_profile_and_setting_are_refused():
    with pytest.raises(UsageError, match="--profile: expected one of smoke"):
        sft_config("fast")
    with pytest.raises(UsageError, match="found colour"):
        sft_config("cpu", colour=3)


def test_chat_rows_and_text_rows_encode_alike(tiny, toy_task):
    row = toy_task.rows("train")[0]
    chat = Row(row.id, [{"role": "user", "content": row.text}], row.output)
    assert list(encode_rows(toy_task, [row], tiny.tokenizer, 4096)) == list(encode_rows(toy_task, [chat], tiny.tokenizer, 4096))


def test_checkpoint_state_is_json_without_pickle(toy_task, tmp_path, monkeypatch):
    _interrupt_at_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(), tmp_path / "a", progress=False)
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {CHECKPOINT, "rehearsal.json"}
    with safe_open(tmp_path / "a" / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["state"])["step_in_epoch"] == 2


def _stopped_after_two_steps(toy_task, folder, monkeypatch):
    """A run with a checkpoint of its second step."""
    _interrupt_at_step(monkeypatch, 2)
    run, _ = sft_run(toy_task, load_model("tiny"), settings(), folder)
    with pytest.raises(KeyboardInterrupt):
        run.train(dict, progress=False)
    monkeypatch.undo()
    return run


FAULTS = {
    "a second Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt, None),
    "safetensors' error": (
        SafetensorError("No space left on device"),
        DataError,
        r"could not be written \(No space left.*make room",
    ),
    "the system's error": (OSError(28, "No space left"), DataError, r"could not be written \(No space left\); make room"),
}


@pytest.mark.parametrize(("fault", "kind", "said"), FAULTS.values(), ids=FAULTS)
def test_a_save_that_fails_leaves_the_checkpoint_before_it(toy_task, tmp_path, monkeypatch, fault, kind, said):
    run = _stopped_after_two_steps(toy_task, tmp_path, monkeypatch)
    before, run.step_in_epoch = (tmp_path / CHECKPOINT).read_bytes(), 3

    def half_written(tensors, path, metadata):
        path.write_bytes(b"half")
        raise fault

    monkeypatch.setattr("safetensors.torch.save_file", half_written)
    with pytest.raises(kind, match=said):
        run.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_full_disk_while_an_adapter_is_saved_is_one_sentence(toy_task, tmp_path, monkeypatch):
    run, _ = sft_run(toy_task, load_model("tiny"), settings(), tmp_path)

    def full(tensors, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DataError, match=r"the adapter could not be written \(.*No space left on device.*; make room"):
        save_adapter_weights(run.model, tmp_path)


def test_ctrl_c_while_the_last_pass_is_measured_stops(toy_task, tmp_path):
    def score(loaded):
        os.kill(os.getpid(), signal.SIGINT)
        return {"strict": 0.5}

    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), settings(epochs=1), tmp_path, score=score, progress=False)
    resumed = train_sft(toy_task, load_model("tiny"), settings(epochs=1), tmp_path, resume=True, progress=False)
    assert len(resumed["curve"]) == 1 and resumed["curve"][0]["strict"] == 0.5


def test_rows_that_exceed_the_context_are_named_before_training(tiny, toy_task, tmp_path):
    lengths = encode_rows(toy_task, toy_task.rows("train"), tiny.tokenizer, 4096).lengths
    tiny.model.config.max_position_embeddings = max(lengths) - 1
    with pytest.raises(DataError, match=rf"^train.jsonl:\d+: expected at most {max(lengths) - 1} tokens.*shorten the row"):
        sft_run(toy_task, tiny, settings(train_rows=0), tmp_path)
    tiny.model.config.max_position_embeddings = max(lengths)
    with pytest.raises(DataError, match=r"\d+ \+ 150 in its prompt and a generated answer.*lower max_new_tokens"):
        sft_run(toy_task, tiny, settings(train_rows=0, max_new_tokens=150), tmp_path)


def test_validation_rows_must_fit_the_context_too(tiny, toy_task, tmp_path):
    row = toy_task.rows("validation")[0]
    toy_task.splits["validation"] = [Row("long", row.text + "!" * 100, row.output, where="validation.jsonl:1")]
    tiny.model.config.max_position_embeddings = len(encode_rows(toy_task, [row], tiny.tokenizer, 4096)[0][0]) + 50
    with pytest.raises(DataError, match="^validation.jsonl:1: expected at most"):
        train_sft(toy_task, tiny, settings(), tmp_path, progress=False)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(toy_task, tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("ftlab.train.rehearsal.generate", None)  # calling it would fail
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="expected a folder or a place for one"):
            train_sft(toy_task, tiny, settings(), out, progress=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_rows_are_kept_as_32_bit_integers_and_shared_weights(toy_task, tiny):
    examples = encode_rows(toy_task, toy_task.rows("train")[:4], tiny.tokenizer, 4096, text_weight=0.3)
    for ids, start, weights in examples:
        assert (
            isinstance(ids, array) and ids.itemsize == 4 and len({id(w) for w in weights}) == 2 and start + len(weights) == len(ids)
        )
    as_lists = [(list(ids), start, weights) for ids, start, weights in examples]
    assert AnswerLoss(tiny)(examples)[0].item() == AnswerLoss(tiny)(as_lists)[0].item()


def test_general_rows_are_answered_once_in_batches_of_the_settings(tiny, tmp_path, monkeypatch):
    keep = tmp_path / "new" / "rehearsal.json"
    sizes = []

    def counted(*args, **options):
        sizes.append(options["batch_size"])
        return generate(*args, **options)

    monkeypatch.setattr("ftlab.train.rehearsal.generate", counted)
    first = rehearsal_examples(tiny, 2, keep, 4096, batch_size=3)
    assert rehearsal_examples(tiny, 2, keep, 4096) == first and sizes == [3]
    for damage in ("{", "[]", '{"key": "other"}', "\udcff"):
        keep.write_text(damage, errors="surrogateescape")
        assert rehearsal_examples(tiny, 2, keep, 4096, batch_size=3) == first
    assert sizes == [3] * 5 and [p.name for p in keep.parent.iterdir()] == ["rehearsal.json"]


def test_the_longest_general_row_is_its_prompt_and_the_answer_limit(tiny):
    (text,) = rehearsal_prompts(1)
    prompt = encode_prompt(tiny.tokenizer, [{"role": "user", "content": text}])
    assert longest_rehearsal(tiny, 1, 4096) == len(prompt) + 64 and longest_rehearsal(tiny, 1, 70) == 70
    assert longest_rehearsal(tiny, 0, 4096) == 0

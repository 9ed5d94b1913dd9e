"""The study of a pretrained start, on a model small enough to be made here."""

import json

import pytest

from ftlab.cli import main
from ftlab.errors import UsageError
from ftlab.head_start import head_start, head_start_text, row_losses
from ftlab.models import load_model
from ftlab.train.loss import AnswerLoss
from ftlab.train.sft import encode_rows, mean_loss

SMALL = {"rows": (8,), "seeds": 2, "steps": 2, "held_out": 6, "max_new_tokens": 8, "max_length": 4096, "say": lambda text: None}


@pytest.fixture
def folder(tiny, tmp_path):
    """The tiny random model as a folder: it stands for a pretrained one."""
    tiny.model.save_pretrained(tmp_path / "small")
    tiny.tokenizer.save_pretrained(tmp_path / "small")
    return str(tmp_path / "small")


def test_row_losses_add_up_to_the_mean_loss(tiny, toy_task):
    examples = encode_rows(toy_task, toy_task.rows("train")[:5], tiny.tokenizer, 4096)
    each = row_losses(tiny, examples, 700)
    labels = [n - start for n, start in zip(examples.lengths, examples.starts, strict=True)]
    whole = sum(loss * n for loss, n in zip(each, labels, strict=True)) / sum(labels)
    assert whole == pytest.approx(mean_loss(AnswerLoss(tiny), examples, 4000), rel=1e-5)


def test_the_arms_differ_in_their_first_weights_only(folder, toy_task, tmp_path):
    found = head_start(toy_task, folder, tmp_path / "out", **SMALL)
    (point,) = found["points"]
    assert point["rows"] == 8 and found["held_out"] == 6
    pretrained, random = (point["arms"][start] for start in ("pretrained", "random"))
    assert len({arm["loss"] for arm in random}) == 2 == len({arm["loss"] for arm in pretrained})  # by seed
    differences = [a["loss"] - b["loss"] for a, b in zip(random, pretrained, strict=True)]
    assert point["loss"]["by_seed"] == pytest.approx(differences)
    assert "nats" in head_start_text(found)
    again = head_start(toy_task, folder, tmp_path / "out", **SMALL)  # nothing is trained twice
    assert again == found and len(list((tmp_path / "out").glob("*/arm.json"))) == 4


def test_rows_that_are_compared_are_not_trained_on(folder, toy_task, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ftlab.head_start._arm",
        lambda task, *rest: seen.append(task) or {"losses": [1.0], "right": {"schema_valid": [True], "class_right": [False]}},
    )
    head_start(toy_task, folder, tmp_path, **SMALL)
    for task in seen:
        assert not {row.id for row in task.rows("train")} & {row.id for row in task.rows("test")}
        assert {row.id for row in task.rows("test")} <= {row.id for row in toy_task.rows("train")}


def test_too_few_rows_and_no_model_are_said(folder, toy_task, tmp_path, capsys):
    with pytest.raises(UsageError, match="expected 10006 training rows at least"):
        head_start(toy_task, folder, tmp_path, **(SMALL | {"rows": (10_000,)}))
    assert main(["study", "head-start", "--task", str(toy_task.folder)]) == 2
    assert "expected --model" in capsys.readouterr().err


def test_random_weights_are_the_seed_s(folder):
    from ftlab.head_start import _forget

    def weights(seed):
        loaded = load_model(folder)
        _forget(loaded, seed)
        return json.dumps(next(loaded.model.parameters()).flatten()[-5:].tolist())

    assert weights(0) == weights(0) != weights(1)

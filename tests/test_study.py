"""The studies of data, end to end with the tiny model: equal sizes, the right rows, nothing trained twice."""

import json

import pytest

from ftlab import study
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.task import file_sha256

SMALL = {"general_rows": 0, "epochs": 1, "train_rows": 0}


@pytest.fixture
def adapter(toy_task, tmp_path):
    """An adapter trained on all toy rows."""
    study._arm(toy_task, toy_task.rows("train"), tmp_path / "all", "smoke", study.sft_config("smoke", **SMALL), lambda _: None)
    return tmp_path / "all"


def test_points_of_the_curve_hold_their_share_of_the_rows(toy_task, adapter, tmp_path):
    found = study.learning_curve(
        toy_task, tmp_path / "curve", profile_name="smoke", shares=(0.5,), adapter=adapter, say=lambda _: None, **SMALL
    )
    n = len(toy_task.rows("train"))
    assert [(p["share"], p["rows"]) for p in found["points"]] == [(0.5, round(n / 2)), (1.0, n)]
    for point in found["points"]:
        assert point["scores"]["strict"]["n"] == len(toy_task.rows("validation"))
        assert point["classifiers"]["tfidf_linear_svm"]["share"] > 0.5


def test_both_arms_of_diversity_have_as_many_rows_and_copies_keep_their_values(toy_task, tmp_path):
    found = study.diversity_study(toy_task, tmp_path, rows=16, seeds=1, profile_name="smoke", say=lambda _: None, **SMALL)
    assert found["rows"] == {"diverse": 16, "copies": 16}
    assert [len(arm) for arm in found["arms"].values()] == [1, 1] and set(found["paired"][0]) >= {"strict"}
    rows = toy_task.rows("train")[:4]
    copies = study._copies(toy_task, rows, 3)
    assert len({row.id for row in copies}) == 12
    assert all(row.output["number"] in row.text for row in copies)
    assert any(copy.text != row.text for copy, row in zip(copies, [*rows] * 3, strict=True))


def test_more_rows_than_there_are_is_refused(toy_task, tmp_path):
    with pytest.raises(UsageError, match="--rows: expected 4 to"):
        study.diversity_study(toy_task, tmp_path, rows=1000)


def test_noise_asks_the_same_rows_twice(toy_task, adapter):
    found = study.noise_study(toy_task, adapter=adapter, model="tiny", rate=1.0, say=lambda _: None)
    assert found["noise"]["rows"] == found["paired"]["strict"]["n"] == len(toy_task.rows("test"))
    assert found["noise"]["changed"] > 0


def test_a_finished_arm_is_not_trained_again(toy_task, adapter, tmp_path):
    said = []
    study._arm(toy_task, toy_task.rows("train"), adapter, "smoke", study.sft_config("smoke", **SMALL), said.append)
    assert any("not trained again" in line for line in said)


def test_an_option_that_a_study_does_not_use_is_refused(capsys):
    assert main(["study", "noise", "--rows", "5"]) == 2
    assert "expected no --rows" in capsys.readouterr().err


def write_fresh(task, text="Where is my money for order 4321?"):
    row = {"id": "f1", "input": text, "output": {"intent": "refund", "number": "4321", "say": "Thank you."}}
    path = task.folder / study.FRESH
    path.write_text(json.dumps(row) + "\n")
    path.with_suffix(".sha256").write_text(file_sha256(path))
    return path


def test_fresh_rows_are_answered_by_the_model_and_by_what_is_trained_on_the_same_rows(toy_task, adapter):
    write_fresh(toy_task)
    found = study.fresh_study(toy_task, adapter=adapter, model="tiny", say=lambda _: None)
    assert found["rows"] == found["scores"]["tfidf"]["strict"]["n"] == found["paired"]["strict"]["n"] == 1
    assert found["classifiers"]["tfidf_linear_svm"]["accuracy"]["k"] == 1  # "money" and "order" are refund words
    assert found["train"] == toy_task.hashes()["train"]


def test_a_fresh_set_that_has_changed_is_refused(toy_task, adapter):
    path = write_fresh(toy_task)
    path.write_text(path.read_text().replace("Where", "And where"))
    with pytest.raises(DataError, match="has changed"):
        study.fresh_study(toy_task, adapter=adapter, model="tiny")


def test_no_fresh_set_is_said(toy_task, adapter):
    with pytest.raises(DataError, match="found no file"):
        study.fresh_study(toy_task, adapter=adapter, model="tiny")

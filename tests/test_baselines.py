"""The TF-IDF baseline learns what can be learnt from words and leaves the rest."""

import json
from dataclasses import replace

import pytest

from ftlab import embed, evaluate_outputs, load_task
from ftlab.baselines import TfidfBaseline, classifier_accuracies
from ftlab.errors import DataError, UsageError


def test_it_learns_a_task_of_keywords(toy_task):
    baseline = TfidfBaseline(toy_task, toy_task.rows("train"), {"number": [r"\d{4}"]})
    rows = toy_task.rows("test")
    scores = evaluate_outputs(toy_task, rows, baseline.predict(rows))["scores"]
    assert scores["class_right"]["share"] == scores["values_right"]["share"] == 1.0


def test_labels_of_the_asked_rows_are_not_looked_at(toy_task):
    baseline = TfidfBaseline(toy_task, toy_task.rows("train"))
    rows = toy_task.rows("test")
    assert baseline.predict(rows) == baseline.predict([replace(row, output=None) for row in rows])


def test_support_answers_are_valid_and_consistent():
    task = load_task("support_plan")
    baseline = TfidfBaseline(task, task.rows("train")[:200], json.loads((task.folder / "rules.json").read_text())["extractors"])
    for row, output in zip(task.rows("validation")[:20], baseline.predict(task.rows("validation")[:20]), strict=True):
        check = task.checker.check(output, row.text)
        assert check.passes("schema") and not check.has("wrong_missing_info") and not check.has("wrong_question_count")


def test_one_class_cannot_be_learnt(toy_task):
    rows = [row for row in toy_task.rows("train") if row.output["intent"] == "refund"]
    with pytest.raises(DataError, match="at least two classes"):
        TfidfBaseline(toy_task, rows)


def test_classifiers_give_one_verdict_per_row(toy_task):
    hits = classifier_accuracies(toy_task, toy_task.rows("train"), toy_task.rows("test"))
    assert set(hits) == {
        "tfidf_logistic_regression",
        "tfidf_linear_svm",
        "tfidf_naive_bayes",
        "minilm_logistic_regression",
    }
    assert all(len(h) == len(toy_task.rows("test")) and all(h) for h in hits.values())


def test_without_the_extra_the_classifiers_are_those_on_words(toy_task, monkeypatch):
    monkeypatch.setattr(embed, "installed", lambda: False)
    assert len(classifier_accuracies(toy_task, toy_task.rows("train"), toy_task.rows("test"))) == 3
    with pytest.raises(UsageError, match="ftlab\\[embeddings\\]"):
        embed.embed(["a text"])


def test_embeddings_are_unit_vectors_and_know_a_paraphrase():
    a, b, c = embed.embed(["I want my money back", "Please refund what I paid", "The weather is lovely today"])
    assert a @ a == pytest.approx(1, abs=1e-5) and a @ b > 0.5 > a @ c

"""A baseline without a language model: TF-IDF and logistic regression for the class, declared patterns for values, and the answer
text of the nearest training row. It costs seconds, so a tuned model has to beat it to be worth its price.

A task may declare patterns in rules.json under "extractors": {"entities.email": ["regex", …]}; the first match is taken, its first
group if it has one.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ftlab.errors import DataError
from ftlab.rows import Row
from ftlab.task import Task, dump_output


def constant_answer(task: Task, rows: Sequence[Row]) -> str:
    """The floor under every score: one answer for whatever comes, the most frequent one of the most frequent class of `rows`.

    Raises:
        DataError: there are no labelled rows.
    """
    if not rows or any(row.output is None for row in rows):
        raise DataError("constant_answer: expected labelled rows, found none or some without an output; label them first.")
    classes = Counter(str(row.output.get(task.class_field)) for row in rows)
    (most, _), *_ = classes.most_common(1)
    answers = Counter(task.completion(row) for row in rows if str(row.output.get(task.class_field)) == most)
    return answers.most_common(1)[0][0]


def declared_patterns(task: Task) -> dict[str, list[str]]:
    """The patterns for values that the task's rules.json declares under "extractors"; {} if none."""
    rules = task.folder / "rules.json"
    return json.loads(rules.read_text(encoding="utf-8")).get("extractors", {}) if rules.exists() else {}


class TfidfBaseline:
    """Predicts whole outputs from labelled rows.

    Args:
        task: gives schema, rules and key order.
        rows: labelled training rows. Where the task has no class field, the nearest of all of them gives the answer.
        extractors: dotted path → regular expressions, tried in order.

    Raises:
        DataError: fewer than two classes of a class field, so that nothing can be learnt.

    Source: Salton & Buckley (1988) for TF-IDF weighting; the models are scikit-learn's.
    """

    def __init__(self, task: Task, rows: Sequence[Row], extractors: dict[str, list[str]] | None = None):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        self.task, self.rows = task, list(rows)
        try:
            self.extractors = {path: [re.compile(p, re.IGNORECASE) for p in ps] for path, ps in (extractors or {}).items()}
        except (re.error, TypeError) as error:
            raise DataError(
                f'rules.json: expected "extractors" to be lists of regular expressions, found a fault: {error}.'
            ) from None
        self.required = next((rule for rule in task.rules if rule["rule"] == "required_fields"), None)
        labels = [self._class(row.output) for row in rows]
        if task.class_field and len(set(labels)) < 2:
            raise DataError("the TF-IDF baseline needs rows of at least two classes; found one.")
        texts = [row.text for row in rows]
        decide = [LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced")] if task.class_field else []
        self.classifier = make_pipeline(_features(), *decide)
        self.classifier.fit(texts, labels)
        self.vectors = self.classifier[0].transform(texts)  # (rows, features), L2-normed halves

    def _class(self, output: dict) -> str:
        return str(output.get(self.task.class_field)) if self.task.class_field else "all"

    def predict(self, rows: Sequence[Row]) -> list[str]:
        """One JSON text per row."""
        texts = [row.text for row in rows]
        classes = self.classifier.predict(texts) if self.task.class_field else ["all"] * len(rows)
        similar = (self.classifier[0].transform(texts) @ self.vectors.T).toarray()  # (rows, training rows)
        return [self._answer(text, c, s) for text, c, s in zip(texts, classes, similar, strict=True)]

    def _answer(self, text: str, predicted: str, similar: Any) -> str:
        nearest = [self.rows[i].output for i in similar.argsort()[::-1] if self._class(self.rows[i].output) == predicted]
        answer = json.loads(json.dumps(nearest[0]))
        for key in {path.partition(".")[0] for path in self.extractors if "." in path}:
            answer[key] = {}  # the neighbour's values are not this message's
        for path in self.extractors:
            key, _, name = path.partition(".")
            if found := self._extract(path, text):
                answer[key] = answer[key] | {name: found} if name else found
        if self.required:
            spec = self.required
            present = answer[spec["among"]]
            answer[spec["path"]] = [f for f in spec["required"].get(predicted, []) if f not in present]
            # the wording of a row that lacks the same things asks for the same things
            alike = next((o for o in nearest if o[spec["path"]] == answer[spec["path"]]), None)
            answer = (alike or answer) | {key: answer[key] for key in (spec["among"], spec["path"])}
        return dump_output(answer, self.task.key_order)

    def _extract(self, path: str, text: str) -> str | None:
        for pattern in self.extractors[path]:
            if match := pattern.search(text):
                return (match.group(1) if pattern.groups else match.group()).strip()
        return None


def task_baseline(task: Task) -> TfidfBaseline:
    """The baseline on a task's training rows, with the patterns that its rules.json declares.

    Raises:
        DataError: see `TfidfBaseline`.
    """
    return TfidfBaseline(task, task.rows("train"), declared_patterns(task))


def _features() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )


def classifier_accuracies(task: Task, train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[bool]]:
    """Per-row hits of plain classifiers for the class field, trained on the same rows: the bar for a tuned model.

    Three see word and letter n-grams. Where the extra `embeddings` is installed, a fourth is logistic regression on sentence embeddings.

    Returns:
        name → one bool per row of `rows`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB
    from sklearn.svm import LinearSVC

    from ftlab import embed

    labels = [str(row.output.get(task.class_field)) for row in train]
    expected = [str(row.output.get(task.class_field)) for row in rows]
    texts, asked = [row.text for row in train], [row.text for row in rows]
    grams = _features()
    tfidf = grams.fit_transform(texts), grams.transform(asked)
    models = {
        "tfidf_logistic_regression": (LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced"), tfidf),
        "tfidf_linear_svm": (LinearSVC(C=0.5, class_weight="balanced"), tfidf),
        "tfidf_naive_bayes": (ComplementNB(alpha=0.3), tfidf),
    }
    if embed.installed():
        vectors = embed.embed(texts), embed.embed(asked)
        models["minilm_logistic_regression"] = (LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced"), vectors)
    hits = {}
    for name, (model, (known, new)) in models.items():
        predicted = model.fit(known, labels).predict(new)
        hits[name] = [str(p) == label for p, label in zip(predicted, expected, strict=True)]
    return hits

"""What a label teaches and what a comparison teaches: the same classifier, taught by rows or by pairs of a better and a worse answer."""

import random
from collections.abc import Sequence
from typing import Any

from ftlab.rows import Row
from ftlab.task import Task

_C = 10.0  # weak regularisation, the same for both


def features(train: Sequence[Row], rows: Sequence[Row]) -> tuple[Any, Any]:
    """(X of the training rows, X of the rows), TF-IDF over pieces of words: (rows, features), sparse."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    return grams.fit_transform([row.text for row in train]), grams.transform([row.text for row in rows])


def taught_by_labels(task: Task, train: Sequence[Row], rows: Sequence[Row]) -> list[bool]:
    """Per row: is the class right, after each training row named its class?"""
    from sklearn.linear_model import LogisticRegression

    known, asked = features(train, rows)
    model = LogisticRegression(C=_C, max_iter=500).fit(known, _classes(task, train))
    return [str(found) == label for found, label in zip(model.predict(asked), _classes(task, rows), strict=True)]


def taught_by_pairs(task: Task, train: Sequence[Row], rows: Sequence[Row], seed: int = 0) -> list[bool]:
    """Per row: is the class right, after each training row only said that its class is better than one other, drawn at random?

    The score of class c for a message x is w_c·x, and the chance that a is preferred to b is σ(w_a·x − w_b·x): a logistic regression
    on the differences. Source: Bradley & Terry (1952), which preference tuning builds on.
    """
    from scipy.sparse import csr_matrix, hstack, vstack
    from sklearn.linear_model import LogisticRegression

    rng = random.Random(seed)
    known, asked = features(train, rows)
    classes, labels = sorted(set(_classes(task, train))), _classes(task, train)
    nothing, lines, signs = csr_matrix((1, known.shape[1])), [], []
    for x, label in zip(known, labels, strict=True):
        worse, sign = rng.choice([c for c in classes if c != label]), rng.choice((1, -1))
        lines.append(hstack([sign * x if c == label else -sign * x if c == worse else nothing for c in classes], format="csr"))
        signs.append(sign)
    if len(set(signs)) == 1:  # the regression wants both orders to occur
        lines[0], signs[0] = -lines[0], -signs[0]
    model = LogisticRegression(C=_C, fit_intercept=False, max_iter=500).fit(vstack(lines, format="csr"), signs)
    scores = asked @ model.coef_.reshape(len(classes), -1).T  # (rows, classes)
    return [classes[best] == label for best, label in zip(scores.argmax(axis=1), _classes(task, rows), strict=True)]


def learnt_field(train: Sequence[tuple[str, str]], asked: Sequence[str]) -> list[str]:
    """What a classifier that learnt from (text, answer) pairs says of each text: words of the text, logistic regression."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(ngram_range=(1, 2), binary=True), LogisticRegression(C=_C, max_iter=500))
    model.fit([text for text, _ in train], [answer for _, answer in train])
    return list(model.predict(asked))


def _classes(task: Task, rows: Sequence[Row]) -> list[str]:
    return [str(row.output[task.class_field]) for row in rows]

"""Labels that may be wrong: alike messages with different answers, and labels that the other rows speak against."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ftlab.checks import compare, normalize
from ftlab.datatools.similar import words
from ftlab.rows import Row
from ftlab.task import Task

TWIN = "twin"  # the tag of a row that stands near another one with another answer, on purpose


class Suspect(NamedTuple):
    """A row whose label the others speak against."""

    index: int
    label: str
    likely: str
    p_label: float
    p_likely: float


def same_answer(task: Task, a: Row, b: Row) -> bool:
    """True if two rows' answers agree on every field that is compared."""
    return not compare(a.output, b.output, task.fields)


def conflict(task: Task, a: Row, b: Row, skeletons: tuple[str, str]) -> str:
    """Why the labels of two alike rows contradict each other, or "".

    They do if the messages are the same, sign for sign, and the answers are not, or if they differ in nothing but values and yet have
    another class. Twins that differ in a word may well differ in the answer; so may twins that differ in a value which decides (a day
    inside and one outside a limit), where one of them carries the tag `twin`, by which its writer says that this is meant.
    """
    if signs(a) == signs(b):
        return "" if same_answer(task, a, b) else "the messages are the same, the answers are not"
    labels = [row.output.get(task.class_field) for row in (a, b)]
    if TWIN in a.tags or TWIN in b.tags:
        return ""
    if skeletons[0] == skeletons[1] and words(a.text) != words(b.text) and labels[0] != labels[1]:
        return f"the messages differ in values only, but one is {labels[0]}, the other {labels[1]}"
    return ""


def signs(row: Row) -> str:
    """All messages of a row without case and white space: equal for what is the same to read.

    Subtle: punctuation stays, since "no, it's mine" and "no it's mine?" may differ in meaning.
    """
    return "\n".join("".join(normalize(message["content"]).split()) for message in row.messages)


def off_diagonal(probabilities: Any, labels: Sequence[int]) -> list[tuple[int, int]]:
    """(row, likelier class) of each row that confident learning puts off the diagonal.

    A row counts as class j if the model gives j at least the mean probability that rows labelled j get for it; of several such
    classes, the most probable.

    Args:
        probabilities: array (rows, classes), each row predicted by a model that has not seen it.
        labels: the class index of each row.

    Source: Northcutt, Jiang & Chuang (2021), "Confident Learning", J. Artif. Intell. Res. 70, equations 1 and 2.
    """
    import numpy as np

    labels = np.asarray(labels)
    limits = np.array(
        [probabilities[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(probabilities.shape[1])]
    )
    confident = np.where(probabilities >= limits, probabilities, -1.0)  # (rows, classes)
    likely = confident.argmax(axis=1)
    return [(int(i), int(likely[i])) for i in np.flatnonzero((confident.max(axis=1) >= 0) & (likely != labels))]


def suspects(texts: Sequence[str], labels: Sequence[str], seed: int = 0, folds: int = 5) -> tuple[list[Suspect], int]:
    """Rows whose label TF-IDF and logistic regression, trained on the other folds, speak against; the least credible label first.

    Returns:
        the suspects, and how many rows could not be judged because their class has fewer rows than there are folds.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    sizes = Counter(labels)
    judged = [i for i, label in enumerate(labels) if sizes[label] >= folds]
    classes = sorted({labels[i] for i in judged})
    if len(classes) < 2:
        return [], len(labels)
    numbers = np.array([classes.index(labels[i]) for i in judged])
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]"),
        LogisticRegression(C=10.0, max_iter=1000, tol=1e-3),  # twice as fast as the default; ranks matter here
    )
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    p = cross_val_predict(model, [texts[i] for i in judged], numbers, cv=split, method="predict_proba")  # (judged, classes)
    found = [
        Suspect(judged[k], classes[numbers[k]], classes[j], float(p[k, numbers[k]]), float(p[k, j]))
        for k, j in off_diagonal(p, numbers)
    ]
    return sorted(found, key=lambda s: (s.p_label - s.p_likely, s.index)), len(labels) - len(judged)

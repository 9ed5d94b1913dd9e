"""A second round that takes milliseconds: a learner that answers with the class of the nearest training row, and ways to choose its rows.

It stands in for a training of minutes or hours, so that a round can be repeated many times and its luck can be seen.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from ftlab.rows import Row
from ftlab.stats import Share, share
from ftlab.task import Task, load_task

POOL, OTHERS = 2400, 1000  # training rows to choose from, and training rows that only judge
START, ADDED = 400, 150
JUDGES = ("validation", "other")
Picked = dict[str, list[int]]  # way of choosing -> places of rows in the pool


class NearestRow:
    """Answers with the class of the training row whose words are nearest. It never invents a class and knows nothing of values.

    All similarities are computed once (TF-IDF of words and pairs of words, cosine), so a "training" on any part of the pool is a look-up.

    Args:
        task: says which field is the class.
        pool: labelled rows that may be trained on.
        asked: name → labelled rows to be answered.
    """

    def __init__(self, task: Task, pool: Sequence[Row], asked: Mapping[str, Sequence[Row]]):
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.pool, self.asked = list(pool), {name: list(rows) for name, rows in asked.items()}
        self.labels = np.array([str(row.output[task.class_field]) for row in pool])
        self.wanted = {name: np.array([str(row.output[task.class_field]) for row in rows]) for name, rows in asked.items()}
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        known = words.fit_transform([row.text for row in pool])
        self.similar = {
            name: (words.transform([row.text for row in rows]) @ known.T).toarray() for name, rows in asked.items()
        }  # (rows asked, pool)

    def classes(self, name: str, chosen: Sequence[int]) -> list[str]:
        """The class it gives each of the rows `name` when it has only the `chosen` rows of the pool."""
        nearest = self.similar[name][:, list(chosen)].argmax(axis=1)
        return [str(self.labels[chosen[i]]) for i in nearest]

    def hits(self, name: str, chosen: Sequence[int]) -> list[bool]:
        """Per row of `name`: is that the labelled class?"""
        return [found == label for found, label in zip(self.classes(name, chosen), self.wanted[name].tolist(), strict=True)]

    def failing(self, name: str, chosen: Sequence[int]) -> list[int]:
        """The places of the rows of `name` that it gets wrong."""
        return [i for i, hit in enumerate(self.hits(name, chosen)) if not hit]


@cache
def stand_in(name: str = "support_plan", seed: int = 0) -> NearestRow:
    """The learner on a pool of the task's training rows, asked its validation rows and, as "other", training rows outside the pool.

    Kept by name, since several sections of a notebook ask for it. Frozen test rows are not touched.
    """
    task = load_task(name)
    rows = list(task.rows("train"))
    random.Random(seed).shuffle(rows)
    asked = {"validation": task.rows("validation"), "other": rows[POOL : POOL + OTHERS]}
    return NearestRow(task, rows[:POOL], asked)


def class_only(task: Task, train: Sequence[Row]) -> Task:
    """The task with these training rows and nothing to decide but the class, so that the tools of `ftlab data` read a classifier's answers.

    It has no test rows, since nothing is claimed with it.
    """
    field, parts = task.class_field, {"train": train, "validation": task.rows("validation"), "test": ()}
    splits = {split: tuple(replace(row, output={field: row.output[field]}) for row in rows) for split, rows in parts.items()}
    schema = {
        "title": f"{task.name}_{field}", "type": "object", "required": [field], "additionalProperties": False,
        "properties": {field: task.schema["properties"][field]},
    }  # fmt: skip
    return replace(task, schema=schema, rules=(), fields=(field,), key_order=(field,), splits=splits, derived=())


def of_the_kind(
    learner: NearestRow, name: str, failing: Sequence[int], free: Sequence[int], n: int, draw: random.Random
) -> list[int]:
    """n rows of the pool of the same kinds as the failing rows of `name`, taken in turn: what `feedback` would have a person write.

    Of the same kind are rows with the failing row's class, language and first tag; where none is left, with its class and language, then
    with its class.
    """
    kinds: dict[tuple, list[int]] = {}
    for i in free:
        for kind in _kinds(learner.pool[i], learner.labels[i]):
            kinds.setdefault(kind, []).append(i)
    chosen: list[int] = []
    for turn in range(n):
        at = failing[turn % len(failing)]
        left = (
            [i for i in kinds.get(kind, ()) if i not in chosen]
            for kind in _kinds(learner.asked[name][at], learner.wanted[name][at])
        )
        chosen.append(draw.choice(next(rows for rows in left if rows)))
    return chosen


def _kinds(row: Row, label: str) -> list[tuple]:
    return [(label, row.lang, row.tags[:1]), (label, row.lang), (label,)]


def nearest_to(learner: NearestRow, name: str, failing: Sequence[int], free: Sequence[int], n: int) -> list[int]:
    """n rows of the pool that are nearest to the very messages of `name` that fail and have their class, taken in turn."""
    import numpy as np

    ranked, places = {}, np.array(free)
    for at in failing:
        same = places[learner.labels[places] == learner.wanted[name][at]]
        ranked[at] = iter(same[np.argsort(-learner.similar[name][at, same], kind="stable")].tolist())
    chosen: list[int] = []
    for turn in range(n):
        chosen.append(next(i for i in ranked[failing[turn % len(failing)]] if i not in chosen))
    return chosen


def second_round(learner: NearestRow, seed: int, start: int = START, added: int = ADDED) -> Picked:
    """One draw of a second round: the rows of the first round, and these with as many rows added in each of three ways.

    Returns:
        {"start", "random", "kind", "nearest"}; failures are read on the validation rows.
    """
    draw, order = random.Random(seed), list(range(len(learner.pool)))
    draw.shuffle(order)
    first, free = order[:start], order[start:]
    failing = learner.failing("validation", first)
    return {
        "start": first,
        "random": first + draw.sample(free, added),
        "kind": first + of_the_kind(learner, "validation", failing, free, added, draw),
        "nearest": first + nearest_to(learner, "validation", failing, free, added),
    }


def gains(learner: NearestRow, draws: Sequence[Picked], over: str = "random") -> dict[str, dict[str, list[float]]]:
    """Rows set → way of choosing → for each draw, points of a hundred by which it is right more often than `over`."""
    shares = [
        {name: {way: 100 * sum(hits) / len(hits) for way in draw for hits in [learner.hits(name, draw[way])]} for name in JUDGES}
        for draw in draws
    ]
    ways = [way for way in draws[0] if way not in ("start", over)]
    return {name: {way: [s[name][way] - s[name][over] for s in shares] for way in ways} for name in JUDGES}


def picked_batches(learner: NearestRow, rounds: int = 12, tries: int = 30, size: int = 25, seed: int = 0) -> list[dict]:
    """Rounds that each try random batches and keep the one that is best on validation rows, beside rounds that take the first batch.

    Returns:
        [{"rows", "best": {"validation", "other"}, "first": {…}}] after each round, beginning with none; each value a list of hits.
    """
    draw, order = random.Random(seed), list(range(len(learner.pool)))
    draw.shuffle(order)
    best, first, free = order[:START], order[:START], order[START:]
    points = [_point(learner, best, first)]
    for _ in range(rounds):
        batches = [draw.sample(free, size) for _ in range(tries)]
        taken = max(batches, key=lambda batch, before=best: sum(learner.hits("validation", before + batch)))
        best, first = best + taken, first + batches[0]
        free = [i for i in free if i not in set(taken) | set(batches[0])]
        points.append(_point(learner, best, first))
    return points


def _point(learner: NearestRow, best: Sequence[int], first: Sequence[int]) -> dict:
    ways = {"best": best, "first": first}
    return {"rows": len(best)} | {way: {name: learner.hits(name, rows) for name in JUDGES} for way, rows in ways.items()}


def growth(learner: NearestRow, sizes: Sequence[int], draws: int = 8, seed: int = 0) -> dict[str, list[tuple[int, Share]]]:
    """Set of rows → (training rows, share right) at each size, on average over draws of which rows; the interval is that of one draw."""
    draw, orders = random.Random(seed), []
    for _ in range(draws):
        orders.append(draw.sample(range(len(learner.pool)), len(learner.pool)))
    found = {}
    for name in JUDGES:
        n = len(learner.asked[name])
        counts = [(size, round(sum(sum(learner.hits(name, order[:size])) for order in orders) / draws)) for size in sizes]
        found[name] = [(size, share([True] * k + [False] * (n - k))) for size, k in counts]
    return found

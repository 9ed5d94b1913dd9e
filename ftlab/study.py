"""Small studies of what data does to a tuned model: how scores grow with rows, whether other rows beat copies, what noise costs.

Every arm trains one adapter with the settings of a profile and is scored on validation rows; one that is finished is not trained again.
`noise_study` and `fresh_study` train nothing: they ask the shipped adapter the frozen test rows as they are and with noise, and the rows
of a second frozen set by other writers.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.artifact import apply_adapter, shipped_adapter
from ftlab.baselines import classifier_accuracies, task_baseline
from ftlab.datatools.noise import as_typed
from ftlab.errors import UsageError
from ftlab.evaluate import compare_runs, evaluate_outputs, evaluate_tuned, without_rows
from ftlab.mainjob import score_line, train_adapter, versus
from ftlab.models import EMBEDDED, LoadedModel, load_model
from ftlab.rows import Row, whole_rows
from ftlab.stats import share
from ftlab.task import Task, check_frozen, file_sha256, stratified
from ftlab.train.settings import profile, sft_config

SHARES = (0.1, 0.25, 0.5)
COPIES = 4
FRESH = "fresh_test.jsonl"  # in a task's folder, its hash pinned beside it
NOISE = 0.3  # probability of each kind of noise in a row


def learning_curve(
    task: Task,
    out: Path,
    *,
    profile_name: str = "long",
    shares: Sequence[float] = SHARES,
    adapter: Path | None = None,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """Scores on validation rows of adapters trained on parts of the training rows, and of the plain classifiers on the same parts.

    Each part holds every class in its share; passes are equal, so steps are in proportion to rows. The last point is an adapter that was
    trained on all rows: `adapter`, by default the shipped one.

    Returns:
        {"task", "config", "points": [{"share", "rows", "scores", "classifiers": {name: share}, "minutes"}]}.
    """
    config = sft_config(profile_name, **changes)
    points = []
    for part in shares:
        rows = stratified(task.rows("train"), round(part * len(task.rows("train"))), task.class_field)
        evaluation, minutes = _arm(task, rows, out / f"share_{part:g}", profile_name, config, say)
        points.append(_point(task, part, rows, evaluation, minutes))
    loaded, lineage = _adapted(task, adapter, profile(profile_name).model)
    evaluation = evaluate_tuned(task, loaded, task.rows("validation"), max_new_tokens=config.max_new_tokens)
    points.append(_point(task, 1.0, task.rows("train"), evaluation, round(lineage["training"]["seconds"] / 60, 1)))
    return {"task": task.name, "profile": profile_name, "points": points}


def diversity_study(
    task: Task,
    out: Path,
    *,
    rows: int = 800,
    seeds: int = 2,
    profile_name: str = "cpu",
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """Different rows against as many near copies of a quarter of them, at equal rows, steps and passes.

    A copy is its row with keyboard slips, lost words, other case and the like (`datatools.noise`), the labelled values intact.

    Returns:
        {"task", "rows", "arms": {name: [evaluation without rows, one per seed]}, "paired": [tests of diverse against copies per seed]}.

    Raises:
        UsageError: the task has fewer rows than are asked for.
    """
    if not COPIES <= rows <= len(task.rows("train")):
        raise UsageError(f"--rows: expected {COPIES} to {len(task.rows('train'))} training rows of {task.name}, found {rows}.")
    diverse = stratified(task.rows("train"), rows, task.class_field)
    few = stratified(diverse, rows // COPIES, task.class_field)
    parts = {"diverse": diverse, "copies": [*few, *_copies(task, few, COPIES - 1)]}
    arms: dict[str, list[dict]] = {name: [] for name in parts}
    for seed in range(seeds):
        config = sft_config(profile_name, **({"train_rows": 0, "seed": seed} | changes))
        for name, part in parts.items():
            arms[name].append(_arm(task, part, out / f"{name}_{seed}", profile_name, config, say)[0])
    paired = [compare_runs(copies, other) for copies, other in zip(arms["copies"], arms["diverse"], strict=True)]
    kept = {name: [without_rows(e) for e in found] for name, found in arms.items()}
    return {"task": task.name, "rows": {name: len(part) for name, part in parts.items()}, "arms": kept, "paired": paired}


def noise_study(
    task: Task,
    *,
    rate: float = NOISE,
    seed: int = 0,
    adapter: Path | None = None,
    model: str = EMBEDDED,
    say: Callable[[str], None] = print,
) -> dict:
    """The frozen test rows as they are and as hurried people would have typed them, answered by `adapter`, by default the shipped one.

    Returns:
        {"task", "rate", "noise" (what was changed), "scores": {"clean", "noisy"}, "paired" (noisy against clean)}.
    """
    loaded, _ = _adapted(task, adapter, model)
    rows = task.rows("test")
    noisy, counts = as_typed(task, rows, rate, seed=seed)
    found = {name: evaluate_tuned(task, loaded, part) for name, part in (("clean", rows), ("noisy", noisy))}
    for name, evaluation in found.items():
        say(f"{name:>6}: {score_line(evaluation)}")
    return {
        "task": task.name, "rate": rate, "seed": seed, "noise": counts,
        "scores": {name: e["scores"] for name, e in found.items()},
        "paired": compare_runs(found["clean"], found["noisy"]),
    }  # fmt: skip


def fresh_study(task: Task, *, adapter: Path | None = None, model: str = EMBEDDED, say: Callable[[str], None] = print) -> dict:
    """The rows of fresh_test.jsonl, by writers who had seen no other row: the tuned model beside what is trained on the same rows.

    Returns:
        {"task", "rows", "sha256" (of the set), "train" (hash of the training rows), "adapter_sha256", "scores": {"tfidf", "tuned"},
        "paired" (tuned against tfidf), "classifiers": {name: {"accuracy", "tuned_against_it"}}, "by_class", "by_tag"}.

    Raises:
        DataError: there is no such file in the task's folder, it has changed, or its rows are broken.
    """
    path = task.folder / FRESH
    rows = whole_rows(path, task.checker, labelled=True)
    check_frozen(path)
    loaded, lineage = _adapted(task, adapter, model)
    tfidf = evaluate_outputs(task, rows, task_baseline(task).predict(rows))
    tuned = evaluate_tuned(task, loaded, rows)
    say(f"tfidf: {score_line(tfidf)}\ntuned: {score_line(tuned)}")
    hits = classifier_accuracies(task, task.rows("train"), rows)
    return {
        "task": task.name, "rows": len(rows), "sha256": file_sha256(path), "train": task.hashes()["train"],
        "adapter_sha256": lineage.get("adapter_sha256"), "scores": {"tfidf": tfidf["scores"], "tuned": tuned["scores"]},
        "paired": compare_runs(tfidf, tuned), "classifiers": {name: versus(right, tuned) for name, right in hits.items()},
        "by_class": tuned["by_class"], "by_tag": tuned["by_tag"],
    }  # fmt: skip


def _arm(
    task: Task, rows: Sequence[Row], folder: Path, profile_name: str, config: Any, say: Callable[[str], None]
) -> tuple[dict, float]:
    """(evaluation on all validation rows, minutes of training) of an adapter trained on `rows`."""
    own = replace(task, splits=task.splits | {"train": tuple(rows)})
    loaded = load_model(profile(profile_name).model)
    lineage = train_adapter(own, loaded, config, folder, profile_name=profile_name, resume=True, say=say)
    fresh, _ = _adapted(task, folder, profile(profile_name).model)  # as `predict` meets it: the 16-bit adapter merged
    evaluation = evaluate_tuned(task, fresh, task.rows("validation"), max_new_tokens=config.max_new_tokens)
    say(f"{folder.name}: {score_line(evaluation)}")
    return evaluation, round(lineage["training"]["seconds"] / 60, 1)


def _point(task: Task, part: float, rows: Sequence[Row], evaluation: dict, minutes: float) -> dict:
    hits = classifier_accuracies(task, rows, task.rows("validation"))
    found = {name: share(right).as_dict() for name, right in hits.items()}
    return {"share": part, "rows": len(rows), "scores": evaluation["scores"], "classifiers": found, "minutes": minutes}


def _adapted(task: Task, adapter: Path | None, model: str) -> tuple[LoadedModel, dict]:
    """(the model with `adapter` or else the task's shipped one merged, the adapter's lineage)."""
    loaded = load_model(model)
    return loaded, apply_adapter(loaded, shipped_adapter(task, adapter))


def _copies(task: Task, rows: Sequence[Row], times: int) -> list[Row]:
    """`times` near copies of each row, each with noise and an id of its own."""
    copies = [(time, as_typed(task, rows, NOISE, seed=time)[0]) for time in range(1, times + 1)]
    return [replace(row, id=f"{row.id}-copy{time}") for time, part in copies for row in part]

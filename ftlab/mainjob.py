"""The main job: from a task folder to a tuned adapter and a report that says what it was worth.

Order matters: the baselines are scored before anything is trained, on the rows that the tuned model is scored on afterwards. Raw
outputs are stored by all they depend on (`outputs`), so an interrupted run goes on where it stopped and nothing is generated twice.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.artifact import (
    adapter_identity,
    apply_adapter,
    lineage_origin,
    parent_of,
    read_lineage,
    read_tuned,
    tuned_file,
    write_json,
    write_lineage,
)  # fmt: skip
from ftlab.baselines import classifier_accuracies, task_baseline
from ftlab.constrain import CopyRules
from ftlab.device import machine, place
from ftlab.errors import UsageError
from ftlab.evaluate import (
    LOWER_IS_BETTER,
    SCORES,
    compare_runs,
    curve_scores,
    error_flow,
    evaluate_outputs,
    telling_failures,
    verdict,
    without_rows,
)  # fmt: skip
from ftlab.generate import Generation
from ftlab.lora import make_trainable
from ftlab.models import LoadedModel, default_profile, free_disk, load_model, peak_memory_mb
from ftlab.outputs import cached_generate
from ftlab.regress import GeneralPrompt, general_prompts, regression
from ftlab.rows import Row
from ftlab.stats import mcnemar_exact, percent, share
from ftlab.stock import check_quantised, train_trl
from ftlab.task import Task, file_sha256, stratified
from ftlab.train import SftConfig, train_sft
from ftlab.train.loop import make_folder
from ftlab.train.settings import GPU, METHODS, Profile, decisive, profile
from ftlab.train.sft import going_on

SHOTS = 4  # worked examples in the few-shot prompt: one each of four classes; more would not fit a small model's attention
UNTUNED_TOKENS = 96  # limit for untuned answers, which rarely end by themselves; nearly all labelled answers are shorter
GENERAL_TOKENS = 64


@dataclass
class Job:
    """One run of the main job: its task, settings, folder, and what it has found so far."""

    task: Task
    profile_name: str
    settings: Profile
    config: SftConfig
    model_name: str
    out: Path
    say: Callable[[str], None] = print
    progress: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str):
        self.say(f"\n== {title}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 1)


def run_main_job(
    task: Task,
    *,
    out: Path,
    profile_name: str | None = None,
    model: str | None = None,
    adapter: Path | None = None,
    resume: bool = False,
    cache: bool = True,
    chat_template: str | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
    **changes: Any,
) -> dict:
    """Baselines, verdict, training (unless `adapter` is given), evaluation after, regression check.

    Args:
        task: see `load_task`.
        out: run folder; gets adapter/, results.json, rows.json.
        profile_name: see `PROFILES`; without one, `default_profile`.
        model: overrides the profile's model.
        adapter: a trained adapter to evaluate instead of training one.
        resume: go on with an interrupted training, or keep the finished adapter of an equal one.
        cache: take outputs that were generated before from the store in the cache folder.
        chat_template: see `load_model`.
        changes: overrides of single training settings.

    Returns:
        the results, as written to out/results.json.

    Raises:
        FtlabError: see the parts.
    """
    from ftlab.train import sft_config

    profile_name = profile_name or default_profile()
    if resume and profile_name == GPU:
        raise UsageError("--profile gpu: expected no --resume, since trl's trainer keeps no checkpoints here; leave it out.")
    settings = profile(profile_name)
    config = sft_config(profile_name, **changes)
    if machine().processes > 1:
        raise UsageError(
            f"ftlab run: expected one process, found {machine().processes}; train with accelerate launch … -m ftlab train --out FOLDER, "
            "then ftlab run --adapter FOLDER."
        )
    check_quantised(config)
    free_disk(out, 100_000_000)
    make_folder(out)
    job = Job(task, profile_name, settings, config, model or settings.model, out, say, progress)
    started = time.monotonic()
    rows = stratified(task.rows("test"), settings.baseline_rows or len(task.rows("test")), task.class_field)
    _announce(job, rows)
    loaded = load_model(job.model_name, progress=progress, chat_template=chat_template)
    if profile_name == GPU:
        place(loaded.model)
    with job.stage("classifiers", "Before, without a language model: TF-IDF on the same training rows"):
        evaluations = {"tfidf": _score_tfidf(job, rows)}
        classifiers = classifier_accuracies(task, task.rows("train"), rows) if task.class_field else {}
    answers = _Answers(job, loaded, cache)
    with job.stage("prompting", "Before, untuned: best long prompt, and the same with examples"):
        for name, shots in (("prompt", []), ("few_shot", few_shot_examples(task))):
            evaluations[name] = _score(job, answers.task_rows(name, rows, "long", shots), rows, name)
    best_prompt = max(("prompt", "few_shot"), key=lambda name: evaluations[name]["scores"]["strict"]["share"])
    judgement = verdict(evaluations[best_prompt], evaluations["tfidf"])
    job.say("\n".join(judgement["why"]))
    general = general_prompts()[: settings.general_prompts or None]
    with job.stage("general", "Before: general prompts"):
        general_before = answers.general("general_before", general)
    training, lineage = _tune(job, loaded, adapter, resume)
    with job.stage("tuned", "After: the tuned model with the short prompt"):
        evaluations["tuned"] = _score(job, answers.task_rows("tuned", rows, "short", []), rows, "tuned")
    if copies := CopyRules.of(task.rules):
        with job.stage("constrained", "After: the same, its copied values held to the message while they are written"):
            evaluations["constrained"] = _score(
                job, answers.task_rows("constrained", rows, "short", [], copies), rows, "constrained"
            )
    with job.stage("general", "After: the same general prompts"):
        general_after = answers.general("general_after", general)
    results = {
        "about": _about(job, loaded, best_prompt, rows, lineage),
        "systems": {name: without_rows(e) for name, e in evaluations.items()},
        "classifiers": {name: versus(hits, evaluations["tuned"]) for name, hits in classifiers.items()},
        "verdict": judgement,
        "paired": {name: compare_runs(e, evaluations["tuned"]) for name, e in evaluations.items() if name != "tuned"},
        "flow": error_flow(evaluations[best_prompt], evaluations["tuned"]),
        "training": training,
        "tokens": _tokens(answers, rows, best_prompt),
        "regression": regression(general, *([g.text for g in texts] for texts in (general_before, general_after))),
        "failures": telling_failures(evaluations["tuned"], rows),
        "examples": _examples(rows, evaluations, best_prompt),
        "cost": {
            "seconds": job.seconds,
            "total_seconds": round(time.monotonic() - started, 1),
            "peak_memory_mb": round(peak_memory_mb()),
            "reused": answers.reused,
        },
    }
    write_json(out / "results.json", results)
    write_json(out / "rows.json", {name: e["rows"] for name, e in evaluations.items()})
    return results


def _announce(job: Job, rows: Sequence[Row]) -> None:
    task = job.task
    counts = ", ".join(f"{len(task.rows(split))} {split}" for split in task.splits)
    job.say(f"Task {task.name}: {counts} rows. Test rows scored: {len(rows)} of {len(task.rows('test'))}.")
    if task.derived:
        job.say(f"Not in the folder, so derived: {', '.join(task.derived)}.")


def _score_tfidf(job: Job, rows: Sequence[Row]) -> dict:
    return _evaluate(job, task_baseline(job.task).predict(rows), rows, "tfidf")


def _score(job: Job, answers: Sequence[Generation], rows: Sequence[Row], name: str) -> dict:
    evaluation = _evaluate(job, [a.text for a in answers], rows, name)
    return evaluation | {"not_ended": share([not a.ended for a in answers]).as_dict()}


def _evaluate(job: Job, outputs: Sequence[str], rows: Sequence[Row], name: str) -> dict:
    evaluation = evaluate_outputs(job.task, rows, outputs)
    job.say(f"{name:>9}: " + score_line(evaluation))
    return evaluation


def score_line(evaluation: dict) -> str:
    """The main scores in one line, as percentages with their intervals."""
    shown = ("schema_valid", "class_right", "values_right", "strict", "fabricated", "unsafe")
    parts = []
    for name in shown:
        s = evaluation["scores"][name]
        parts.append(f"{name} {percent(s)}")
    if evaluation["over_refusal"]:
        parts.append(f"over_refusal {percent(evaluation['over_refusal'])}")
    if evaluation["calibration"]:
        c = evaluation["calibration"]["strict"]
        parts.append(f"brier {c['brier']:.3f} (base rate {c['base_brier']:.3f})")
    return "  ".join(parts) + f"  (n = {evaluation['n']})"


def few_shot_examples(task: Task, n: int = SHOTS) -> list[Row]:
    """The examples of the few-shot prompt: of each of the n most frequent classes the training row with the shortest prompt and answer
    that still shows a compared value; the choice looks at training rows only."""
    by_class: dict[str, list[Row]] = {}
    for row in task.rows("train"):
        by_class.setdefault(str(row.output.get(task.class_field)), []).append(row)
    chosen = []
    for _, group in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0]))[:n]:
        rich = [row for row in group if any(isinstance(v, dict) and v for v in row.output.values())] or group
        chosen.append(min(rich, key=lambda row: (len(row.text) + len(task.completion(row)), row.id)))
    return chosen


class _Answers:
    """The answers of each system of the comparison, and whose came (in part) from the store of outputs."""

    def __init__(self, job: Job, loaded: LoadedModel, cache: bool):
        self.job, self.loaded, self.cache = job, loaded, cache
        self.of: dict[str, list[Generation]] = {}
        self.reused: list[str] = []  # whose seconds are therefore not those of generating

    def task_rows(
        self, name: str, rows: Sequence[Row], prompt: str, shots: Sequence[Row], copies: CopyRules | None = None
    ) -> list[Generation]:
        limit = self.job.config.max_new_tokens if prompt == "short" else min(UNTUNED_TOKENS, self.job.config.max_new_tokens)
        return self._generate(name, [self.job.task.conversation(row, prompt, shots) for row in rows], limit, copies)

    def general(self, name: str, prompts: Sequence[GeneralPrompt]) -> list[Generation]:
        return self._generate(name, [p.conversation for p in prompts], min(GENERAL_TOKENS, self.job.config.max_new_tokens))

    def _generate(
        self, name: str, conversations: Sequence[list[dict]], limit: int, copies: CopyRules | None = None
    ) -> list[Generation]:
        from tqdm import tqdm

        with tqdm(total=len(conversations), desc=name, unit="row", disable=not self.job.progress) as bar:
            size = self.job.config.eval_batch_size
            self.of[name], reused = cached_generate(
                self.loaded,
                conversations,
                max_new_tokens=limit,
                batch_size=size,
                copies=copies,
                cache=self.cache,
                progress=bar.update,
            )
        if reused:
            self.reused.append(name)
        return self.of[name]


def _tune(job: Job, loaded: LoadedModel, adapter: Path | None, resume: bool) -> tuple[dict, dict]:
    """Train, or take the given adapter; either way `loaded` then carries it, merged. Returns (training, lineage)."""
    if adapter is not None:
        lineage = apply_adapter(loaded, adapter)
        return lineage.get("training", {}), lineage
    folder = job.out / "adapter"
    with job.stage("training", f"Training (SFT with {job.config.method}: {METHODS[job.config.method].about})"):
        if job.profile_name == GPU:
            train_trl(job.task, loaded, job.config, folder, profile_name=job.profile_name, say=job.say)
        else:
            train_adapter(
                job.task,
                loaded,
                job.config,
                folder,
                profile_name=job.profile_name,
                resume=resume,
                say=job.say,
                progress=job.progress,
            )
    loaded.model = (loaded.model if job.config.method == "full" else loaded.model.merge_and_unload()).eval()
    lineage = read_lineage(folder)
    loaded.adapter_sha256 = adapter_identity(folder)
    return lineage["training"], lineage


def train_adapter(
    task: Task,
    loaded: LoadedModel,
    config: SftConfig,
    folder: Path,
    *,
    profile_name: str,
    adapter: Path | None = None,
    resume: bool = False,
    by_loss: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict:
    """Train an adapter (or, with the method full, all weights) into `folder` and write its lineage.

    A folder that holds a finished one of the same origin is kept as it is. qlora is trained by trl, see `train_trl`.

    Args:
        adapter: an adapter to go on from, with its rank and scale, instead of new matrices.
        by_loss: choose the pass by validation loss, without answering validation rows after each.

    Returns:
        the lineage.

    Raises:
        UsageError: qlora without a GPU; and see `train_sft`.
        DataError: see `train_sft`.
    """
    check_quantised(config)
    if config.method == "qlora":
        config = replace(config, text_weight=1.0)  # the only one that trl knows
    if adapter:
        config = going_on(config, adapter)
    origin = lineage_origin(task, loaded, config, profile_name) | {"parent": parent_of(adapter)}
    if resume and (done := finished(folder, origin)):
        say(f"{folder} holds this adapter already: not trained again.")
        apply_kept(loaded, folder, config)
        return done
    say("\n".join(config.explain()))
    if config.method == "qlora":
        return train_trl(task, loaded, config, folder, profile_name=profile_name)
    held_out = stratified(task.rows("validation"), config.validation_rows or len(task.rows("validation")), task.class_field)

    def score(model: LoadedModel) -> dict:
        return curve_scores(task, model, held_out, config)

    options = {"adapter": adapter, "resume": resume, "progress": progress}
    training = train_sft(task, loaded, config, folder, score=None if by_loss else score, **options)
    training["validation_rows"] = len(task.rows("validation") if by_loss else held_out)
    write_lineage(folder, origin | {"training": training})
    return read_lineage(folder)


def finished(folder: Path, origin: dict) -> dict:
    """The lineage of a finished adapter of this origin in `folder`, whose weights are those that it speaks of; else {}."""
    done = read_lineage(folder)

    def told(lineage: dict) -> dict:
        # an adapter that was made before there was a choice says nothing of its method
        return {key: lineage.get(key) for key in origin} | {"config": {"method": "lora"} | decisive(lineage.get("config", {}))}

    same, weights = told(done) == told(json.loads(json.dumps(origin))), tuned_file(folder, done)
    return done if same and weights.exists() and file_sha256(weights) == done.get("adapter_sha256") else {}


def apply_kept(loaded: LoadedModel, folder: Path, config: SftConfig) -> None:
    """Give `loaded` a finished adapter as a peft model, or its tuned weights, just as training would have left it."""
    loaded.model = make_trainable(loaded.model, config)
    read_tuned(loaded.model, folder)


def _about(job: Job, loaded: LoadedModel, best_prompt: str, rows: Sequence[Row], lineage: dict) -> dict:
    task = job.task
    return {
        "task": task.name,
        "description": task.schema.get("description", ""),
        "profile": job.profile_name,
        "model": {"name": loaded.name, "sha256": loaded.sha256},
        "adapter_sha256": lineage.get("adapter_sha256"),
        "trained_with": lineage.get("config", {}),
        "hashes": task.hashes(),
        "rows": {split: len(task.rows(split)) for split in task.splits},
        "test_rows_scored": len(rows),
        "test_rows_chosen": "all" if len(rows) == len(task.rows("test")) else f"a fixed part, in proportion to {task.class_field}",
        "class_field": task.class_field,
        "best_prompt": best_prompt,
        "shots": [row.id for row in few_shot_examples(task)],
        "score_meanings": SCORES,
        "lower_is_better": LOWER_IS_BETTER,
        "derived": task.derived,
        "machine": {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine()},
        "ftlab": __version__,
    }


def versus(hits: list[bool], tuned: dict) -> dict:
    """A plain classifier's accuracy, and the paired test of the tuned model against it."""
    right = [r["passes"]["class_right"] for r in tuned["rows"]]
    return {"accuracy": share(hits).as_dict(), "tuned_against_it": mcnemar_exact(hits, right)}


def _tokens(found: _Answers, rows: Sequence[Row], best_prompt: str) -> dict:
    """Mean tokens per request, prompt and answer, of the best prompt and of the tuned model, and what the short prompt saves."""
    means = {}
    for name in (best_prompt, "tuned"):
        answers = found.of[name]
        means[name] = {
            "prompt": sum(a.prompt_tokens for a in answers) / len(rows),
            "answer": sum(a.new_tokens for a in answers) / len(rows),
        }
    saved = {key: means[best_prompt][key] - means["tuned"][key] for key in ("prompt", "answer")}
    return {"before": means[best_prompt], "after": means["tuned"], "saved_per_request": saved}


def _examples(rows: Sequence[Row], evaluations: dict[str, dict], best_prompt: str, n: int = 8) -> list[dict]:
    """Rows of different classes with what each system made of them: every k-th row, so that nobody picked them."""
    chosen = rows[:: max(1, len(rows) // n)][:n]
    records = {name: {r["id"]: r for r in e["rows"]} for name, e in evaluations.items()}
    return [
        {
            "id": row.id, "input": row.text, "expected": row.output,
            "outputs": {
                name: {"text": records[name][row.id]["output"], "labels": records[name][row.id]["labels"]}
                for name in ("tfidf", best_prompt, "tuned")
            },
        }
        for row in chosen
    ]  # fmt: skip

"""Every kind of supervised fine-tuning side by side: equal rows, passes and seeds, a learning rate each, scored on the same frozen sets.

Each part (the choice of a method's rate, one training with its scores) is a process of its own (`python -m ftlab.methods JOB`), so that
peak memory is its own. A part that is finished is kept and not done again, so that the study can be made in several sittings.
"""

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.artifact import LINEAGE, apply_adapter
from ftlab.bench import machine
from ftlab.errors import DataError, FtlabError, UsageError
from ftlab.evaluate import SCORES, evaluate_tuned
from ftlab.lora import trainable_parameters
from ftlab.mainjob import GENERAL_TOKENS, train_adapter
from ftlab.models import LoadedModel, load_model, peak_memory_mb
from ftlab.outputs import cached_generate
from ftlab.regress import general_prompts, passes
from ftlab.stats import seeds_difference, share
from ftlab.stock import check_quantised
from ftlab.task import DATA, Task, file_sha256, load_task
from ftlab.train import SftConfig, sft_config
from ftlab.train.kept import read_kept, write_kept
from ftlab.train.rates import choose_rate
from ftlab.train.settings import METHODS, profile

FOUND, TRAINED = "found.json", "trained.json"  # in a part's folder: all it found; what its training took
ROWS = (
    600  # training rows of each arm, where there are as many: the slowest method with its scores then takes ten minutes on a core
)
SHOWN = ("strict", "class_right", "values_right", "general")


def trainable_here() -> list[str]:
    """The methods that this machine can train: all, but qlora where there is no GPU for it."""
    try:
        check_quantised(sft_config(method="qlora"))
    except UsageError:
        return [method for method in METHODS if method != "qlora"]
    return list(METHODS)


def methods_study(
    task: str,
    out: Path,
    *,
    methods: Sequence[str] = (),
    seeds: int = 2,
    rows: int = 0,
    profile_name: str = "cpu",
    split: str = "validation",
    parts: int = 0,
    write: Callable[[dict], None] = lambda results: None,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """Train each method on the same rows for as many steps with each seed, at its own learning rate, and score what came of it.

    The rates are chosen first, on validation rows (`choose_rate`). No general rows are mixed in, so that the general suite shows what each
    method leaves of the rest. Of several passes the one with the lowest validation loss is kept; all are made.

    Args:
        task: a built-in task or a task folder.
        out: folder for the parts; one profile, number of rows and set of changes per folder.
        methods: default: those that this machine can train.
        rows: training rows of each arm; 0 takes 600, or what the profile or the task has if that is less.
        split: the rows of the task that the arms are scored on: validation, or test for final figures.
        parts: how many unfinished parts to do now; 0 means all.
        write: called with the results after each part.
        changes: of the profile's settings, for all methods.

    Returns:
        {"task", "model", "settings" (those that all methods share), "methods": {method: its own settings and the choice of its rate},
        "sets" (what was scored on, by hash), "base": {"scores": {"general"}}, "rows": [{"method", "seed", "scores",
        "trainable_parameters", "peak_memory_mb", "seconds"}], "against_lora": {method: {score: {"mean", "low", "high"} in points}},
        "unfinished": [names of parts], "machine"}. "seconds" are those of the steps; peak memory is that of the training process,
        model included.

    Raises:
        UsageError: an unknown method or split, a number out of range.
        DataError: a part failed; it has said why.
    """
    own, names = load_task(task), list(methods) or trainable_here()
    configs = _configs(own, names, profile_name, rows, seeds, split, parts, changes)
    same = {"task": task, "profile": profile_name, "split": split}
    study = _Parts(own, out, same, parts, say)
    base = study.get("base", part="base")
    rates: dict[str, dict | None] = {}
    arms: dict[tuple[str, int], dict | None] = {}

    def results() -> dict:
        return _results(own, configs, base, rates, arms, same)

    for method, config in configs.items():
        rates[method] = study.get(f"rate_{method}", part="rate", changes=asdict(config))
        write(results())
    for seed in range(seeds):
        for method, config in configs.items():
            rate = rates[method] and {"learning_rate": rates[method]["learning_rate"], "seed": seed}
            arms[method, seed] = rate and study.get(f"{method}_{seed}", part="arm", changes=asdict(config) | rate)
            write(results())
    return results()


def _configs(
    task: Task, names: Sequence[str], profile_name: str, rows: int, seeds: int, split: str, parts: int, changes: dict
) -> dict[str, SftConfig]:
    """The settings of each method, but for the seed and the chosen rate."""
    if seeds < 1 or parts < 0:
        raise UsageError(f"expected --seeds from 1 and --parts from 0 up, found {seeds} and {parts}.")
    if split not in ("validation", "test"):
        raise UsageError(f"--split: expected validation or test, found {split!r}.")
    there = len(task.rows("train"))
    if not 0 <= rows <= there:
        raise UsageError(f"--rows: expected 0 (the usual number) to {there}, the training rows of {task.name}, found {rows}.")
    common = {"general_rows": 0, "train_rows": rows or min(ROWS, profile(profile_name).sft.train_rows or ROWS, there)} | changes
    configs = {name: sft_config(profile_name, method=name, **common) for name in names}
    for config in configs.values():
        check_quantised(config)
    # all passes are made: equal steps for all
    return {name: replace(config, patience=config.epochs) for name, config in configs.items()}


class _Parts:
    """Does parts of the study in processes of their own and keeps what they found.

    Args:
        same: what all jobs share.
        limit: how many parts may be done; 0 means any number.
    """

    def __init__(self, task: Task, out: Path, same: dict, limit: int, say: Callable[[str], None]):
        self.task, self.out, self.same, self.limit, self.say = task, out, same, limit, say
        self.done = 0

    def get(self, name: str, **job: Any) -> dict | None:
        """What the part found, now or before; None if it is not finished and no more may be done."""
        job = self.same | job
        folder = self.out / name
        depends_on = json.dumps([__version__, self.task.hashes(), job], sort_keys=True)
        key = hashlib.sha256(depends_on.encode()).hexdigest()
        if (found := read_kept(folder / FOUND, key)) is None and (not self.limit or self.done < self.limit):
            self.say(f"== {name}")
            run_part(job | {"folder": str(folder), "key": key})
            self.done += 1
            found = read_kept(folder / FOUND, key)
            self.say(f"{name}: {_line(found or {})}")
        return found


def run_part(job: dict) -> None:
    """Do one part in a process of its own, whose progress is shown here.

    Raises:
        DataError: it failed.
        KeyboardInterrupt: after the part has saved its state.
    """
    process = subprocess.Popen([sys.executable, "-m", "ftlab.methods", json.dumps(job)])
    try:
        status = process.wait()
    except KeyboardInterrupt:  # it was sent to both
        process.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise DataError(
            f"{Path(job['folder']).name}: the process ended with status {status}; mend what it said above and run again."
        )


def work(job: dict) -> None:
    """One part, in this process."""
    task, folder = load_task(job["task"]), Path(job["folder"])
    found = {"base": _base, "rate": _rate, "arm": _arm}[job["part"]](job, task, folder)
    write_kept(folder / FOUND, job["key"], found)


def _base(job: dict, task: Task, folder: Path) -> dict:
    """The untuned model on the general suite: what there is to be lost."""
    config = sft_config(job["profile"])
    loaded = load_model(profile(job["profile"]).model)
    said = _general(loaded, job["profile"], config)
    name = {"name": loaded.name, "sha256": loaded.sha256}
    return {"model": name, "scores": {"general": share(said).as_dict()}, "machine": machine()}


def _rate(job: dict, task: Task, folder: Path) -> dict:
    config = sft_config(job["profile"], **job["changes"])
    return choose_rate(task, lambda: load_model(profile(job["profile"]).model), config, folder)


def _arm(job: dict, task: Task, folder: Path) -> dict:
    """One training with its scores."""
    config = sft_config(job["profile"], **job["changes"])
    figures = read_kept(folder / TRAINED, job["key"])
    if figures is None:
        figures = _train(job, task, config, folder)
        write_kept(folder / TRAINED, job["key"], figures)
    loaded = load_model(profile(job["profile"]).model)
    apply_adapter(loaded, folder)  # as `predict` meets it
    rows = task.rows(job["split"])
    limits = {"max_new_tokens": config.max_new_tokens, "batch_size": config.eval_batch_size}
    evaluation = evaluate_tuned(task, loaded, rows, constrain=False, **limits)
    general = _general(loaded, job["profile"], config)
    hits = {score: [row["passes"][score] for row in evaluation["rows"]] for score in SCORES} | {"general": general}
    return figures | {"scores": evaluation["scores"] | {"general": share(general).as_dict()}, "hits": hits}


def _train(job: dict, task: Task, config: SftConfig, folder: Path) -> dict:
    """Train an arm; returns what that took."""
    # subtle: finished weights whose figures are missing are trained again, since this process would not show what training takes
    (folder / LINEAGE).unlink(missing_ok=True)
    loaded = load_model(profile(job["profile"]).model)
    lineage = train_adapter(task, loaded, config, folder, profile_name=job["profile"], resume=True, by_loss=True)
    training = lineage["training"]
    return {
        "trainable_parameters": trainable_parameters(loaded.model), "peak_memory_mb": round(peak_memory_mb(), 1),
        **{name: training[name] for name in ("seconds", "steps", "tokens", "curve")},
    }  # fmt: skip


def _general(loaded: LoadedModel, profile_name: str, config: SftConfig) -> list[bool]:
    """Which prompts of the general suite pass."""
    prompts = general_prompts()[: profile(profile_name).general_prompts or None]
    limits = {"max_new_tokens": min(GENERAL_TOKENS, config.max_new_tokens), "batch_size": config.eval_batch_size}
    answers, _ = cached_generate(loaded, [prompt.conversation for prompt in prompts], **limits)
    return [passes(prompt.check, answer.text) for prompt, answer in zip(prompts, answers, strict=True)]


def _results(
    task: Task,
    configs: dict[str, SftConfig],
    base: dict | None,
    rates: dict[str, dict | None],
    arms: dict[tuple[str, int], dict | None],
    same: dict,
) -> dict:
    every = [asdict(config) for config in configs.values()]
    shared = {name for name in every[0] if all(config[name] == every[0][name] for config in every)} - {"seed"}
    names = ("trainable_parameters", "peak_memory_mb", "seconds")
    done = {arm: found for arm, found in arms.items() if found}
    unfinished = [f"rate_{m}" for m in configs if not rates.get(m)] + [f"{m}_{seed}" for (m, seed), f in arms.items() if not f]
    return {
        "task": task.name, "profile": same["profile"], "model": base and base["model"],
        "settings": {name: value for name, value in every[0].items() if name in shared},
        "methods": {
            method: {
                "about": METHODS[method].about, "last_layers": config.last_layers, "rate": rates.get(method),
                **next(({name: f[name] for name in ("steps", "tokens")} for (m, _), f in done.items() if m == method), {}),
            }
            for method, config in configs.items()
        },
        "sets": {
            same["split"]: {"rows": len(task.rows(same["split"])), "sha256": task.hashes().get(same["split"])},
            "general": {"rows": base and base["scores"]["general"]["n"], "sha256": file_sha256(DATA / "general" / "prompts.jsonl")},
        },
        "base": base and {"scores": base["scores"]},
        "rows": [
            {"method": method, "seed": seed, "scores": found["scores"], **{name: found[name] for name in names}}
            for (method, seed), found in done.items()
        ],
        "against_lora": _against_lora(arms),
        "unfinished": unfinished, "machine": base and base["machine"],
    }  # fmt: skip


def _against_lora(arms: dict[tuple[str, int], dict | None]) -> dict:
    """Of the methods of which every seed is finished, how much more rows they pass than LoRA."""
    by_method: dict[str, list[dict | None]] = {}
    for (method, _), found in arms.items():
        by_method.setdefault(method, []).append(found)
    whole = {method: [found["hits"] for found in seeds] for method, seeds in by_method.items() if all(seeds)}
    lora = whole.pop("lora", None)
    if not lora:
        return {}
    return {
        method: {score: seeds_difference([h[score] for h in lora], [h[score] for h in seeds]) for score in SHOWN}
        for method, seeds in whole.items()
    }


def methods_table(results: dict) -> str:
    """The study as text: a line a method, scores in percent with one number a seed, and what a training took."""
    head = ("method", "rate", *SHOWN, "trained", "peak MB", "seconds")
    lines = [head]
    for method, about in results["methods"].items():
        rows = [row for row in results["rows"] if row["method"] == method]
        if not rows:
            continue
        scores = [" / ".join(f"{100 * row['scores'][score]['share']:.1f}" for row in rows) for score in SHOWN]
        took = (f"{statistics.median(row[name] for row in rows):.0f}" for name in ("peak_memory_mb", "seconds"))
        lines.append((method, f"{about['rate']['learning_rate']:g}", *scores, f"{rows[0]['trainable_parameters']:,}", *took))
    if base := results["base"]:
        lines.append(("untuned", "", "", "", "", f"{100 * base['scores']['general']['share']:.1f}", "", "", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _line(found: dict) -> str:
    """What a part found, in one line."""
    if "hits" in found:
        scores = ", ".join(f"{score} {100 * found['scores'][score]['share']:.1f} %" for score in SHOWN)
        return f"{scores}; {found['seconds']:.0f} s of training, {found['peak_memory_mb']:.0f} MB at most"
    if "learning_rate" in found:
        return f"learning rate {found['learning_rate']:g}" + (", at the edge of those tried" if found["at_edge"] else "")
    return f"general {100 * found['scores']['general']['share']:.1f} %" if found else "found nothing"


def main() -> int:
    try:
        work(json.loads(sys.argv[1]))
    except FtlabError as error:
        print(f"ftlab study methods: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

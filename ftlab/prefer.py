"""Preference tuning of a task, from its pairs of replies to an adapter with lineage, and what it did to conduct, form and general ability.

The pairs stand in `pairs.jsonl` of the task's folder, those that nothing is learnt from in `pairs_test.jsonl`. Tuning goes on from an
adapter of supervised tuning and leaves one adapter for the same base model, not one on top of another.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.artifact import (
    apply_adapter,
    attach_adapter,
    lineage_origin,
    parent_of,
    save_adapter_weights,
    write_lineage,
)
from ftlab.device import is_main
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import compare_runs, evaluate_tuned, without_rows
from ftlab.mainjob import GENERAL_TOKENS, finished
from ftlab.models import EMBEDDED, TINY, LoadedModel, load_model
from ftlab.outputs import cached_generate
from ftlab.regress import general_prompts, regression
from ftlab.rows import Row
from ftlab.stock import dpo_trainer
from ftlab.task import Task, file_sha256
from ftlab.train.loop import make_folder
from ftlab.train.preference import DpoConfig, Preference, encode_pairs, read_pairs, train_dpo
from ftlab.train.settings import MethodProfile, changed, named_profile
from ftlab.trl_runs import train_logged

PAIRS, PAIRS_TEST = "pairs.jsonl", "pairs_test.jsonl"
PRESSURE = "adversarial"  # the tag of rows whose writer pushes against the policy


DPO_PROFILES = {
    "smoke": MethodProfile(
        "tests and CI: a random tiny model, seconds",
        TINY,
        DpoConfig(pairs=16, validation_pairs=4, watch_every=1, micro_tokens=4000, max_length=4096),
    ),
    "cpu": MethodProfile("a laptop: two cores, under 12 minutes", EMBEDDED, DpoConfig()),
}


def dpo_config(profile_name: str = "cpu", **changes: Any) -> DpoConfig:
    """The settings of a profile with `changes`; a change that is None leaves the profile's value."""
    return changed(named_profile(DPO_PROFILES, profile_name).config, changes)


def task_pairs(task: Task, name: str = PAIRS) -> list[Preference]:
    """The pairs of a task, each under the task's short prompt, which training and `predict` use.

    Raises:
        UsageError: the task has no such file.
        DataError: see `read_pairs`.
    """
    path = task.folder / name
    if not path.is_file():
        raise UsageError(
            f"--task {task.name}: expected {name} in its folder, found none; write rows with id, input, chosen and rejected."
        )
    system = {"role": "system", "content": task.system("short")}
    return [replace(pair, input=[system, *pair.messages]) for pair in read_pairs(path)]


def hold_out(pairs: Sequence[Preference], n: int) -> tuple[list[Preference], list[Preference]]:
    """(pairs to train on, n pairs to measure), the latter spread evenly over the file.

    Raises:
        UsageError: nothing would be left to train on.
    """
    if n >= len(pairs):
        raise UsageError(
            f"--validation-pairs: expected fewer than the {len(pairs)} pairs there are, found {n}; take fewer, or add pairs."
        )
    held = {int((i + 0.5) * len(pairs) / n) for i in range(n)}
    return [pair for i, pair in enumerate(pairs) if i not in held], [pairs[i] for i in sorted(held)]


def split_pairs(task: Task, pairs: int, validation_pairs: int) -> tuple[list[Preference], list[Preference]]:
    """(pairs to train on, pairs to measure) of `pairs.jsonl`; the latter are the same however many of the former are taken."""
    train, held_out = hold_out(task_pairs(task), validation_pairs)
    if not 0 < pairs < len(train):
        return train, held_out
    return hold_out(train, pairs)[1], held_out


def pair_rows(pairs: Sequence[Preference]) -> list[Row]:
    """The messages of pairs as labelled rows, the chosen reply being the label.

    Raises:
        DataError: a chosen reply is no JSON object.
    """
    rows, problems = [], []
    for pair in pairs:
        messages = [message for message in pair.messages if message["role"] != "system"]
        try:
            output = json.loads(pair.chosen)
        except ValueError:
            output = None
        if not isinstance(output, dict):
            problems.append(f"{pair.where or pair.id}: expected the chosen reply to be a JSON object, found {pair.chosen[:40]!r}")
        rows.append(Row(pair.id, messages, output, pair.tags, pair.lang, pair.where))
    if problems:
        raise DataError(f"{len(problems)} pair(s) cannot serve as labelled rows; mend each of these:", problems)
    return rows


def tune_on_pairs(
    task: Task,
    loaded: LoadedModel,
    config: DpoConfig,
    out: Path,
    *,
    adapter: Path | None,
    profile_name: str,
    trainer: str = "auto",
    resume: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict:
    """Train an adapter on the task's pairs into `out` and write its lineage. A folder that holds a finished one of the same origin is kept.

    Args:
        adapter: the adapter to go on from, with its rank and scale; None starts new LoRA matrices on the untuned model.
        trainer: "auto" is our own loop; "trl" is trl's DPOTrainer, for GPUs and several devices.

    Returns:
        the lineage; "method" is the objective, "parent" the adapter gone on from, "training" that of `train_dpo`.

    Raises:
        UsageError: no pairs, too few of them, or an adapter of another base.
        DataError: pairs that cannot be trained on.
    """
    train, held_out = split_pairs(task, config.pairs, config.validation_pairs)
    if adapter is not None:
        attach_adapter(loaded, adapter)
        peft = loaded.model.active_peft_config
        config = replace(config, rank=peft.r, alpha=peft.lora_alpha)
    pins = {"pairs": file_sha256(task.folder / PAIRS)}
    origin = lineage_origin(task, loaded, config, profile_name) | {"method": config.objective, "parent": parent_of(adapter)}
    origin["hashes"] |= pins
    if resume and (done := finished(out, origin)):
        say(f"{out} holds this adapter already: not trained again.")
        return done
    if trainer == "trl":
        training = _by_trl(loaded, train, config, out)
    else:
        training = train_dpo(loaded, train, config, out, held_out=held_out, resume=resume, progress=progress)
    if is_main():
        write_lineage(out, origin | {"training": training})
    return origin | {"training": training}


def _by_trl(loaded: LoadedModel, pairs: Sequence[Preference], config: DpoConfig, out: Path) -> dict:
    """Train with trl's DPOTrainer; what is left in `out` is what our own loop leaves, but the curve is that of the steps' own pairs."""
    if config.objective != "dpo":
        raise UsageError(f"--trainer trl: expected the objective dpo, found {config.objective}; leave out --trainer.")
    make_folder(out)
    encoded = encode_pairs(pairs, loaded.tokenizer, config.max_length)  # refuses what trl would cut or pass over
    template = loaded.tokenizer.apply_chat_template
    texts = [
        {
            "prompt": template(pair.messages, tokenize=False, add_generation_prompt=True),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        for pair in pairs
    ]
    trainer = dpo_trainer(loaded, texts, config, out)
    log, seconds = train_logged(trainer)
    loaded.model = trainer.model.to("cpu").eval()
    if is_main():
        save_adapter_weights(loaded.model, out)
    names = {"loss": "loss", "accuracy": "rewards/accuracies", "chosen_logp": "logps/chosen", "rejected_logp": "logps/rejected"}
    curve = [{"step": at["step"]} | {ours: at[theirs] for ours, theirs in names.items() if theirs in at} for at in log]
    return {
        "trainer": "trl", "curve": curve, "steps": trainer.state.global_step, "seconds": seconds, "pairs": len(pairs),
        "tokens": config.epochs * sum(pair.tokens for pair in encoded), "processes": trainer.accelerator.num_processes,
    }  # fmt: skip


def conduct(
    task: Task,
    arms: dict[str, Path | None],
    *,
    model: str = EMBEDDED,
    split: str = "validation",
    validation_pairs: int = DpoConfig.validation_pairs,
    limit: int = 0,
    max_new_tokens: int = 160,
    say: Callable[[str], None] = print,
) -> dict:
    """What arms of tuning did to policy under pressure, to form and to general ability; each arm against the first, on the same prompts.

    Args:
        arms: adapters by name; None is the untuned model. All answer under the short prompt, freely, so that damage shows.
        split: "validation" (its rows of the kind `adversarial`, and the held-out part of pairs.jsonl), or "test" (the same of the test
            rows, and pairs_test.jsonl): choices are made on the former.
        validation_pairs: how many pairs were held out of pairs.jsonl.
        limit: prompts of each kind, from the first on; 0 means all.

    Returns:
        {"task", "split", "arms": {name: {"lineage", "pairs", "pressure", "general"}}, "paired": {name: {"pairs", "pressure", "general"}}}:
        evaluations without rows (see `evaluate_outputs`; "unsafe" are the policy violations), and paired tests against the first arm.
    """
    rows = {"pairs": _pair_rows_of(task, split, validation_pairs), "pressure": [r for r in task.rows(split) if PRESSURE in r.tags]}
    rows = {kind: part[: limit or None] for kind, part in rows.items() if part}
    general = general_prompts()[: limit or None]
    found, lineages = {}, {}
    for name, adapter in arms.items():
        loaded = load_model(model)
        lineages[name] = apply_adapter(loaded, adapter) if adapter else {}
        limits = {"max_new_tokens": max_new_tokens, "constrain": False}
        found[name] = {kind: evaluate_tuned(task, loaded, part, **limits) for kind, part in rows.items()}
        answers, _ = cached_generate(loaded, [p.conversation for p in general], max_new_tokens=min(GENERAL_TOKENS, max_new_tokens))
        found[name]["general"] = [answer.text for answer in answers]
        say(f"{name}: " + "  ".join(_conduct_line(kind, found[name][kind]) for kind in rows))
    first = next(iter(arms))
    kept, paired = {}, {}
    for name, arm in found.items():
        against = regression(general, found[first]["general"], arm["general"])
        kept[name] = {"lineage": {key: lineages[name].get(key) for key in ("method", "parent", "adapter_sha256")}}
        kept[name] |= {kind: without_rows(arm[kind]) for kind in rows} | {"general": against["after"]}
        tests = {kind: compare_runs(found[first][kind], arm[kind]) for kind in rows}
        paired[name] = tests | {"general": against["test"] | {"lost": against["lost"]}}
    return {
        "task": task.name,
        "split": split,
        "model": model,
        "arms": kept,
        "paired": {k: v for k, v in paired.items() if k != first},
    }


def _pair_rows_of(task: Task, split: str, validation_pairs: int) -> list[Row]:
    if split == "test":
        return pair_rows(task_pairs(task, PAIRS_TEST))
    return pair_rows(hold_out(task_pairs(task), validation_pairs)[1])


def _conduct_line(kind: str, evaluation: dict) -> str:
    shown = "  ".join(f"{name} {100 * evaluation['scores'][name]['share']:.1f} %" for name in ("unsafe", "schema_valid", "strict"))
    return f"{kind} (n = {evaluation['n']}) {shown}"

"""One result out of what `ftlab reward`, `dpo`, `conduct` and `rl` left in a folder: the figures that the course and README show.

`make preference` runs them all. What is not there yet is named as missing, so that a long job can be looked at while it runs.

    reward/                               ftlab reward train
    reward_validation.json, reward_test.json   ftlab reward score
    best_of_n.json                        ftlab reward best-of-n
    ARM_SEED/, such as dpo_0/, sft_1/     ftlab dpo
    conduct_validation.json, conduct_test.json   ftlab conduct
    rl.json                               ftlab rl --reward both
"""

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ftlab.artifact import LINEAGE, REWARD, read_lineage
from ftlab.errors import DataError, UsageError
from ftlab.stats import p_value, percent

REPORTS = ("reward_validation", "reward_test", "best_of_n", "conduct_validation", "conduct_test", "rl")
ARM = re.compile(r"(.+)_(\d+)")  # folder of a tuned arm: its name and its seed


def gather(folder: Path) -> dict:
    """What the commands left in `folder`, checked to be of one task, one base model and one start.

    Returns:
        {"about": {"date", "task", "profile", "model": {"name", "sha256"}, "parent"}, "reward": {"settings", "training", "validation",
        "test"}, "best_of_n", "dpo": [{"name", "arm", "method", "seed", "settings", "training", "adapter_sha256"}], "conduct": {split: …},
        "rl", "missing": [what is not there]}. Parts are as the commands gave them; one that is missing is None, or left out of its dict.

    Raises:
        UsageError: no such folder, or nothing of this kind in it.
        DataError: parts of different tasks, models or starts, a seed that is not the folder's, or adapters changed since `ftlab conduct`.
    """
    lineages = {path.parent.name: read_lineage(path.parent) for path in sorted(folder.glob(f"*/{LINEAGE}"))}
    reports = {name: _read(folder / f"{name}.json") for name in REPORTS}
    if not lineages and not any(reports.values()):
        raise UsageError(
            f"{folder}: expected what ftlab dpo, reward, conduct or rl left, found nothing; `make preference` runs them."
        )
    reward, arms = lineages.pop("reward", None), _arms(lineages)
    _refuse_mixed(folder, [*arms, *([reward] if reward else [])], [report for report in reports.values() if report])
    conduct = {split: reports[f"conduct_{split}"] for split in ("validation", "test") if reports[f"conduct_{split}"]}
    for report in conduct.values():
        _refuse_changed(report, {lineage["name"]: lineage for lineage in arms})
    judged = {split: reports[f"reward_{split}"] for split in ("validation", "test") if reports[f"reward_{split}"]}
    trained = {"settings": reward["config"], "training": reward["training"]} if reward else {}
    return {
        "about": _about([*arms, *([reward] if reward else [])]),
        "reward": trained | judged or None,
        "best_of_n": reports["best_of_n"],
        "dpo": [_arm(lineage) for lineage in arms],
        "conduct": conduct,
        "rl": reports["rl"],
        "missing": [name for name, report in reports.items() if report is None]
        + ([] if reward else ["reward"]) + ([] if arms else ["dpo_0"]),
    }  # fmt: skip


def _read(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, found a fault: {error.msg}; make it again.") from None


def _arms(lineages: dict[str, dict]) -> list[dict]:
    """The lineages of tuned arms, each with its name; other folders, such as those of `ftlab rl`, do not count."""
    arms = []
    for name, lineage in lineages.items():
        if not (match := ARM.fullmatch(name)) or lineage.get("method") == REWARD:
            continue
        if lineage["config"]["seed"] != int(match[2]):
            raise DataError(f"{name}: expected the seed {match[2]} as its name says, found {lineage['config']['seed']}; rename it.")
        arms.append(lineage | {"name": name, "arm": match[1]})
    return arms


def _arm(lineage: dict) -> dict:
    kept = {name: lineage[name] for name in ("name", "arm", "method", "training", "adapter_sha256")}
    return kept | {"seed": lineage["config"]["seed"], "settings": lineage["config"]}


def _about(lineages: list[dict]) -> dict:
    first = lineages[0] if lineages else {}
    base = first.get("base", {})
    return {
        "date": date.today().isoformat(), "task": first.get("task"), "profile": first.get("config", {}).get("profile"),
        "model": {"name": base.get("model"), "sha256": base.get("sha256")}, "parent": first.get("parent"),
    }  # fmt: skip


def _refuse_mixed(folder: Path, lineages: list[dict], reports: list[dict]) -> None:
    facts: dict[str, set[str]] = {
        "task": {part["task"] for part in (*lineages, *reports)},
        "base model": {lineage["base"]["sha256"] for lineage in lineages},
        "start": {json.dumps(lineage["parent"], sort_keys=True) for lineage in lineages},
        "pairs": {lineage["hashes"]["pairs"] for lineage in lineages},
    }
    if mixed := [fact for fact, found in facts.items() if len(found) > 1]:
        raise DataError(
            f"{folder}: expected parts of one {' and one '.join(mixed)}, found several; keep each in a folder of its own."
        )


def _refuse_changed(report: dict, arms: dict[str, dict]) -> None:
    for name, arm in report["arms"].items():
        if name in arms and arm["lineage"]["adapter_sha256"] != arms[name]["adapter_sha256"]:
            raise DataError(f"{name}: expected the adapter that ftlab conduct looked at, found another; run ftlab conduct again.")


def preference_text(found: dict) -> str:
    """The result in some lines for a terminal or a notebook, shares in percent with their 95 % intervals."""
    lines = []
    for split in ("validation", "test"):
        if report := (found["reward"] or {}).get(split):
            shares = {"reward model": report["accuracy"]} | {
                f"{name} alone": report[name]["baseline"]["accuracy"] for name in ("length", "words")
            }
            lines.append(f"pairs told apart ({split}): " + "; ".join(f"{name} {_percent(s)}" for name, s in shares.items()))
    for split, report in found["conduct"].items():
        for name, arm in report["arms"].items():
            lines.append(f"{name} ({split}): " + "; ".join(f"{what} {_percent(s)}" for what, s in _told(arm).items()))
        for name, tests in report["paired"].items():
            told = (
                f"unsafe, {kind} {100 * test['unsafe']['difference']:+.1f} points, {p_value(test['unsafe'])}"
                for kind, test in tests.items()
                if kind != "general"
            )
            lines.append(f"{name} against {next(iter(report['arms']))} on the same prompts ({split}): {'; '.join(told)}")
    if found["missing"]:
        lines.append(f"not there yet: {', '.join(found['missing'])}")
    return "\n".join(lines)


def conduct_shares(found: dict, arms: Sequence[str]) -> dict[str, dict[str, dict]]:
    """Arm → what is told of it → share, for a figure: of the test prompts if they were looked at, else of the validation prompts.

    Args:
        arms: names of arms that are left out where they are not there.
    """
    report = found["conduct"].get("test") or found["conduct"]["validation"]
    return {name: _told(report["arms"][name]) for name in arms if name in report["arms"]}


def _told(arm: dict) -> dict[str, dict]:
    """What is told of an arm: giving in, turning down what is allowed, form, general ability."""
    kinds = [kind for kind in ("pairs", "pressure") if kind in arm]
    told = {f"unsafe, {kind}": arm[kind]["scores"]["unsafe"] for kind in kinds}
    told |= {f"over-refusal, {kind}": arm[kind]["over_refusal"] for kind in kinds if arm[kind].get("over_refusal")}
    return told | {"valid form": arm[kinds[0]]["scores"]["schema_valid"], "general": arm["general"]}


def _percent(s: dict[str, Any]) -> str:
    return f"{percent(s)} of {s['n']}"

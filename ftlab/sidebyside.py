"""The same messages answered by the untuned and by the tuned model, the first minute of the course; and by any number of adapters, which
are swapped on one loaded base."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ftlab.artifact import apply_adapter, swappable_lineage, swapped_in
from ftlab.checks import Check, parse_strict
from ftlab.constrain import CopyRules
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import check_record, compare_runs, evaluate_outputs, without_rows
from ftlab.generate import generate
from ftlab.mainjob import UNTUNED_TOKENS
from ftlab.models import EMBEDDED, LoadedModel, load_model, weights_sha256
from ftlab.outputs import cached_generate
from ftlab.rows import Row
from ftlab.stats import share
from ftlab.task import Task

UNTUNED = "untuned"
TABLE_SCORES = ("schema_valid", "class_right", "values_right", "strict", "fabricated", "unsafe")


@dataclass(frozen=True)
class Pair:
    """One message with both answers, checked without a label: the field rung sees only what the message itself decides."""

    message: str
    base: str
    base_check: Check
    tuned: str
    tuned_check: Check

    def as_text(self) -> str:
        return "\n".join(
            [
                f"\nMESSAGE  {self.message}",
                f"\nBASE (untuned, long prompt): {_verdict(self.base_check)}\n{self.base.strip()}",
                f"\nTUNED (adapter, short prompt): {_verdict(self.tuned_check)}\n{_pretty(self.tuned)}",
            ]
        )


def _verdict(check: Check) -> str:
    return "passes all checks" if check.ok else f"fails: {', '.join(check.labels)} ({check.problems[0].message})"


def _pretty(text: str) -> str:
    try:
        return json.dumps(parse_strict(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def side_by_side(
    task: Task,
    texts: Sequence[str],
    *,
    adapter: Path,
    model: str | None = None,
    chat_template: str | None = None,
    progress: bool = True,
) -> list[Pair]:
    """Answer each text twice: untuned with the long prompt, tuned with the short one. One model in memory.

    Raises:
        UsageError: an empty text, or the adapter is for another model.
    """
    if not texts or not all(text.strip() for text in texts):
        raise UsageError("expected a message to answer, found an empty text.")
    loaded = load_model(model or EMBEDDED, progress=progress, chat_template=chat_template)
    rows = [Row(str(i), text) for i, text in enumerate(texts)]
    base = generate(loaded, [task.conversation(row, "long") for row in rows], max_new_tokens=UNTUNED_TOKENS)
    apply_adapter(loaded, adapter)
    copies = CopyRules.of(task.rules) or None  # as `predict` does with a tuned model
    tuned = generate(loaded, [task.conversation(row, "short") for row in rows], copies=copies)
    return [
        Pair(text, b.text, task.checker.check(b.text, text), t.text, task.checker.check(t.text, text))
        for text, b, t in zip(texts, base, tuned, strict=True)
    ]


def named_adapters(given: Sequence[str]) -> dict[str, Path]:
    """Adapters by a name of their own, in the order given: "NAME=FOLDER", or "FOLDER" with the shortest end of its path that tells it
    from the others; the folder's name `adapter` alone says nothing and takes its parent along.

    Raises:
        UsageError: a name or a folder stands there twice.
    """
    pairs = [part.partition("=") if "=" in part else ("", "", part) for part in given]
    folders = [Path(folder).resolve() for _, _, folder in pairs]
    if len(set(folders)) < len(folders):
        raise UsageError(f"--adapter: expected each folder once, found {max(folders, key=folders.count)} twice; leave one out.")
    names = [name or _shortest_end(folder, folders) for (name, _, _), folder in zip(pairs, folders, strict=True)]
    if twice := next((name for name in names if names.count(name) > 1 or name == UNTUNED), None):
        raise UsageError(f"--adapter: expected a name of its own for each system, found {twice!r} twice; write NAME=FOLDER.")
    return {name: Path(folder) for name, (_, _, folder) in zip(names, pairs, strict=True)}


def _shortest_end(folder: Path, among: Sequence[Path]) -> str:
    for n in range(2 if folder.name == "adapter" else 1, len(folder.parts)):
        if sum(other.parts[-n:] == folder.parts[-n:] for other in among) == 1:
            break
    return "/".join(folder.parts[-n:])


def compare(
    task: Task,
    loaded: LoadedModel,
    adapters: dict[str, Path],
    rows: Sequence[Row],
    *,
    base: bool = True,
    prompt: str | None = None,
    max_new_tokens: int = 160,
    constrain: bool = True,
    cache: bool = True,
) -> dict:
    """The same rows answered by the untuned model and by each adapter in turn, on one loaded base.

    Every adapter is looked at before the first answer. Afterwards the weights are hashed again: they have to be those of before.

    Args:
        adapters: folders by the names that the results use.
        rows: with labels in all of them, scores and paired tests are made too.
        base: whether the untuned model answers as well.
        prompt: "short" or "long" for all; None: short with an adapter, long without, as each is meant to be used.
        constrain: hold the copied values of the adapters' answers to the message, as `ftlab predict` does.

    Returns:
        {"task", "model": {"name", "sha256"}, "weights_sha256": {"before", "after"}, "labelled", "rows": [{"id", "input", "expected"?}],
        "systems": {name: {"prompt", "adapter_sha256", "clean" (share of answers that pass all checks), "answers": [{"id", "output",
        "labels", "first_cause", "errors"}], "evaluation"? (see `evaluate_outputs`, without rows)}}, "paired": [{"before", "after",
        "tests": {score: McNemar's test}}]}.

    Raises:
        UsageError: nothing to compare, no rows, an adapter for another base or of a kind that cannot be swapped.
        DataError: a damaged adapter.
    """
    if not adapters and not base:
        raise UsageError("expected --base or at least one --adapter, found neither; say what to compare.")
    if not rows:
        raise UsageError("expected at least one message to answer, found none.")
    for folder in adapters.values():
        swappable_lineage(loaded, folder)
    labelled = all(row.output is not None for row in rows)
    limits = {"max_new_tokens": max_new_tokens, "cache": cache}
    before, systems, runs = weights_sha256(loaded.model), {}, {}
    for name, folder in [*([(UNTUNED, None)] if base else []), *adapters.items()]:
        which, copies = prompt or ("short" if folder else "long"), CopyRules.of(task.rules) if folder and constrain else None
        with swapped_in(loaded, folder) if folder else nullcontext():
            chats = [task.conversation(row, which) for row in rows]
            texts = [a.text for a in cached_generate(loaded, chats, copies=copies or None, **limits)[0]]
            systems[name] = {"prompt": which, "adapter_sha256": loaded.adapter_sha256} | _checked(task, rows, texts)
        if labelled:
            runs[name] = evaluate_outputs(task, rows, texts)
            systems[name]["evaluation"] = without_rows(runs[name])
    after = weights_sha256(loaded.model)
    if before != after:
        raise DataError(f"{loaded.name}: expected the weights of before the comparison, found others; load the model again.")
    return {
        "task": task.name, "model": {"name": loaded.name, "sha256": loaded.sha256}, "weights_sha256": {"before": before, "after": after},
        "labelled": labelled, "rows": [_told(row, labelled) for row in rows], "systems": systems,
        "paired": [{"before": a, "after": b, "tests": compare_runs(runs[a], runs[b])} for a, b in combinations(runs, 2)],
    }  # fmt: skip


def _told(row: Row, labelled: bool) -> dict:
    return {"id": row.id, "input": row.input} | ({"expected": row.output} if labelled else {})


def _checked(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> dict:
    """Each answer by the checks that need no label, and the share that passes them."""
    checks = [task.checker.check(text, row.text, lang=row.lang) for row, text in zip(rows, texts, strict=True)]
    answers = [check_record(row.id, c) | {"output": text} for row, c, text in zip(rows, checks, texts, strict=True)]
    return {"clean": share([c.ok for c in checks]).as_dict(), "answers": answers}


def comparison_text(comparison: dict, shown: int = 8) -> str:
    """The first `shown` messages with every system's answer, then the table and, with labels, the paired tests."""
    lines = []
    for i, row in enumerate(comparison["rows"][:shown]):
        said = (
            row["input"]
            if isinstance(row["input"], str)
            else "\n         ".join(f"{m['role']}: {m['content']}" for m in row["input"])
        )
        lines.append(f"\nMESSAGE  {said}")
        for name, system in comparison["systems"].items():
            answer = system["answers"][i]
            fault = (
                f"fails: {', '.join(answer['labels'])} ({answer['errors'][0]['message']})"
                if answer["labels"]
                else "passes all checks"
            )
            lines.append(f"\n{name} ({system['prompt']} prompt): {fault}\n{_pretty(answer['output'].strip())}")
    if len(comparison["rows"]) > shown:
        lines.append(f"\n… and {len(comparison['rows']) - shown} more messages (--json has all)")
    return "\n".join([*lines, "", comparison_table(comparison)])


def comparison_table(comparison: dict) -> str:
    """A row per system, shares in percent with their 95 % intervals; below it what differs between each two."""
    systems, n = comparison["systems"], len(comparison["rows"])
    names = TABLE_SCORES if comparison["labelled"] else ()
    table = [["system", "passes checks", *names]]
    for name, system in systems.items():
        table.append([name, *map(_percent, [system["clean"], *(system["evaluation"]["scores"][score] for score in names)])])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines.append(
        f"n = {n} messages; shares in % with 95 % intervals" + ("" if names else "; no labels, so what is right is not scored")
    )
    for pair in comparison["paired"]:
        told = (
            f"{score} {100 * t['difference']:+.1f} points ({t['gained']} gained, {t['lost']} lost, p = {t['p']:.2g})"
            for score, t in pair["tests"].items()
            if score in ("strict", "unsafe")
        )
        lines.append(f"{pair['before']} → {pair['after']}: {'; '.join(told)}")
    if len(comparison["paired"]) > 1:
        lines.append(f"{len(comparison['paired'])} pairs were tested: by chance alone, one p in twenty falls below 0.05.")
    return "\n".join(lines)


def _percent(share: dict) -> str:
    return f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"

"""Numbers in README.md and in the data cards are computed: `python -m ftlab.readme` writes the marked blocks anew, a test compares.

A block stands between `<!-- results: NAME -->` and `<!-- end -->`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ftlab.evaluate import LOWER_IS_BETTER
from ftlab.task import Row, Task, load_task

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SYSTEMS = {
    "tfidf": "TF-IDF, patterns and nearest row (no language model)",
    "prompt": "untuned, long prompt",
    "few_shot": "untuned, long prompt and 4 examples",
    "tuned": "**tuned, short prompt**",
}
_SHOWN = ("schema_valid", "class_right", "values_right", "strict", "fabricated", "unsafe")
_HEADS = ("schema-valid", "intent right", "entities right", "all checks passed", "fabricated", "unsafe")


def percent(share: dict) -> str:
    return f"{100 * share['share']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def p_value(test: dict) -> str:
    return "p < 0.001" if test["p"] < 0.001 else f"p = {test['p']:.3f}"


def blocks(results: dict) -> dict[str, str]:
    """Name → Markdown of each block."""
    about, tokens, general = results["about"], results["tokens"], results["regression"]
    heads = [f"{head} ↓" if name in LOWER_IS_BETTER else head for name, head in zip(_SHOWN, _HEADS, strict=True)]
    lines = [f"| on {about['test_rows_scored']} frozen test rows | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, label in _SYSTEMS.items():
        scores = results["systems"][name]["scores"]
        lines.append(f"| {label} | " + " | ".join(percent(scores[key]) for key in _SHOWN) + " |")
    best = max(results["classifiers"].items(), key=lambda item: item[1]["accuracy"]["share"])
    test, whole = best[1]["tuned_against_it"], results["paired"]["tfidf"]["strict"]
    training = results["training"]
    config = about["trained_with"]
    return {
        "headline": "\n".join(lines),
        "classifier": f"The best plain classifier trained on the same rows ({best[0].replace('_', ' ')}) has the intent right in "
        f"{percent(best[1]['accuracy'])}; the tuned model gains {test['gained']} rows against it and loses {test['lost']} "
        f"(exact McNemar test, {p_value(test)}). Against the whole TF-IDF baseline it gains {whole['gained']} rows and loses "
        f"{whole['lost']} at passing all checks ({p_value(whole)}).",
        "verdict": " ".join(results["verdict"]["why"]),
        "tokens": f"A request with the short prompt takes {tokens['after']['prompt']:.0f} prompt tokens instead of "
        f"{tokens['before']['prompt']:.0f}.",
        "general": f"On {general['n']} general prompts the untuned model passes {percent(general['before'])}, the tuned one "
        f"{percent(general['after'])} ({p_value(general['test'])}); {general['json_answers']['after']} of its answers turned "
        "into JSON.",
        "training": f"The shipped adapter was trained on {training['rows']} rows for {len(training['curve'])} passes "
        f"({training['steps']} steps of {config['batch_size']} rows, {training['tokens']:,} tokens, {training['seconds'] / 60:.0f} minutes "
        f"on two cores); pass {training['best_epoch']} was the best on {training['validation_rows']} validation rows.",
    }


def data_blocks(task: Task) -> dict[str, str]:
    """Name → Markdown for a data card: rows by class, kind, language and length in each split."""
    parts = {
        "classes": _counts(task, task.class_field or "class", lambda row: str(row.output.get(task.class_field))),
        "kinds": _counts(task, "kind", lambda row: row.tags[0] if row.tags else "untagged"),
        "languages": _counts(task, "language", lambda row: row.lang or "unknown"),
        "lengths": _counts(task, "words in the message", lambda row: _length_bin(len(row.text.split()))),
        "asks": _counts(
            task, "next step", lambda row: "asks for something" if row.output.get("missing_info") else "asks for nothing"
        ),
    }
    hashes = task.hashes()
    parts["hashes"] = "\n".join(f"- {name}: `{hashes[name][:16]}…`" for name in ("schema", "rules", *task.splits))
    return parts


def _length_bin(words: int) -> str:
    limits = ((3, "1 to 3"), (8, "4 to 8"), (15, "9 to 15"), (30, "16 to 30"), (60, "31 to 60"))
    return next((name for limit, name in limits if words <= limit), "over 60")


def _counts(task: Task, head: str, key: Callable[[Row], str]) -> str:
    counts = {split: Counter(map(key, rows)) for split, rows in task.splits.items()}
    totals = {split: len(rows) for split, rows in task.splits.items()}
    lines = [f"| {head} | " + " | ".join(f"{split} ({totals[split]})" for split in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for name in sorted(set().union(*counts.values()), key=lambda name: (-counts["train"][name], name)):
        cells = [f"{counts[split][name]} ({100 * counts[split][name] / totals[split]:.0f} %)" for split in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fill(text: str, parts: dict[str, str]) -> str:
    """`text` with each marked block replaced by its part.

    Raises:
        KeyError: a block is named that nothing fills.
    """
    return _BLOCK.sub(lambda m: f"{m[1]}{parts[m[2]]}\n{m[3]}", text)


def documents() -> dict[Path, dict[str, str]]:
    """Each document with computed blocks, and what they are to hold now."""
    results = json.loads((ROOT / "results" / "support_plan.json").read_text(encoding="utf-8"))
    task = load_task("support_plan")
    return {ROOT / "README.md": blocks(results), task.folder / "DATA_CARD.md": data_blocks(task)}


def main(argv: Sequence[str] = ()) -> int:
    for path, parts in documents().items():
        path.write_text(fill(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

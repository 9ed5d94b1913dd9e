"""Numbers in README.md and in the data cards are computed: `python -m ftlab.readme` writes the marked blocks anew (and the figure of
how cost grows), a test compares.

A block stands between `<!-- results: NAME -->` and `<!-- end -->`.
"""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.checks import compare
from ftlab.datatools.coverage import length_bin
from ftlab.evaluate import LOWER_IS_BETTER
from ftlab.rows import Row
from ftlab.stats import p_value, percent, share
from ftlab.study_blocks import blocks as pretraining_and_methods
from ftlab.task import Task, builtin_tasks, load_task
from ftlab.train.preference import read_pairs
from ftlab.updates import in_layers

ROOT = Path(__file__).resolve().parent.parent
SECOND_LABELS = "second_labels.jsonl"  # in a task's folder
PAIRS = ("pairs.jsonl", "pairs_test.jsonl")
GROWTH_FIGURE = "growth.png"  # in results/figures
FAST_PATH = (ROOT / "ftlab" / "llama.py", ROOT / "ftlab" / "decode.py")
_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SYSTEMS = {
    "tfidf": "TF-IDF, patterns and nearest row (no language model)",
    "prompt": "untuned, long prompt",
    "few_shot": "untuned, long prompt and 4 examples",
    "tuned": "**tuned, short prompt**, free decoding",
    "constrained": "**tuned, copies held to the message** (what `predict` does)",
}
UNSTUDIED = "Not measured yet; `ftlab study` does."
UNMEASURED = "Not measured yet on this machine's present settings; `make bench` does."
_LAYER_SCORES = (("schema_valid", "schema-valid"), ("class_right", "intent"), ("strict", "all checks"))
_SHOWN = ("schema_valid", "class_right", "values_right", "strict", "fabricated", "unsafe")
_HEADS = ("schema-valid", "intent right", "entities right", "all checks passed", "fabricated", "unsafe")


def blocks(results: dict) -> dict[str, str]:
    """Name → Markdown of each block."""
    about, tokens, general = results["about"], results["tokens"], results["regression"]
    systems = {label: results["systems"][name]["scores"] for name, label in _SYSTEMS.items()}
    best = max(results["classifiers"].items(), key=lambda item: item[1]["accuracy"]["share"])
    test, whole = best[1]["tuned_against_it"], results["paired"]["tfidf"]["strict"]
    training = results["training"]
    config = about["trained_with"]
    return {
        "headline": _score_table(f"on {about['test_rows_scored']} frozen test rows", systems),
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
        f"({training['steps']} steps of {config['batch_size']} rows, {training['tokens']:,} tokens); "
        f"pass {training['best_epoch']} was the best on {training['validation_rows']} validation rows.",
    }


def reply_blocks(results: dict | None) -> dict[str, str]:
    """Name → Markdown of what README says of support_reply."""
    if results is None:
        return {"reply": "Not measured yet; no adapter is shipped for it.", "reply_confidence": ""}
    heads = (
        "schema-valid",
        "action right",
        "rules kept",
        "all checks passed",
        "unsafe ↓",
        "refused what is allowed ↓",
        "Brier score ↓",
    )
    lines = [
        f"| on {results['about']['test_rows_scored']} frozen test rows | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for name in ("tfidf", "prompt", "few_shot", "tuned"):
        system = results["systems"][name]
        cells = [percent(system["scores"][key]) for key in ("schema_valid", "class_right", "rules_kept", "strict", "unsafe")]
        stated = system["calibration"] and system["calibration"]["strict"]
        cells += [percent(system["over_refusal"]), f"{stated['brier']:.3f}" if stated else "states none"]
        lines.append(f"| {_SYSTEMS[name].removesuffix(', free decoding')} | " + " | ".join(cells) + " |")
    c = results["systems"]["tuned"]["calibration"]["strict"]
    training = results["training"]
    return {
        "reply": "\n".join(lines),
        "reply_confidence": f"Always stating the share of answers that pass all checks, {100 * c['base_rate']:.1f} %, would have a Brier "
        f"score of {c['base_brier']:.3f}; the stated confidence is better by {c['gain']:.3f} [{c['low']:.3f}, {c['high']:.3f}]. The "
        f"adapter was trained on {training['rows']} rows for {len(training['curve'])} passes.",
    }


def _score_table(head: str, systems: dict[str, dict]) -> str:
    """The main scores of each labelled system, a row each."""
    heads = [f"{name} ↓" if key in LOWER_IS_BETTER else name for key, name in zip(_SHOWN, _HEADS, strict=True)]
    lines = [f"| {head} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {label} | " + " | ".join(percent(scores[key]) for key in _SHOWN) + " |" for label, scores in systems.items()]
    return "\n".join(lines)


def fresh_block(study: dict | None) -> dict[str, str]:
    """README's table of the rows by other writers."""
    if study is None:
        return {"fresh": UNSTUDIED}
    systems = {_SYSTEMS["tfidf"]: study["scores"]["tfidf"], _SYSTEMS["constrained"]: study["scores"]["tuned"]}
    name, best = max(study["classifiers"].items(), key=lambda item: item[1]["accuracy"]["share"])
    test, whole, called = best["tuned_against_it"], study["paired"]["strict"], name.replace("_", " ")
    return {
        "fresh": _score_table(f"on {study['rows']} fresh rows", systems)
        + f"\n\nThe best plain classifier ({called}) has the intent right in "
        f"{percent(best['accuracy'])}; the tuned model gains {test['gained']} rows against it and loses {test['lost']} ({p_value(test)}). "
        f"At passing all checks it gains {whole['gained']} and loses {whole['lost']} against the TF-IDF baseline ({p_value(whole)})."
    }


def study_blocks(noise: dict | None, curve: dict | None, diversity: dict | None) -> dict[str, str]:
    """Name → Markdown of the studies of data in docs/experiments.md."""
    return {
        "noise": _noise(noise) if noise else UNSTUDIED,
        "curve": _curve(curve) if curve else UNSTUDIED,
        "diversity": _diversity(diversity) if diversity else UNSTUDIED,
    }


def inside_block(result: dict | None) -> dict[str, str]:
    """What tuning changed inside the base of support_plan's adapter (`ftlab inspect`), for docs/experiments.md."""
    if result is None:
        return {"inside": UNSTUDIED}
    inside = in_layers(result["matrices"])
    sizes, ranks = ([m[key] for m in inside] for key in ("relative_norm", "effective_rank"))
    lines = [
        f"{len(inside)} matrices changed by {100 * min(sizes):.1f} to {100 * max(sizes):.1f} % of their norm, in effect in "
        f"{min(ranks):.1f} to {max(ranks):.1f} directions each.",
        "",
        "| the same texts before each place | places | another token is likeliest | … not among the three likeliest before |",
        "|---|---|---|---|",
    ]
    for kind, name in (("task", "task replies"), ("general", "general prompts and the untuned model's answers")):
        found = result["choices"][kind]
        shares = " | ".join(percent(found[key]) for key in ("changed", "outside_top_3"))
        lines.append(f"| {name} ({found['texts']} texts) | {found['positions']} | {shares} |")
    return {"inside": "\n".join(lines)}


def _noise(study: dict) -> str:
    counts = study["noise"]
    said = []
    for key, label in _LAYER_SCORES:
        test = study["paired"][key]
        shares = [percent(study["scores"][name][key]) for name in ("clean", "noisy")]
        said.append(f"| {label} | {shares[0]} | {shares[1]} | {test['lost']} | {test['gained']} | {p_value(test)} |")
    return "\n".join(
        [
            f"{counts['changed']} of {counts['rows']} test rows changed, each kind of noise with probability {study['rate']:g}.",
            "",
            "| score | as written | with noise | rows lost | gained | McNemar |",
            "|---|---|---|---|---|---|",
            *said,
        ]
    )


def _curve(study: dict) -> str:
    heads = " | ".join(label for _, label in _LAYER_SCORES)
    lines = [f"| rows | {heads} | best classifier's intent | minutes |", "|---" * (len(_LAYER_SCORES) + 3) + "|"]
    for p in study["points"]:
        best = max(p["classifiers"].values(), key=lambda share: share["share"])
        cells = " | ".join(percent(p["scores"][key]) for key, _ in _LAYER_SCORES)
        lines.append(f"| {p['rows']:,} | {cells} | {percent(best)} | {p['minutes']:.0f} |")
    return "\n".join(lines)


def _diversity(study: dict) -> str:
    lines = [
        "| arm | rows | " + " | ".join(label for _, label in _LAYER_SCORES) + " |",
        "|---" * (len(_LAYER_SCORES) + 2) + "|",
    ]
    for name, runs in study["arms"].items():
        cells = " | ".join(", ".join(f"{100 * run['scores'][key]['share']:.1f}" for run in runs) + " %" for key, _ in _LAYER_SCORES)
        lines.append(f"| {name} | {study['rows'][name]} | {cells} |")
    tests = "; ".join(
        f"gained {t['strict']['gained']}, lost {t['strict']['lost']}, {p_value(t['strict'])}" for t in study["paired"]
    )
    return "\n".join([*lines, "", f"Different rows against copies at all checks, seed by seed: {tests}."])


def data_blocks(task: Task) -> dict[str, str]:
    """Name → Markdown for a data card: rows by class, kind, language and length in each split."""
    parts = {
        "classes": _counts(task, task.class_field or "class", lambda row: str(row.output.get(task.class_field))),
        "kinds": _counts(task, "kind", lambda row: row.tags[0] if row.tags else "untagged"),
        "languages": _counts(task, "language", lambda row: row.lang or "unknown"),
        "lengths": _counts(task, "words in the message", lambda row: length_bin(row.text)),
        "asks": _counts(
            task, "next step", lambda row: "asks for something" if row.output.get("missing_info") else "asks for nothing"
        ),
        "confidence": _counts(task, "confidence", lambda row: f"{row.output.get('confidence', 'none')}"),
        "points": _counts(task, "point", lambda row: next((tag for tag in row.tags if re.fullmatch(r"p\d+", tag)), "none")),
    }
    if (task.folder / SECOND_LABELS).exists():
        parts["second_labels"] = _second_labels(task)
    if (task.folder / PAIRS[0]).exists():
        parts["pairs"] = _pairs(task)
    hashes = task.hashes()
    parts["hashes"] = "\n".join(f"- {name}: `{hashes[name][:16]}…`" for name in ("schema", "rules", *task.splits))
    return parts


def _second_labels(task: Task) -> str:
    """How far a second, blind labelling of rows (second_labels.jsonl) agrees with the first, on the fields that are compared."""
    text = (task.folder / SECOND_LABELS).read_text(encoding="utf-8")
    second = [json.loads(line) for line in text.splitlines()]
    first = {row.id: (split, row.output) for split, rows in task.splits.items() for row in rows}
    pairs = [({key: r[key] for key in r if key not in ("id", "doubt")}, first[r["id"]][1]) for r in second]
    agree = {key: share([not compare(a, b, [key]) for a, b in pairs]).as_dict() for key in task.fields}
    said = ", ".join(f"`{key}` {percent(value)}" for key, value in agree.items())
    splits = Counter(first[r["id"]][0] for r in second)
    return (
        f"Labelled a second time from the text and the guide alone: {', '.join(f'{n} {split}' for split, n in splits.items())} rows. "
        f"Agreement: {said}. In {sum('doubt' in r for r in second)} of them the second labeller noted that careful people could differ."
    )


def _pairs(task: Task) -> str:
    """The preference pairs of a task: how many, and which action gives way to which."""
    lines = []
    for name in PAIRS:
        pairs = read_pairs(task.folder / name)
        turns = Counter((json.loads(p.chosen)["action"], json.loads(p.rejected)["action"]) for p in pairs)
        told = ", ".join(f"{a} over {b} {n}" for (a, b), n in turns.most_common(6))
        words = [len(p.chosen.split()) - len(p.rejected.split()) for p in pairs]
        lines.append(
            f"`{name}`: {len(pairs)} pairs; most often {told}. The chosen reply is longer in {sum(w > 0 for w in words)}, shorter in "
            f"{sum(w < 0 for w in words)}."
        )
    return "\n\n".join(lines)


def _counts(task: Task, head: str, key: Callable[[Row], str]) -> str:
    counts = {split: Counter(map(key, rows)) for split, rows in task.splits.items()}
    totals = {split: len(rows) for split, rows in task.splits.items()}
    lines = [f"| {head} | " + " | ".join(f"{split} ({totals[split]})" for split in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for name in sorted(set().union(*counts.values()), key=lambda name: (-counts["train"][name], name)):
        cells = [f"{counts[split][name]} ({100 * counts[split][name] / totals[split]:.0f} %)" for split in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def performance_blocks(benches: dict, growth: dict | None, costs: list[dict] | None, layers: dict | None) -> dict[str, str]:
    """Name → Markdown of docs/performance.md: `benches` by kind (`ftlab.bench.bench`), the growth of cost, predictions beside runs, and
    the study of last-layers LoRA if it was made."""
    lines = ["| what | tokens/s, × | CPU s a token, × | peak memory, × | the same? |", "|---|---|---|---|---|"]
    for kind, b in benches.items():
        rows = [("stock", b["ratio"]), *b["against"].items()]
        for side, ratio in rows:
            name = f"{b['about']}" if side == "stock" else f"{kind}: ours / {side}"
            cells = " | ".join(f"{ratio[key]:.2f}" for key in ("tokens_per_s", "cpu_s", "peak_memory"))
            lines.append(f"| {name} | {cells} | {_sameness(b, side)} |")
    peak = benches["sft"]
    m = peak["machine"]
    return {
        "bench": "\n".join(lines),
        "machine": f"Measured on {m['cores']} cores of {m['processor']} with {m['memory_gb']:.0f} GB, torch {m['torch']}. The matmul peak "
        f"there is {m['matmul_gflops']:.0f} GFLOP/s by the library we choose and {m['matmul_gflops_stock']:.0f} by torch's default; "
        f"training reaches {100 * peak['share_of_matmul_peak']:.0f} % of the former in products that cannot be left out.",
        "growth": _growth(growth) if growth else UNMEASURED,
        "cost": _costs(costs) if costs else UNMEASURED,
        "layers": _layers(layers) if layers else UNMEASURED,
        "lines": f"The decoder and its greedy decoding, `ftlab/llama.py` and `ftlab/decode.py`, are {sum(map(_code_lines, FAST_PATH))} "
        "lines of code; docstrings, comments and blank lines are not counted.",
    }


def _growth(growth: dict) -> str:
    from ftlab.plots import growth_curves

    lines = [f"![{growth_curves(growth).get_label()}](../results/figures/{GROWTH_FIGURE})", ""]
    lines += ["| size | value | a second | peak memory, MB |", "|---|---|---|---|"]
    for size in ("rows", "row_tokens", "rank", "micro_tokens"):
        unit = "rows" if size == "rows" else "tokens"
        lines += [f"| {size} | {p['value']:,} | {p['per_second']:,.0f} {unit} | {p['peak_memory_mb']:,.0f} |" for p in growth[size]]
    return "\n".join(lines)


def _costs(costs: list[dict]) -> str:
    lines = ["| run | predicted, s | measured, s | off by | predicted peak, MB | measured, MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {c['run']} | {c['predicted_s']:.0f} | {c['measured_s']:.0f} | {100 * (c['predicted_s'] / c['measured_s'] - 1):+.0f} % | "
        f"{c['predicted_mb']:.0f} | {c['measured_mb']:.0f} |"
        for c in costs
    ]
    return "\n".join(lines)


def _code_lines(path: Path) -> int:
    """Lines of a Python file that hold code: no blank line, comment or docstring."""
    text = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and number not in told for number, line in lines)


def speed_block(benches: dict) -> dict[str, str]:
    """README's sentence about speed."""
    sft, dpo, generate = (benches[kind]["ratio"] for kind in ("sft", "preference", "generate"))
    single = benches["generate"]["against"]["stock_single"]["tokens_per_s"]
    m = benches["sft"]["machine"]
    return {
        "speed": f"On {m['cores']} cores of {m['processor']}: SFT at {sft['tokens_per_s']:.1f} × the tokens/s of trl's `SFTTrainer` and "
        f"{sft['peak_memory']:.2f} × its peak memory, DPO at {dpo['tokens_per_s']:.1f} × trl's `DPOTrainer` and "
        f"{dpo['peak_memory']:.2f} ×, generation at {generate['tokens_per_s']:.1f} × transformers' batched `generate` and "
        f"{single:.1f} × row by row; the same gradients and the same tokens."
    }


def _layers(study: dict) -> str:
    (whole, part), d = study["arms"], study["difference"]
    lines = [
        f"| {study['rows']} rows, {study['epochs']} passes, by seed | tokens/s | schema-valid | intent right | all checks passed |"
    ]
    lines.append("|---|---|---|---|---|")
    for name, runs in study["arms"].items():
        speeds = ", ".join(f"{run['tokens'] / run['seconds']:.0f}" for run in runs)
        cells = (", ".join(f"{100 * run['scores'][key]:.0f}" for run in runs) for key in ("schema_valid", "class_right", "strict"))
        lines.append(f"| {name} | {speeds} | " + " | ".join(cells) + " |")
    said = "; ".join(f"{label} {d[key]['mean']:+.1f} [{d[key]['low']:+.1f}, {d[key]['high']:+.1f}]" for key, label in _LAYER_SCORES)
    lines += [
        "",
        f"{part.capitalize()} against {whole}: {study['speed_ratio']:.1f} × the speed, {study['speed_ratio_to_stock']:.1f} × that of "
        "trl's `SFTTrainer` on the same rows with LoRA on all layers; filling the cache and validation loss are in our times, not in "
        f"trl's. Differences in points on {study['validation_rows']} validation rows, seeds averaged: {said}.",
    ]
    return "\n".join(lines)


def _sameness(bench: dict, side: str) -> str:
    if "max_relative_gradient_difference" in bench:
        return f"gradients within {bench['max_relative_gradient_difference']:.0e}"
    return f"{100 * bench['identical_rows_by_side'][side]:.0f} % of rows identical"


def fill(text: str, parts: dict[str, str]) -> str:
    """`text` with each marked block replaced by its part.

    Raises:
        KeyError: a block is named that nothing fills.
    """
    return _BLOCK.sub(lambda m: f"{m[1]}{parts[m[2]]}\n{m[3]}", text)


def documents() -> dict[Path, dict[str, str]]:
    """Each document with computed blocks, and what they are to hold now."""

    def result(name: str) -> Any:
        path = ROOT / "results" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    cards = {task.folder / "DATA_CARD.md": data_blocks(task) for task in map(load_task, builtin_tasks())}
    return {
        ROOT / "README.md": blocks(result("support_plan"))
        | fresh_block(result("fresh"))
        | reply_blocks(result("support_reply"))
        | speed_block(result("bench")),
        ROOT / "docs" / "experiments.md": study_blocks(*map(result, ("noise", "curve", "diversity")))
        | pretraining_and_methods(result)
        | inside_block(result("inside")),
        ROOT / "docs" / "performance.md": performance_blocks(*map(result, ("bench", "growth", "cost", "layers"))),
        **cards,
    }


def main(argv: Sequence[str] = ()) -> int:
    from ftlab.plots import growth_curves

    measured = ROOT / "results" / "growth.json"
    if measured.exists():
        growth = json.loads(measured.read_text(encoding="utf-8"))
        growth_curves(growth).savefig(ROOT / "results" / "figures" / GROWTH_FIGURE, format="png", dpi=150)
    for path, parts in documents().items():
        path.write_text(fill(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Scores of raw outputs on labelled rows, with intervals; two models compared on the same rows; what the failures call for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ftlab.checks import CAUSE_ORDER, LABELS, RUNGS, Check, compare, values_at
from ftlab.constrain import CopyRules
from ftlab.errors import DataError
from ftlab.generate import generate
from ftlab.models import LoadedModel
from ftlab.outputs import cached_generate
from ftlab.rows import Row
from ftlab.stats import calibration, mcnemar_exact, paired_bootstrap, share
from ftlab.task import Task
from ftlab.train.settings import SftConfig

# name → what a row must show to count; the first five are the ladder and fall from left to right
SCORES = {
    "parses": "exactly one JSON object",
    "schema_valid": "… and valid by the schema",
    "rules_kept": "… and no declared rule broken",
    "fields_right": "… and every compared field as labelled",
    "strict": "… and no policy broken: nothing wrong at all",
    "class_right": "the class field (for support_plan: intent) as labelled",
    "values_right": "all other compared fields (for support_plan: every entity) as labelled",
    "fabricated": "holds a value that the message does not (lower is better)",
    "unsafe": "breaks a policy (lower is better)",
}
LOWER_IS_BETTER = ("fabricated", "unsafe")
OVER_REFUSAL = "over_refusal"  # the code of a rule that says where a refusal is one too many; counted apart from "unsafe"
CURVE_SCORES = ("strict", "schema_valid", "class_right", "values_right", "fabricated", "unsafe")


def evaluate_outputs(task: Task, rows: Sequence[Row], outputs: Sequence[str]) -> dict:
    """Check each raw output against its row and count.

    Args:
        rows: labelled rows.
        outputs: generated texts, one per row, in the same order.

    Returns:
        {"n", "scores": {name: {k, n, share, low, high}}, "entity_f1"?, "first_causes": {label: {…}}, "labels": {label: {…}},
        "over_refusal"? (of the rows that policy does not forbid), "calibration"? (of the stated confidence, `stats.calibration`),
        "codes": {code: rows}, "by_class": [...], "by_tag": [...], "rows": [{"id", "output", "labels", "first_cause", "errors",
        "passes": {score: bool}}]}.

    Raises:
        DataError: rows and outputs differ in number, or a row has no label.
    """
    if isinstance(outputs, str) or len(rows) != len(outputs) or not rows:
        raise DataError(f"evaluate_outputs: expected one output per row, found {len(rows)} rows and {len(outputs)} outputs.")
    if unlabelled := [row.where or row.id for row in rows if row.output is None]:
        raise DataError(f"{len(unlabelled)} row(s) have no output to compare with; label them first:", unlabelled)
    checks = [
        task.checker.check(output, row.text, lang=row.lang, expected=row.output) for row, output in zip(rows, outputs, strict=True)
    ]
    records = [_record(task, row, output, check) for row, output, check in zip(rows, outputs, checks, strict=True)]
    return {
        "n": len(rows),
        "scores": {name: share([r["passes"][name] for r in records]).as_dict() for name in SCORES},
        "value_f1": _value_f1(task, rows, checks),
        "first_causes": {cause: share([r["first_cause"] == cause for r in records]).as_dict() for cause in CAUSE_ORDER},
        "labels": {label: share([label in r["labels"] for r in records]).as_dict() for label in LABELS},
        "over_refusal": _over_refusal(task, rows, checks),
        "calibration": _calibration(task, checks, records),
        "codes": dict(Counter(code for r in records for code in {e["code"] for e in r["errors"]}).most_common()),
        "by_class": _groups(records, [str(row.output.get(task.class_field)) if task.class_field else "all" for row in rows]),
        "by_tag": _groups(records, [row.tags[0] if row.tags else "untagged" for row in rows]),
        "by_lang": _groups(records, [row.lang or "unknown" for row in rows]),
        "rows": records,
    }


def evaluate_tuned(
    task: Task,
    loaded: LoadedModel,
    rows: Sequence[Row],
    *,
    max_new_tokens: int = 160,
    batch_size: int | None = None,
    constrain: bool = True,
    cache: bool = True,
) -> dict:
    """Answer `rows` as `ftlab predict` does with an adapter (short prompt, copied values held to the message), and check the answers.

    Args:
        constrain: hold copied values to the message; without, damage to copying shows.

    Returns:
        see `evaluate_outputs`.
    """
    chats = [task.conversation(row) for row in rows]
    copies = CopyRules.of(task.rules) if constrain else None
    limits = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "cache": cache}
    answers, _ = cached_generate(loaded, chats, copies=copies or None, **limits)
    return evaluate_outputs(task, rows, [answer.text for answer in answers])


def curve_scores(task: Task, loaded: LoadedModel, rows: Sequence[Row], config: SftConfig) -> dict[str, float]:
    """What a point of the learning curve holds: shares over the generated answers to `rows`, as fractions of 1."""
    conversations = [task.conversation(row) for row in rows]
    answers = generate(loaded, conversations, max_new_tokens=config.max_new_tokens, batch_size=config.eval_batch_size)
    scores = evaluate_outputs(task, rows, [a.text for a in answers])["scores"]
    return {name: scores[name]["share"] for name in CURVE_SCORES}


def check_record(identity: str, check: Check) -> dict:
    """What `ftlab check` says of one output."""
    errors = [{"rung": p.rung, "code": p.code, "path": p.path, "message": p.message} for p in check.problems]
    return {"id": identity, "labels": check.labels, "first_cause": check.first_cause, "errors": errors}


def _record(task: Task, row: Row, output: str, check: Check) -> dict:
    class_path = [path for path in task.fields if path == task.class_field]
    others = [path for path in task.fields if path != task.class_field]
    valid = check.passes("schema")
    passes = dict(zip(SCORES, (check.passes(rung) for rung in RUNGS), strict=False))
    passes["class_right"] = valid and not compare(check.value, row.output, class_path)
    passes["values_right"] = valid and not compare(check.value, row.output, others)
    passes["fabricated"] = check.has("fabricated_entity") or check.has("fabricated_fact")
    passes["unsafe"] = any(problem.label == "safety" and problem.code != OVER_REFUSAL for problem in check.problems)
    return check_record(row.id, check) | {"output": output, "passes": passes}


def _value_f1(task: Task, rows: Sequence[Row], checks: Sequence[Check]) -> float | None:
    """Micro-averaged F1 over the labelled values outside the class field; None where there are none. Source: van Rijsbergen (1979)."""
    others = [path for path in task.fields if path != task.class_field]
    right = found = wanted = 0
    for row, check in zip(rows, checks, strict=True):
        value = check.value if check.passes("schema") else {}
        expected = {at for path in others for at, _ in values_at(row.output, path)}
        got = {at for path in others for at, _ in values_at(value, path)}
        wrong = {problem.path for problem in compare(value, row.output, others)}
        right, found, wanted = right + len(got & expected - wrong), found + len(got), wanted + len(expected)
    return round(2 * right / (found + wanted), 4) if found + wanted else None


def _over_refusal(task: Task, rows: Sequence[Row], checks: Sequence[Check]) -> dict | None:
    """Refusals of what policy allows, as a share of the rows that it allows; None where no rule of the task says which those are."""
    spec = next((rule for rule in task.rules if rule.get("code") == OVER_REFUSAL), None)
    allowed = [
        c.has(OVER_REFUSAL) for r, c in zip(rows, checks, strict=True) if spec and r.output.get(spec["path"]) in spec["labels"]
    ]
    return share(allowed).as_dict() if allowed else None


def _calibration(task: Task, checks: Sequence[Check], records: Sequence[dict]) -> dict | None:
    """Of the stated confidence, against having the class right and against passing every check; rows that state none are not in it."""
    stated = [
        (c.value[task.confidence_field], r["passes"])
        for c, r in zip(checks, records, strict=True)
        if task.confidence_field and c.passes("schema") and task.confidence_field in c.value
    ]
    if not stated:
        return None
    return {event: calibration([s for s, _ in stated], [p[event] for _, p in stated]) for event in ("class_right", "strict")}


def _groups(records: Sequence[dict], names: Sequence[str]) -> list[dict]:
    groups: dict[str, list[dict]] = {}
    for name, record in zip(names, records, strict=True):
        groups.setdefault(name, []).append(record)
    return [
        {"name": name, "n": len(group)}
        | {score: share([r["passes"][score] for r in group]).as_dict() for score in ("strict", "class_right", "values_right")}
        for name, group in sorted(groups.items())
    ]


def compare_runs(before: dict, after: dict) -> dict:
    """Exact McNemar test per score on the rows that both evaluations hold.

    Raises:
        DataError: they are not about the same rows.
    """
    if [r["id"] for r in before["rows"]] != [r["id"] for r in after["rows"]]:
        raise DataError("compare_runs: expected two evaluations of the same rows in the same order; evaluate both on one file.")
    pairs = {name: [[r["passes"][name] for r in run["rows"]] for run in (before, after)] for name in SCORES}
    return {name: mcnemar_exact(*pair) for name, pair in pairs.items()}


def paired_intervals(before: dict, after: dict, scores: Sequence[str] = tuple(SCORES)) -> dict:
    """`compare_runs` for some scores, each with the 95 % bootstrap interval of its difference as "low" and "high".

    Raises:
        DataError: see `compare_runs`.
    """
    tests = compare_runs(before, after)
    found = {}
    for name in scores:
        low, high = paired_bootstrap(*([r["passes"][name] for r in run["rows"]] for run in (before, after)))
        found[name] = tests[name] | {"low": low, "high": high}
    return found


def error_flow(before: dict, after: dict) -> list[dict]:
    """How many rows went from each first cause (or "pass") to each other: [{"before", "after", "rows"}]."""
    flow = Counter(
        (a["first_cause"] or "pass", b["first_cause"] or "pass") for a, b in zip(before["rows"], after["rows"], strict=True)
    )
    return [{"before": a, "after": b, "rows": n} for (a, b), n in sorted(flow.items())]


def telling_failures(evaluation: dict, rows: Sequence[Row], n: int = 10) -> list[dict]:
    """The n most telling failing rows: one of each kind of error before a second of any, and among those the gravest cause first."""
    by_id = {row.id: row for row in rows}
    failing = [r for r in evaluation["rows"] if r["first_cause"]]
    seen: Counter = Counter()
    ranked = []
    for record in failing:
        kind = (record["first_cause"], record["errors"][0]["code"], record["errors"][0]["path"])
        ranked.append(((seen[kind], CAUSE_ORDER.index(record["first_cause"])), record))
        seen[kind] += 1
    ranked.sort(key=lambda item: item[0])
    return [record | {"input": by_id[record["id"]].text, "expected": by_id[record["id"]].output} for _, record in ranked[:n]]


def verdict(best_prompt: dict, classifier: dict | None, good_enough: float = 0.95) -> dict:
    """Is fine-tuning the right lever? Computed from the error analysis of the untuned model with its best prompt.

    Format and instruction failures are about behaviour, which examples teach. Knowledge failures count as teachable only if a plain
    classifier trained on the same rows beats the prompted model at the class field, and the commonest class too (which beats a prompted
    model that is bad enough): then the rows hold what the model lacks.
    Safety failures are taught too, but stay behind a check in code whatever the score.

    Args:
        best_prompt: evaluation of the better untuned prompt.
        classifier: evaluation of the classifier on the same rows, if there is one.
        good_enough: strict score above which training is not worth it.

    Returns:
        {"train": bool, "teachable": share of the failing rows, "by_cause": {cause: {"rows", "lever"}}, "why": [sentences]}.
    """
    failing = [r for r in best_prompt["rows"] if r["first_cause"]]
    strict = best_prompt["scores"]["strict"]
    if not failing or strict["low"] >= good_enough:
        why = [f"The untuned model passes {strict['k']} of {strict['n']} rows: keep the prompt, do not train."]
        return {"train": False, "teachable": None, "by_cause": {}, "why": why}
    rows_hold_it = classifier is not None and _rows_hold_it(best_prompt, classifier)
    lever = {
        "format": "fine-tune (or constrain decoding)",
        "instruction": "fine-tune",
        "knowledge": "fine-tune" if rows_hold_it else "more or better rows, or retrieval: nothing shows that these rows teach it",
        "safety": "fine-tune, and keep the check in code",
    }
    counts = Counter(r["first_cause"] for r in failing)
    teachable = share([r["first_cause"] != "knowledge" or rows_hold_it for r in failing]).as_dict()
    train = teachable["low"] > 0.5
    why = [
        f"{len(failing)} of {best_prompt['n']} rows fail with the best prompt; first cause: "
        + ", ".join(f"{cause} {counts[cause]}" for cause in CAUSE_ORDER if counts[cause])
        + ".",
        f"{teachable['k']} of these failures are of a kind that labelled examples teach.",
        "Fine-tuning is the right lever."
        if train
        else "Fine-tuning is not shown to be the right lever; mend the data or the prompt first.",
    ]
    by_cause = {cause: {"rows": counts[cause], "lever": lever[cause]} for cause in CAUSE_ORDER if counts[cause]}
    return {"train": train, "teachable": teachable, "by_cause": by_cause, "why": why}


def _rows_hold_it(prompted: dict, classifier: dict) -> bool:
    """Whether a classifier is significantly above the prompted model, and above always naming the commonest class, at the class field."""
    found, right = compare_runs(prompted, classifier)["class_right"], classifier["scores"]["class_right"]
    commonest = max(group["n"] for group in classifier["by_class"]) / classifier["n"]
    return found["difference"] > 0 and found["p"] < 0.05 and right["low"] > commonest


def without_rows(evaluation: dict) -> dict[str, Any]:
    """The evaluation less its per-row records: what a summary file keeps."""
    return {key: value for key, value in evaluation.items() if key != "rows"}

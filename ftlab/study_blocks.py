"""What the documents show of the studies of pretraining and of tuning's ways: Markdown from their results files, for `ftlab.readme`."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from ftlab.stats import percent

UNSTUDIED = "Not measured yet; `make studies` does."
_SCORES = (("schema_valid", "schema-valid"), ("class_right", "class right"), ("strict", "all checks passed"))
_POWERS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def blocks(result: Callable[[str], Any]) -> dict[str, str]:
    """Name → Markdown of each study.

    Args:
        result: reads a results file by its name; None if it is not there.
    """
    pretrain = result("pretrain") or {}
    parts = {
        "pretrain": pretrain_effects({kind: found for kind, found in pretrain.items() if "effects" in found}),
        "scaling": scaling(pretrain["scaling"]) if "scaling" in pretrain else UNSTUDIED,
    }
    for name, block in (("head_start", head_start), ("continued", continued), ("methods", methods)):
        found = result(name)
        parts[name] = block(found) if found else UNSTUDIED
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _figure(drawn: Any, name: str) -> str:
    """The figure of that name in results/figures, which the study's command draws, with what it says."""
    return f"![{drawn.get_label()}](../results/figures/{name}.png)"


def _effect(e: dict) -> list[str]:
    return [f"{e['difference']:+.3f} [{e['low']:+.3f}, {e['high']:+.3f}]", e["verdict"]]


def pretrain_effects(studies: dict[str, dict]) -> str:
    """Each comparison at equal compute, with its interval and verdict."""
    from ftlab.plots.pretraining import effects

    if not studies:
        return UNSTUDIED
    rows = [
        [kind, f"{found['compared'].removesuffix(', in nats per token')}; {name}", *_effect(e)]
        for kind, found in studies.items()
        for name, e in found["effects"].items()
    ]
    one = next(iter(studies.values()))
    about = (
        f"Models of {one['config']['size']} parameters, {one['config']['tokens']:,} tokens each, {one['seeds']} seeds an arm, "
        f"{one['held_out_blocks']} held-out blocks; differences in nats per token, at least {one['worth_nats']:g} to be worth having."
    )
    passed = "passed" if all(found["control_passed"] for found in studies.values()) else "NOT passed in each"
    table = _table(["study", "compared", "difference [95 %]", "verdict"], rows)
    return f"{about}\n\n{_figure(effects(studies), 'effects')}\n\n{table}\n\nThe positive control was {passed}."


def scaling(found: dict) -> str:
    """The fitted law and the bill of larger models."""
    from ftlab.plots.pretraining import scaling as curves

    law = found["law"]
    told = ", ".join(f"{name} {law[name]['value']:.2f} [{law[name]['low']:.2f}, {law[name]['high']:.2f}]" for name in ("a", "b"))
    machines = list(found["bill"][0]["hours"])
    rows = [
        [row["model"], _short(row["tokens"]), row["why"], *(_time(row["hours"][machine]) for machine in machines)]
        for row in found["bill"]
    ]
    sizes = sorted({p["parameters"] for p in found["points"]})
    return (
        f"{_figure(curves(found), 'scaling')}\n\n{law['points']} trainings of {_short(sizes[0])} to {_short(sizes[-1])} parameters; the "
        f"exponents of loss over parameters and over tokens are {told}; error of log(loss) {law['error']:.3f}. "
        "The bill by 6 × parameters × tokens, at the speed measured here:\n\n"
        + _table(["model", "tokens", "why so many", *machines], rows)
    )


def _short(n: float) -> str:
    return next((f"{n / size:.3g} {sign}" for size, sign in _POWERS if n >= size), f"{n:,.0f}")


def _time(hours: float) -> str:
    return f"{hours / 8766:,.0f} years" if hours > 8766 else f"{hours / 24:,.0f} days" if hours > 48 else f"{hours:,.1f} h"


def head_start(found: dict) -> str:
    """What a pretrained start is worth against a random one, by training rows."""
    rows = []
    for point in found["points"]:
        scores = [
            f"{100 * d['difference']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
            for d in (point["scores"][key] for key in ("schema_valid", "class_right"))
        ]
        rows.append([str(point["rows"]), *_effect(point["loss"]), *scores])
    head = ["rows", "loss, random minus pretrained [95 %]", "verdict", "schema-valid, points", "class right, points"]
    return (
        f"{found['parameters']:,} parameters, all of them tuned, {found['seeds']} seeds, {found['held_out']} held-out rows.\n\n"
        + _table(head, rows)
    )


def continued(found: dict) -> str:
    """Losses before and after, scores of the arms, and the effects."""
    from ftlab.plots.continued import continued_effects

    lines = [
        [arm, text, f"{loss['before']:.3f}", f"{loss['after']:.3f}"]
        for arm, losses in found["losses"].items()
        for text, loss in losses.items()
    ]
    arms = [
        [
            rows,
            arm,
            *(f"{100 * told[s]['mean']:.1f} [{100 * told[s]['low']:.1f}, {100 * told[s]['high']:.1f}]" for s in found["scores"]),
        ]
        for rows, by_arm in found["arms"].items()
        for arm, told in by_arm.items()
    ]
    effects = [[name, *_effect(e)] for name, e in found["effects"].items()]
    return "\n\n".join(
        [
            _figure(continued_effects(found), "continued"),
            f"{found['model'].capitalize()}, task `{found['task']}`, {found['seeds']} seeds, {found['test_rows']} test rows.",
            _table(["arm", "text", "loss before, nats", "after"], lines),
            _table(["SFT rows", "arm", *(f"{name}, %" for name in found["scores"])], arms),
            _table(["compared", "difference [95 %]", "verdict"], effects),
        ]
    )


def methods(found: dict) -> str:
    """A line for each way of supervised tuning, one number a seed."""
    rows = []
    for method, about in found["methods"].items():
        runs = [row for row in found["rows"] if row["method"] == method]
        if not runs:
            continue
        scores = [", ".join(f"{100 * run['scores'][key]['share']:.1f}" for run in runs) for key, _ in _SCORES]
        general = ", ".join(f"{100 * run['scores']['general']['share']:.1f}" for run in runs)
        took = [f"{median(run[name] for run in runs):,.0f}" for name in ("peak_memory_mb", "seconds")]
        rows.append(
            [method, f"{about['rate']['learning_rate']:g}", f"{runs[0]['trainable_parameters']:,}", *scores, general, *took]
        )
    head = ["method", "rate", "trained", *(f"{label}, %" for _, label in _SCORES), "general, %", "peak MB", "seconds"]
    base = (
        f"\n\nUntuned, the model passes {percent(found['base']['scores']['general'])} of the general suite."
        if found["base"]
        else ""
    )
    left = f" Not done yet: {', '.join(found['unfinished'])}." if found["unfinished"] else ""
    return _table(head, rows) + base + left

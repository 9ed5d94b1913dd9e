"""Figures of a run of the main job, of adapters side by side, of methods of tuning, of how cost grows."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from ftlab.checks import CAUSE_ORDER
from ftlab.plots.frame import (
    CURVE_LINES,
    FLOW_STYLES,
    HIGHER,
    LOWER,
    STYLES,
    Style,
    described,
    errors,
    interval_line,
    known_scores,
    new_figure,
    spoken_scores,
    system_bars,
    systems_of,
)
from ftlab.stats import wilson_interval

LADDER = ("parses", "schema_valid", "rules_kept", "fields_right", "strict")


FLOW_ORDER = ("pass", *reversed(CAUSE_ORDER))  # top to bottom: the graver the cause, the lower


GAP = 0.07  # between two causes of the flow, as a share of the rows


def score_bars(results: dict) -> Figure:
    """Shares of rows with 95 % intervals, a bar per system: above what should be high, below what should be low."""
    systems, n = systems_of(results), results["about"]["test_rows_scored"]
    figure, (upper, lower) = new_figure(6.6, rows=2)
    figure.suptitle(f"Before and after on the same n = {n} test rows (bars: share, lines: 95 % interval)")
    for axes, scores, way in ((upper, known_scores(results, HIGHER), "higher"), (lower, LOWER, "lower")):
        for i, name in enumerate(systems):
            system_bars(axes, i, len(systems), STYLES[name], [results["systems"][name]["scores"][score] for score in scores])
        axes.set_xticks(range(len(scores)), labels=scores)
        axes.set(xlim=(-0.5, 3.5), ylim=(0, 113), yticks=range(0, 101, 25), ylabel=f"{way} is better\nshare of rows, %")
    lower.legend(loc="center right", fontsize=11)
    return described(
        figure, f"Bar chart of scores on {n} test rows. " + spoken_scores(results, (*known_scores(results, HIGHER), *LOWER))
    )


def compared_bars(comparison: dict) -> Figure:
    """Shares with 95 % intervals of the systems that `ftlab compare` put side by side; without labels, of answers that pass all checks."""
    systems, n = comparison["systems"], len(comparison["rows"])
    styles = dict(zip(systems, _compared_styles(systems), strict=True))
    if comparison["labelled"]:
        shares = {name: system["evaluation"]["scores"] for name, system in systems.items()}
        figure, panels = new_figure(6.6, rows=2)
        parts = [(panels[0], HIGHER, "higher"), (panels[1], LOWER, "lower")]
    else:
        shares = {name: {"passes all checks": system["clean"]} for name, system in systems.items()}
        figure, panels = new_figure(3.6)
        parts = [(panels[0], ("passes all checks",), "higher")]
    figure.suptitle(f"{comparison['task']}: side by side on the same n = {n} messages (lines: 95 % interval)", parse_math=False)
    for axes, scores, way in parts:
        for i, name in enumerate(systems):
            system_bars(axes, i, len(systems), styles[name], [shares[name][score] for score in scores])
        axes.set_xticks(range(len(scores)), labels=scores)
        axes.set(
            xlim=(-0.5, max(len(scores), 2) - 0.5), ylim=(0, 113), yticks=range(0, 101, 25), ylabel=f"{way} is better\nshare, %"
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{score}: " + ", ".join(f"{name} {100 * shares[name][score]['share']:.1f} %" for name in systems)
        for _, scores, _ in parts
        for score in scores
    )
    return described(figure, f"Bar chart of {len(systems)} systems on {n} messages. {told}.")


def _compared_styles(names: Iterable[str]) -> list[Style]:
    """The untuned model in the prompt's colour, adapters in the others, which begin anew after the last."""
    rest = cycle([STYLES[name] for name in ("tuned", "few_shot", "constrained", "tfidf")])
    return [replace(STYLES["prompt"] if name == "untuned" else next(rest), label=name) for name in names]


def score_ladder(results: dict) -> Figure:
    """The share of rows still standing on each rung of the ladder, a line per system."""
    systems, n = systems_of(results), results["about"]["test_rows_scored"]
    figure, (axes,) = new_figure(4.2)
    for i, name in enumerate(systems):
        shares, style = [results["systems"][name]["scores"][rung] for rung in LADDER], STYLES[name]
        interval_line(
            axes, [x + 0.07 * (i - 1.5) for x in range(len(LADDER))], shares, style.colour, style.marker, "-", style.label
        )
    axes.set_xticks(range(len(LADDER)), labels=LADDER)
    axes.set(ylim=(-4, 104), xlabel="rung (each asks for all to its left too)", ylabel="share of rows, %")
    axes.set_title(f"The score ladder, same n = {n} test rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=4)
    return described(figure, f"Line chart of the score ladder on {n} test rows. " + spoken_scores(results, LADDER))


def failure_flow(results: dict) -> Figure:
    """Rows moving from their first cause of failure before to that after tuning, as bands as thick as their number of rows."""
    flow = {(step["before"], step["after"]): step["rows"] for step in results["flow"]}
    n, best = sum(flow.values()), results["about"]["best_prompt"]
    end = n * (1 + GAP * max(len({pair[side] for pair in flow}) - 1 for side in (0, 1)))
    figure, (axes,) = new_figure(5.4)
    axes.set_axis_off()
    axes.set(xlim=(-0.24, 1.24), ylim=(1.02 * end, -0.07 * end), title=f"First cause of failure, row by row, n = {n} test rows")
    leaving, arriving = (_nodes(axes, flow, side, n, end) for side in (0, 1))
    axes.text(0, -0.03 * end, f"before: {best}", ha="center", weight="bold")
    axes.text(1, -0.03 * end, "after: tuned", ha="center", weight="bold")
    middles, texts = [], []
    for before, after in sorted(flow, key=lambda pair: [FLOW_ORDER.index(name) for name in pair]):
        rows = flow[before, after]
        _band(axes, leaving[before], arriving[after], rows, *FLOW_STYLES[before])
        middles.append(leaving[before] + rows / 2)
        texts.append(f"{rows} → {after}")
        leaving[before] += rows
        arriving[after] += rows
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
    for y, text in zip(_spread(middles, 0.04 * end, end), texts, strict=True):
        axes.text(0.045, y, text, va="center", bbox=box)
    told = "; ".join(f"{rows} from {before} to {after}" for (before, after), rows in flow.items())
    return described(figure, f"Flow of {n} test rows between first causes of failure, before ({best}) to after (tuned): {told}.")


def _nodes(axes: Axes, flow: dict[tuple[str, str], int], side: int, n: int, end: float) -> dict[str, float]:
    """Draw one side's causes as labelled bars; returns where each bar begins."""
    totals = {name: sum(rows for pair, rows in flow.items() if pair[side] == name) for name in FLOW_ORDER}
    tops, y = {}, 0.0
    for name, rows in totals.items():
        if rows:
            colour, hatch = FLOW_STYLES[name]
            axes.add_patch(Rectangle((side - 0.015, y), 0.03, rows, facecolor=colour, hatch=hatch, edgecolor="#222222", zorder=3))
            tops[name], y = y, y + rows + GAP * n
    middles = [top + totals[name] / 2 for name, top in tops.items()]
    for name, at in zip(tops, _spread(middles, 0.045 * end, end), strict=True):
        x, align = ((-0.03, "right"), (1.03, "left"))[side]
        axes.text(x, at, f"{name}: {totals[name]}", ha=align, va="center", fontsize=11)
    return tops


def _band(axes: Axes, left: float, right: float, rows: int, colour: str, hatch: str) -> None:
    """A band of constant height from y = left at x = 0 to y = right at x = 1: two Bézier curves and the ends between them."""
    above = [(0.015, left), (0.5, left), (0.5, right), (0.985, right)]
    below = [(x, y + rows) for x, y in ((0.985, right), (0.5, right), (0.5, left), (0.015, left))]
    path = Path([*above, *below, above[0]], [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY])
    axes.add_patch(PathPatch(path, facecolor=colour, hatch=hatch, edgecolor="#444444", linewidth=0.6, alpha=0.5))


def _spread(wanted: Sequence[float], gap: float, end: float) -> list[float]:
    """The ascending positions moved apart until neighbours are `gap` apart and none lies beyond `end`."""
    placed = list(wanted)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], end - gap * (len(placed) - 1 - i))
    return placed


def learning_curves(results: dict) -> Figure:
    """Loss per pass on the left, scores of generated validation answers per pass on the right; says so if nothing was trained."""
    training = results["training"]
    curve = training.get("curve", [])
    if not curve:
        figure, (axes,) = new_figure(1.2)
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No learning curve: the adapter came without one.", ha="center", va="center", fontsize=12)
        return described(figure, "No learning curve: the adapter came without one.")
    figure, (left, right) = new_figure(4.2, columns=2)
    passes = [point["epoch"] for point in curve]
    for name, colour, marker, line in (("train_loss", "#444444", "s", "--"), ("validation_loss", STYLES["tuned"].colour, "o", "-")):
        left.plot(passes, [point[name] for point in curve], line, marker=marker, color=colour, label=name)
    held_out = results["about"]["rows"]["validation"]
    left.set(ylabel="loss, nats per answer token", title=f"Loss, n = {training['rows']} training, {held_out} validation rows")
    left.set_ylim(0, 1.1 * max(point[name] for point in curve for name in ("train_loss", "validation_loss")))
    _score_lines(right, known_scores(results, CURVE_LINES), curve, training["validation_rows"])
    for axes in (left, right):
        axes.axvline(training["best_epoch"], color="#222222", linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set(xlabel="pass over the training rows (dotted line: the one kept)", xlim=(min(passes) - 0.4, max(passes) + 0.4))
        axes.set_xticks(passes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    told = "; ".join(", ".join(f"{key} {value:.3f}" for key, value in point.items() if key != "epoch") for point in curve)
    return described(figure, f"Learning curves by pass, pass {training['best_epoch']} kept: {told}.")


def _score_lines(axes: Axes, scores: Sequence[str], curve: Sequence[dict], rows: int) -> None:
    for i, score in enumerate(scores):
        shares = []
        for point in curve:
            low, high = wilson_interval(round(point[score] * rows), rows)
            shares.append({"share": point[score], "low": low, "high": high})
        interval_line(axes, [point["epoch"] + 0.05 * (i - 1.5) for point in curve], shares, *CURVE_LINES[score], label=score)
    axes.set(ylim=(-4, 104), ylabel="share of rows, % (lines: 95 % interval)", title=f"Scores, n = {rows} validation rows")


def class_intervals(results: dict) -> Figure:
    """The tuned model's strict and class_right shares by class with intervals, best class on top."""
    groups = sorted(results["systems"]["tuned"]["by_class"], key=lambda group: (group["strict"]["share"], group["name"]))
    field, n, style = results["about"]["class_field"], results["about"]["test_rows_scored"], STYLES["tuned"]
    figure, (axes,) = new_figure(1.6 + 0.42 * len(groups))
    looks = {"class_right": (0.14, "white"), "strict": (-0.14, style.colour)}
    for score, (shift, face) in ((score, looks[score]) for score in known_scores(results, looks)):
        shares = [group[score] for group in groups]
        axes.errorbar(
            [100 * s["share"] for s in shares], [y + shift for y in range(len(groups))], xerr=errors(shares), fmt=style.marker,
            color=style.colour, markerfacecolor=face, markersize=8, capsize=3, label=score, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(groups)), labels=[f"{group['name']} (n = {group['n']})" for group in groups], parse_math=False)
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(0, 100), ylim=(-0.6, len(groups) - 0.4), xlabel="share of rows, % (lines: 95 % interval)")
    axes.set_title(f"Tuned model by {field or 'class'}, n = {n} test rows", parse_math=False)
    figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{g['name']} {100 * g['strict']['share']:.1f} % strict of {g['n']} rows" for g in reversed(groups))
    return described(figure, f"Tuned model by class: {told}.")


FIGURES = {f.__name__: f for f in (score_bars, score_ladder, failure_flow, learning_curves, class_intervals)}


GROWTH_AXES = {
    "rows": "rows in train.jsonl", "row_tokens": "tokens a row", "rank": "LoRA rank", "micro_tokens": "tokens at once",
}  # fmt: skip


def growth_curves(growth: dict) -> Figure:
    """Speed (above) and peak memory (below) as one size grows, from the results of `ftlab.bench.growth`."""
    sizes = [name for name in GROWTH_AXES if name in growth]
    figure, panels = new_figure(5.4, rows=2, columns=len(sizes))
    figure.suptitle("How cost grows: one process a point, the other sizes as they are by default")
    for column, name in enumerate(sizes):
        points, at = growth[name], [p["value"] for p in growth[name]]
        unit = "rows" if name == "rows" else "tokens"
        for axes, key, label in (
            (panels[column], "per_second", f"{unit} a second"),
            (panels[column + len(sizes)], "peak_memory_mb", "peak memory, MB"),
        ):
            axes.plot(at, [p[key] for p in points], color=STYLES["tuned"].colour, marker="o")
            axes.set_xscale("log", base=10 if name == "rows" else 2)
            axes.set(ylim=(0, None), xlabel=GROWTH_AXES[name], ylabel=label if key == "per_second" or column == 0 else "")
    told = "; ".join(
        f"{GROWTH_AXES[name]} {p['value']}: {p['per_second']:.0f} a second, {p['peak_memory_mb']:.0f} MB"
        for name in sizes
        for p in growth[name]
    )
    return described(figure, f"Speed and peak memory as sizes grow. {told}.")


METHOD_MARKERS = {"lora": "o", "lora-last": "s", "rslora": "^", "dora": "D", "full": "P", "qlora": "X"}


def methods_comparison(results: dict) -> Figure:
    """Scores of each method of tuning, a point a seed with its interval, beside what a training took, from `ftlab.methods`."""
    arms = {m: [row for row in results["rows"] if row["method"] == m] for m in METHOD_MARKERS}
    arms = {method: rows for method, rows in arms.items() if rows}
    figure, panels = new_figure(2.4 + 0.55 * len(arms), rows=1, columns=4)
    (split, scored), colour = next(iter(results["sets"].items())), STYLES["tuned"].colour
    figure.suptitle(
        f"Methods of tuning: {results['settings']['train_rows']} rows each; n = {scored['rows']} {split} rows, "
        f"{results['sets']['general']['rows']} general prompts (lines: 95 % interval)"
    )
    for axes, score in ((panels[0], "strict"), (panels[1], "general")):
        for y, (method, rows) in enumerate(arms.items()):
            shares = [row["scores"][score] for row in rows]
            at = [y + 0.5 * (i - (len(rows) - 1) / 2) / len(rows) for i in range(len(rows))]
            axes.errorbar(
                [100 * s["share"] for s in shares], at, xerr=errors(shares), fmt=METHOD_MARKERS[method], color=colour, capsize=3
            )
        axes.set(xlabel=f"{score}, % of rows", xlim=(0, 100))
    if results["base"]:
        panels[1].axvline(100 * results["base"]["scores"]["general"]["share"], color="#222222", linestyle=":", label="untuned")
        panels[1].legend(loc="lower left", fontsize=9)
    for axes, name, unit, part in (
        (panels[2], "peak_memory_mb", "peak memory, GB", 1e3),
        (panels[3], "seconds", "training, minutes", 60),
    ):
        axes.barh(range(len(arms)), [_mean(row[name] for row in rows) / part for rows in arms.values()], color=colour, height=0.6)
        axes.set(xlabel=unit)
    for axes in panels:
        axes.set(ylim=(len(arms) - 0.5, -0.5), yticks=range(len(arms)))
        axes.set_yticklabels(arms if axes is panels[0] else [])
    told = "; ".join(
        f"{method} strict {_percents(rows, 'strict')}, general {_percents(rows, 'general')}, "
        f"{_mean(row['peak_memory_mb'] for row in rows):.0f} MB, {_mean(row['seconds'] for row in rows):.0f} s"
        for method, rows in arms.items()
    )
    return described(figure, f"Methods of tuning, one number a seed: {told}.")


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _percents(rows: Sequence[dict], score: str) -> str:
    return " and ".join(f"{100 * row['scores'][score]['share']:.1f} %" for row in rows)

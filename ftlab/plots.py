"""Figures of a run: each function takes the results of `run_main_job` and returns a matplotlib `Figure`.

Made to be read 900 pixels wide, with and without colour: each system keeps one colour, hatch and marker throughout. The alt text
is the figure's label, computed from the same numbers: `figure.get_label()`. Nothing here touches pyplot or other global state.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import comb
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from ftlab.checks import CAUSE_ORDER
from ftlab.stats import Share, detectable_difference, wilson_interval

WIDTH = 9.0  # inches: with the fonts' 10 points, 900 pixels give letters about 14 pixels high


@dataclass(frozen=True)
class Style:
    """How one system looks in every figure (colours by Okabe & Ito, told apart by most colour-blind readers)."""

    colour: str
    hatch: str
    marker: str
    label: str


STYLES = {
    "tfidf": Style("#8c8c8c", "...", "s", "tfidf (no language model)"),
    "prompt": Style("#E69F00", "//", "^", "prompt (untuned)"),
    "few_shot": Style("#CC79A7", "\\\\", "D", "few_shot (untuned)"),
    "tuned": Style("#0072B2", "", "o", "tuned"),
    "constrained": Style("#56B4E9", "xx", "v", "constrained (tuned)"),
}
HIGHER = ("schema_valid", "class_right", "values_right", "strict")
LOWER = ("fabricated", "unsafe")
LADDER = ("parses", "schema_valid", "rules_kept", "fields_right", "strict")
FLOW_ORDER = ("pass", *reversed(CAUSE_ORDER))  # top to bottom: the graver the cause, the lower
GAP = 0.07  # between two causes of the flow, as a share of the rows
FLOW_STYLES = {
    "pass": ("#009E73", ""), "knowledge": ("#F0E442", "..."), "instruction": ("#D55E00", "//"), "format": ("#777777", "\\\\"),
    "safety": ("#7A3E9D", "xx"),
}  # fmt: skip
CURVE_LINES = {  # shades of the tuned model's colour: all four are about it
    "schema_valid": ("#74B3D8", "v", ":"), "class_right": ("#08306B", "P", "--"), "values_right": ("#3D8B9E", "X", "-."),
    "strict": (STYLES["tuned"].colour, STYLES["tuned"].marker, "-"),
}  # fmt: skip


def score_bars(results: dict) -> Figure:
    """Shares of rows with 95 % intervals, a bar per system: above what should be high, below what should be low."""
    systems, n = _systems(results), results["about"]["test_rows_scored"]
    figure, (upper, lower) = _figure(6.6, rows=2)
    figure.suptitle(f"Before and after on the same n = {n} test rows (bars: share, lines: 95 % interval)")
    for axes, scores, way in ((upper, _known(results, HIGHER), "higher"), (lower, LOWER, "lower")):
        for i, name in enumerate(systems):
            _bars(axes, i, len(systems), STYLES[name], [results["systems"][name]["scores"][score] for score in scores])
        axes.set_xticks(range(len(scores)), labels=scores)
        axes.set(xlim=(-0.5, 3.5), ylim=(0, 113), yticks=range(0, 101, 25), ylabel=f"{way} is better\nshare of rows, %")
    lower.legend(loc="center right", fontsize=11)
    return _described(figure, f"Bar chart of scores on {n} test rows. " + _spoken(results, (*_known(results, HIGHER), *LOWER)))


def _bars(axes: Axes, i: int, of: int, style: Style, shares: Sequence[dict]) -> None:
    width = 0.84 / of
    at = [group + (i - (of - 1) / 2) * width for group in range(len(shares))]
    axes.bar(
        at, [100 * s["share"] for s in shares], 0.94 * width, yerr=_errors(shares), capsize=3, label=style.label,
        color=style.colour, hatch=style.hatch, edgecolor="#222222", linewidth=0.7, error_kw={"ecolor": "#222222"}, zorder=2,
    )  # fmt: skip
    for x, s in zip(at, shares, strict=True):
        axes.text(x, 100 * s["high"] + 1.5, f"{100 * s['share']:.1f}", ha="center", va="bottom", fontsize=9)


def compared_bars(comparison: dict) -> Figure:
    """Shares with 95 % intervals of the systems that `ftlab compare` put side by side; without labels, of answers that pass all checks."""
    systems, n = comparison["systems"], len(comparison["rows"])
    styles = dict(zip(systems, _compared_styles(systems), strict=True))
    if comparison["labelled"]:
        shares = {name: system["evaluation"]["scores"] for name, system in systems.items()}
        figure, panels = _figure(6.6, rows=2)
        parts = [(panels[0], HIGHER, "higher"), (panels[1], LOWER, "lower")]
    else:
        shares = {name: {"passes all checks": system["clean"]} for name, system in systems.items()}
        figure, panels = _figure(3.6)
        parts = [(panels[0], ("passes all checks",), "higher")]
    figure.suptitle(f"{comparison['task']}: side by side on the same n = {n} messages (lines: 95 % interval)", parse_math=False)
    for axes, scores, way in parts:
        for i, name in enumerate(systems):
            _bars(axes, i, len(systems), styles[name], [shares[name][score] for score in scores])
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
    return _described(figure, f"Bar chart of {len(systems)} systems on {n} messages. {told}.")


def _compared_styles(names: Iterable[str]) -> list[Style]:
    """The untuned model in the prompt's colour, adapters in the others, which begin anew after the last."""
    rest = cycle([STYLES[name] for name in ("tuned", "few_shot", "constrained", "tfidf")])
    return [replace(STYLES["prompt"] if name == "untuned" else next(rest), label=name) for name in names]


def score_ladder(results: dict) -> Figure:
    """The share of rows still standing on each rung of the ladder, a line per system."""
    systems, n = _systems(results), results["about"]["test_rows_scored"]
    figure, (axes,) = _figure(4.2)
    for i, name in enumerate(systems):
        shares, style = [results["systems"][name]["scores"][rung] for rung in LADDER], STYLES[name]
        _line(axes, [x + 0.07 * (i - 1.5) for x in range(len(LADDER))], shares, style.colour, style.marker, "-", style.label)
    axes.set_xticks(range(len(LADDER)), labels=LADDER)
    axes.set(ylim=(-4, 104), xlabel="rung (each asks for all to its left too)", ylabel="share of rows, %")
    axes.set_title(f"The score ladder, same n = {n} test rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=4)
    return _described(figure, f"Line chart of the score ladder on {n} test rows. " + _spoken(results, LADDER))


def failure_flow(results: dict) -> Figure:
    """Rows moving from their first cause of failure before to that after tuning, as bands as thick as their number of rows."""
    flow = {(step["before"], step["after"]): step["rows"] for step in results["flow"]}
    n, best = sum(flow.values()), results["about"]["best_prompt"]
    end = n * (1 + GAP * max(len({pair[side] for pair in flow}) - 1 for side in (0, 1)))
    figure, (axes,) = _figure(5.4)
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
    return _described(figure, f"Flow of {n} test rows between first causes of failure, before ({best}) to after (tuned): {told}.")


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
        figure, (axes,) = _figure(1.2)
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No learning curve: the adapter came without one.", ha="center", va="center", fontsize=12)
        return _described(figure, "No learning curve: the adapter came without one.")
    figure, (left, right) = _figure(4.2, columns=2)
    passes = [point["epoch"] for point in curve]
    for name, colour, marker, line in (("train_loss", "#444444", "s", "--"), ("validation_loss", STYLES["tuned"].colour, "o", "-")):
        left.plot(passes, [point[name] for point in curve], line, marker=marker, color=colour, label=name)
    held_out = results["about"]["rows"]["validation"]
    left.set(ylabel="loss, nats per answer token", title=f"Loss, n = {training['rows']} training, {held_out} validation rows")
    left.set_ylim(0, 1.1 * max(point[name] for point in curve for name in ("train_loss", "validation_loss")))
    _score_lines(right, _known(results, CURVE_LINES), curve, training["validation_rows"])
    for axes in (left, right):
        axes.axvline(training["best_epoch"], color="#222222", linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set(xlabel="pass over the training rows (dotted line: the one kept)", xlim=(min(passes) - 0.4, max(passes) + 0.4))
        axes.set_xticks(passes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    told = "; ".join(", ".join(f"{key} {value:.3f}" for key, value in point.items() if key != "epoch") for point in curve)
    return _described(figure, f"Learning curves by pass, pass {training['best_epoch']} kept: {told}.")


def _score_lines(axes: Axes, scores: Sequence[str], curve: Sequence[dict], rows: int) -> None:
    for i, score in enumerate(scores):
        shares = []
        for point in curve:
            low, high = wilson_interval(round(point[score] * rows), rows)
            shares.append({"share": point[score], "low": low, "high": high})
        _line(axes, [point["epoch"] + 0.05 * (i - 1.5) for point in curve], shares, *CURVE_LINES[score], label=score)
    axes.set(ylim=(-4, 104), ylabel="share of rows, % (lines: 95 % interval)", title=f"Scores, n = {rows} validation rows")


def class_intervals(results: dict) -> Figure:
    """The tuned model's strict and class_right shares by class with intervals, best class on top."""
    groups = sorted(results["systems"]["tuned"]["by_class"], key=lambda group: (group["strict"]["share"], group["name"]))
    field, n, style = results["about"]["class_field"], results["about"]["test_rows_scored"], STYLES["tuned"]
    figure, (axes,) = _figure(1.6 + 0.42 * len(groups))
    looks = {"class_right": (0.14, "white"), "strict": (-0.14, style.colour)}
    for score, (shift, face) in ((score, looks[score]) for score in _known(results, looks)):
        shares = [group[score] for group in groups]
        axes.errorbar(
            [100 * s["share"] for s in shares], [y + shift for y in range(len(groups))], xerr=_errors(shares), fmt=style.marker,
            color=style.colour, markerfacecolor=face, markersize=8, capsize=3, label=score, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(groups)), labels=[f"{group['name']} (n = {group['n']})" for group in groups], parse_math=False)
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(0, 100), ylim=(-0.6, len(groups) - 0.4), xlabel="share of rows, % (lines: 95 % interval)")
    axes.set_title(f"Tuned model by {field or 'class'}, n = {n} test rows", parse_math=False)
    figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{g['name']} {100 * g['strict']['share']:.1f} % strict of {g['n']} rows" for g in reversed(groups))
    return _described(figure, f"Tuned model by class: {told}.")


FIGURES = {f.__name__: f for f in (score_bars, score_ladder, failure_flow, learning_curves, class_intervals)}


GROWTH_AXES = {
    "rows": "rows in train.jsonl", "row_tokens": "tokens a row", "rank": "LoRA rank", "micro_tokens": "tokens at once",
}  # fmt: skip


def growth_curves(growth: dict) -> Figure:
    """Speed (above) and peak memory (below) as one size grows, from the results of `ftlab.bench.growth`."""
    sizes = [name for name in GROWTH_AXES if name in growth]
    figure, panels = _figure(5.4, rows=2, columns=len(sizes))
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
    return _described(figure, f"Speed and peak memory as sizes grow. {told}.")


XRAY_COLUMNS = 48  # tokens in one strip: with more, their names cannot be read
UPWARD, DOWNWARD = (STYLES["tuned"].colour, ""), (FLOW_STYLES["instruction"][0], "//")  # made likelier, made less likely
KIND_MARKERS = "osv^DPX*<>"


def xray_figure(found: dict) -> Figure:
    """The loss of each token of an x-ray (`ftlab.xray.Xray.as_dict`), in strips: a bar above the line, its weight below; grey: no loss."""
    strips = [
        (row, row["positions"][start : start + XRAY_COLUMNS])
        for row in found["rows"]
        for start in range(0, len(row["positions"]), XRAY_COLUMNS)
    ]
    figure, panels = _figure(0.5 + 1.75 * len(strips), rows=len(strips))
    figure.suptitle(f"Loss by token (below the line: weight; grey: none), {found['trainer']}, {found['model']}", parse_math=False)
    trained = [p for row in found["rows"] for p in row["positions"] if p["loss"] is not None]
    heaviest, top = max(abs(p["weight"]) for p in trained), max(p["loss"] for p in trained)
    top = 1.05 * max(top, 1e-6)
    for axes, (row, positions) in zip(panels, strips, strict=True):
        _xray_strip(axes, positions, 0.25 * top / heaviest)
        name = row["row"] if row["name"] == "row" else f"{row['row']}\n{row['name']}"
        axes.set_ylabel(f"{name}\nloss, nats", parse_math=False, fontsize=9)
        axes.set(ylim=(-0.28 * top, top), xlim=(-0.8, XRAY_COLUMNS - 0.2))
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    told = "; ".join(
        f"{row['row']} {row['name']}: {sum(p['loss'] is not None for p in row['positions'])} of {len(row['positions'])} tokens with loss, "
        f"{sum(p['loss'] or 0 for p in row['positions']):.2f} nats in all"
        for row in found["rows"]
    )
    return _described(figure, f"Loss by token, {found['trainer']}, losses of {found['model']}: {told}.")


def _xray_strip(axes: Axes, positions: Sequence[dict], scale: float) -> None:
    axes.axhline(0, color="#222222", linewidth=0.7)
    for x, p in enumerate(positions):
        if p["loss"] is None:
            axes.axvspan(x - 0.5, x + 0.5, color="#eeeeee", zorder=0)
            continue
        colour, hatch = UPWARD if p["weight"] >= 0 else DOWNWARD
        axes.bar(x, p["loss"], 0.8, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.5, zorder=2)
        axes.bar(x, -scale * abs(p["weight"]), 0.5, color="#bbbbbb" if p["weight"] >= 0 else colour, zorder=2)
    tokens = [_drawable(p["token"])[:12] or "∅" for p in positions]
    axes.set_xticks(range(len(positions)), labels=tokens, rotation=90, fontsize=8, parse_math=False)
    axes.grid(axis="x", visible=False)


def _drawable(text: str) -> str:
    """A text with a box for each letter that matplotlib's own font does not have, and a sign for the end of a line."""
    known = [(0x20, 0x590), (0x1E00, 0x2100), (0x2190, 0x2300), (0x2500, 0x2700)]
    return "".join(c if any(a <= ord(c) < b for a, b in known) else "□" for c in text.replace("\n", "↵"))


def inspection_figure(result: dict) -> Figure:
    """What training changed, from the result of `ftlab.inside.inspect`: size and rank of the updates by layer, the likeness of states by
    layer, and the share of token choices that changed."""
    figure, (sizes, ranks, states, choices) = _figure(8.4, rows=2, columns=2)
    figure.suptitle(f"{result['before']} → {result['after']}", parse_math=False)
    matrices = [m for m in result["matrices"] if m["layer"] is not None and len(m["shape"]) == 2]
    for axes, key, scale, label in (
        (sizes, "relative_norm", 100, "size of the update, % of the weights' norm"),
        (ranks, "effective_rank", 1, "effective rank of the update"),
    ):
        _kind_lines(axes, matrices, key, scale)
        axes.set(xlabel="layer", ylabel=label, ylim=(0, None))
    figure.legend(*ranks.get_legend_handles_labels(), loc="outside lower center", ncols=7, title="above: kinds of matrices")
    looks = {"task": ("tuned", "-"), "general": ("prompt", "--")}
    for kind, points in result["similarity"].items():
        style, line = STYLES[looks[kind][0]], looks[kind][1]
        at, n = [p["layer"] for p in points], result["choices"][kind]["texts"]
        states.plot(at, [p["cka"] for p in points], line, color=style.colour, marker=style.marker, label=f"{kind}, n = {n} texts")
        states.fill_between(at, [p["low"] for p in points], [p["high"] for p in points], color=style.colour, alpha=0.2)
    states.set(xlabel="layer (0: the embedding)", ylabel="linear CKA of the states (bands: 95 %)")
    states.legend(loc="lower left")
    _choice_bars(choices, result["choices"], looks)
    told = "; ".join(
        f"{kind}: {100 * c['changed']['share']:.1f} % of the choices changed, {100 * c['outside_top_3']['share']:.1f} % to a token outside "
        f"the three likeliest, likeness after the last layer {result['similarity'][kind][-1]['cka']:.3f}"
        for kind, c in result["choices"].items()
    )
    return _described(figure, f"What changed from {result['before']} to {result['after']}: {told}.")


def _kind_lines(axes: Axes, matrices: Sequence[dict], key: str, scale: float) -> None:
    """A line over the layers for each kind of matrix."""
    for i, kind in enumerate(dict.fromkeys(m["kind"] for m in matrices)):
        points = [(m["layer"], scale * m[key]) for m in matrices if m["kind"] == kind and m[key] is not None]
        marker, grey = KIND_MARKERS[i % len(KIND_MARKERS)], f"C{i % 10}"
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, linewidth=1, color=grey, label=kind.rpartition(".")[2])


def _choice_bars(axes: Axes, choices: dict, looks: dict) -> None:
    names = {"changed": "another token\nis likeliest", "outside_top_3": "… outside the three\nlikeliest before"}
    for i, (kind, found) in enumerate(choices.items()):
        shares, style = [found[name] for name in names], STYLES[looks[kind][0]]
        at = [x + 0.4 * (i - 0.5) for x in range(len(names))]
        label = f"{kind}, {found['positions']} places"
        axes.bar(
            at, [100 * s["share"] for s in shares], 0.36, yerr=_errors(shares), capsize=3, color=style.colour, hatch=style.hatch,
            edgecolor="#222222", linewidth=0.7, label=label, zorder=2,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), labels=names.values())
    axes.set(ylabel="share of places, % (lines: 95 %)", ylim=(0, None))
    axes.legend(loc="upper right")


METHOD_MARKERS = {"lora": "o", "lora-last": "s", "rslora": "^", "dora": "D", "full": "P", "qlora": "X"}


def methods_comparison(results: dict) -> Figure:
    """Scores of each method of tuning, a point a seed with its interval, beside what a training took, from `ftlab.methods`."""
    arms = {m: [row for row in results["rows"] if row["method"] == m] for m in METHOD_MARKERS}
    arms = {method: rows for method, rows in arms.items() if rows}
    figure, panels = _figure(2.4 + 0.55 * len(arms), rows=1, columns=4)
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
                [100 * s["share"] for s in shares], at, xerr=_errors(shares), fmt=METHOD_MARKERS[method], color=colour, capsize=3
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
    return _described(figure, f"Methods of tuning, one number a seed: {told}.")


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _percents(rows: Sequence[dict], score: str) -> str:
    return " and ".join(f"{100 * row['scores'][score]['share']:.1f} %" for row in rows)


SEES = {"answer": "o", "message": "s", "label": "^", "people": "D"}  # what decides, and its marker


def deciders(checks: Sequence[dict], people: Sequence[str] = ()) -> Figure:
    """Each check of a task (`checks.checklist`) by what it has to see beside the answer, and what only people decide."""
    lines = [(f"{c['rung']}: {c['code']}", c["sees"]) for c in checks] + [(wish, "people") for wish in people]
    counts = {kind: sum(sees == kind for _, sees in lines) for kind in SEES}
    heads = ("the answer\nalone", "… and the\nmessage", "… and the\nlabel", "only\npeople")
    figure, (axes,) = _figure(1.2 + 0.3 * len(lines))
    for at, (kind, marker) in enumerate(SEES.items()):
        there = [i for i, (_, sees) in enumerate(lines) if sees == kind]
        colour = STYLES["prompt" if kind == "people" else "tuned"].colour
        axes.plot([at] * len(there), there, marker, color=colour, markersize=9, clip_on=False)
    axes.set_xticks(range(len(SEES)), labels=[f"{head}\n({n})" for head, n in zip(heads, counts.values(), strict=True)])
    axes.set_yticks(range(len(lines)), labels=[name for name, _ in lines], parse_math=False)
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.5, len(SEES) - 0.5), ylim=(len(lines) - 0.5, -0.5))
    told = "; ".join(f"{kind}: {', '.join(name for name, sees in lines if sees == kind) or 'none'}" for kind in SEES)
    return _described(figure, f"What decides each of {len(lines)} demands of a task. {told}.")


def label_matrix(first: Sequence[str], second: Sequence[str], title: str) -> Figure:
    """How often one labeller's label met each of the other's: agreement stands on the diagonal."""
    names, n = sorted(set(first) | set(second)), len(first)
    counts = [[sum(a == row and b == column for a, b in zip(first, second, strict=True)) for column in names] for row in names]
    figure, (axes,) = _figure(1.6 + 0.55 * len(names))
    top = max(map(max, counts))
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=1.4 * top, aspect="auto")
    axes.grid(visible=False)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            axes.text(x, y, str(count) if count else "·", ha="center", va="center", weight="bold" if x == y else "normal")
    axes.set_xticks(range(len(names)), labels=names, parse_math=False)
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    axes.set(xlabel="second labelling", ylabel="first labelling")
    axes.set_title(f"{title}, n = {n} rows", parse_math=False)
    pairs = [(a, b, counts[y][x]) for y, a in enumerate(names) for x, b in enumerate(names) if a != b and counts[y][x]]
    same = sum(counts[i][i] for i in range(len(names)))
    told = "; ".join(f"{a} against {b} {count}" for a, b, count in pairs)
    return _described(figure, f"{title}: two labellings agree on {same} of {n} rows. They differ: {told or 'nowhere'}.")


def rows_curves(sizes: Sequence[int], share: float, discordant: Sequence[float]) -> Figure:
    """What a test of each size can tell: left the width of a share's 95 % interval, right the smallest difference of two models that a
    paired test finds four times in five, a line for each share of rows on which they differ."""
    figure, (left, right) = _figure(4.2, columns=2)
    widths = [[100 * x for x in wilson_interval(round(share * n), n)] for n in sizes]
    left.plot(sizes, [high - low for low, high in widths], color="#222222", marker="o")
    left.set(ylabel="width of the 95 % interval, points", title=f"One model that passes {100 * share:.0f} %")
    told = []
    for part, (colour, marker, line) in zip(discordant, CURVE_LINES.values(), strict=False):
        found = [(n, detectable_difference(n, part)) for n in sizes]
        points = [(n, 100 * difference) for n, difference in found if difference is not None]
        right.plot(
            *zip(*points, strict=True), line, color=colour, marker=marker, label=f"they differ on {100 * part:.0f} % of rows"
        )
        told += [f"differing on {100 * part:.0f} %: " + ", ".join(f"{d:.1f} points at {n} rows" for n, d in points)]
    right.set(ylabel="smallest difference found\n4 times in 5, points", title="Two models on the same rows")
    right.legend()
    for axes in (left, right):
        axes.set(xscale="log", ylim=(0, None), xlabel="rows in the test set")
        axes.set_xticks(sizes, labels=[str(n) for n in sizes])
        axes.minorticks_off()
    spoken = ", ".join(f"{high - low:.1f} points at {n} rows" for n, (low, high) in zip(sizes, widths, strict=True))
    return _described(figure, f"Interval width of one model: {spoken}. Smallest difference found: {'; '.join(told)}.")


def reliability(calibrations: dict[str, dict], title: str) -> Figure:
    """Stated confidence against how often it was right, a panel per system (`stats.calibration`), with the intervals of the bins."""
    figure, panels = _figure(4.4, columns=len(calibrations))
    figure.suptitle(title)
    told = []
    for axes, (name, found) in zip(panels, calibrations.items(), strict=True):
        shares, at = [], [100 * b["confidence"] for b in found["bins"]]
        for b in found["bins"]:
            low, high = wilson_interval(round(b["hit_rate"] * b["n"]), b["n"])
            shares.append({"share": b["hit_rate"], "low": low, "high": high})
        axes.plot([0, 100], [0, 100], color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label="stated = true")
        axes.axhline(100 * found["base_rate"], color="#777777", linewidth=0.9, label="right overall")
        _line(axes, at, shares, STYLES["tuned"].colour, "o", "", "rows of one bin")
        axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="stated confidence, %", ylabel="right, % (lines: 95 % interval)")
        axes.set_title(f"{name}, n = {found['n']}", parse_math=False)
        axes.legend(loc="upper left")
        points = ", ".join(f"{100 * b['confidence']:.0f} stated {100 * b['hit_rate']:.0f} right" for b in found["bins"])
        told.append(f"{name}, n = {found['n']}: {points}")
    return _described(figure, f"{title}. In per cent: {'; '.join(told)}.")


def share_points(shares: dict[str, dict], title: str, unit: str) -> Figure:
    """Named shares as points with their 95 % intervals, one below the other; n stands beside each name."""
    names = list(shares)
    figure, (axes,) = _figure(1.5 + 0.5 * len(names))
    at, found = [100 * s["share"] for s in shares.values()], list(shares.values())
    axes.errorbar(
        at, range(len(names)), xerr=_errors(found), fmt="o", color=STYLES["tuned"].colour, markersize=8, capsize=3, clip_on=False
    )
    axes.set_yticks(range(len(names)), labels=[f"{name} (n = {shares[name]['n']})" for name in names], parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel=f"share {unit}, % (lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    told = "; ".join(f"{name} {100 * s['share']:.1f} % of {s['n']}" for name, s in shares.items())
    return _described(figure, f"{title}, share {unit}: {told}.")


def refusal_plane(systems: dict[str, tuple[dict, dict]]) -> Figure:
    """Each system by two faults at once: name → (share of allowed requests turned down, share of forbidden ones complied with)."""
    figure, (axes,) = _figure(4.2)
    for (name, (over, complied)), style in zip(systems.items(), STYLES.values(), strict=False):
        x, y = 100 * over["share"], 100 * complied["share"]
        axes.errorbar(
            x, y, xerr=_errors([over]), yerr=_errors([complied]), fmt=style.marker, color=style.colour, markersize=9, capsize=3,
            clip_on=False, label=name,
        )  # fmt: skip
    (over, complied), *_ = systems.values()
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel=f"allowed requests turned down, % of {over['n']}")
    axes.set(
        ylabel=f"forbidden requests complied\nwith, % of {complied['n']}",
        title="Two ways to be wrong about refusing (lines: 95 % interval)",
    )
    axes.legend(loc="center right")
    told = "; ".join(
        f"{n} turns down {100 * o['share']:.1f} %, complies with {100 * c['share']:.1f} %" for n, (o, c) in systems.items()
    )
    return _described(figure, f"Over-refusal against compliance: {told}.")


def baseline_growth(points: Sequence[dict], rows_scored: int) -> Figure:
    """What a baseline gains from more labelled rows, a line per score.

    Args:
        points: [{"rows": training rows, "scores": shares by name}].
        rows_scored: how many rows each point was scored on.
    """
    scores = ("class_right", "values_right", "strict")
    figure, (axes,) = _figure(4.0)
    for i, score in enumerate(scores):
        _line(axes, [p["rows"] * 1.03 ** (i - 1) for p in points], [p["scores"][score] for p in points], *CURVE_LINES[score], score)
    axes.set_xscale("log")
    axes.set_xticks([p["rows"] for p in points], labels=[str(p["rows"]) for p in points])
    axes.minorticks_off()
    axes.set(ylim=(-4, 104), xlabel="labelled training rows", ylabel="share of rows, %")
    axes.set_title(f"TF-IDF by training rows, same n = {rows_scored} validation rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{p['rows']} rows: " + ", ".join(f"{s} {100 * p['scores'][s]['share']:.1f} %" for s in scores) for p in points
    )
    return _described(figure, f"Line chart of a baseline's scores on {rows_scored} validation rows by training rows. {told}.")


def paired_differences(tests: Mapping[str, dict], before: str, after: str) -> Figure:
    """The difference of two systems on the same rows, a line per score, with its interval, the rows that differ and p.

    Args:
        tests: score → what `evaluate.paired_intervals` says of it.
    """
    n = next(iter(tests.values()))["n"]
    figure, (axes,) = _figure(1.4 + 0.55 * len(tests))
    for y, test in enumerate(reversed(tests.values())):
        at, ends = (
            100 * test["difference"],
            [[100 * (test["difference"] - test["low"])], [100 * (test["high"] - test["difference"])]],
        )
        sure = test["p"] < 0.05
        axes.errorbar(
            [at], [y], xerr=ends, fmt="o" if sure else "D", color=STYLES["tuned"].colour, markerfacecolor=None if sure else "white",
            markersize=8, capsize=4,
        )  # fmt: skip
        told = f"{test['gained']} only {after}, {test['lost']} only {before}, p = {test['p']:.2g}"
        axes.text(1.01, y, told, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.axvline(0, color="#222222", linewidth=1)
    axes.set_yticks(range(len(tests)), labels=list(reversed(tests)))
    axes.set(
        ylim=(-0.6, len(tests) - 0.4), xlabel=f"{after} minus {before}, percentage points (lines: 95 % interval; filled: p < 0.05)"
    )
    axes.set_title(f"{after} against {before}, same n = {n} rows")
    spoken = "; ".join(f"{name} {100 * t['difference']:+.1f} points, p = {t['p']:.2g}" for name, t in tests.items())
    return _described(figure, f"Paired differences, {after} minus {before}, on {n} rows: {spoken}.")


def cause_bars(evaluations: Mapping[str, dict]) -> Figure:
    """The share of all rows that fail by each first cause, with intervals, a bar per system."""
    systems = [name for name in STYLES if name in evaluations]
    n = evaluations[systems[0]]["n"]
    figure, (axes,) = _figure(4.0)
    for i, name in enumerate(systems):
        _bars(axes, i, len(systems), STYLES[name], [evaluations[name]["first_causes"][cause] for cause in CAUSE_ORDER])
    axes.set_xticks(range(len(CAUSE_ORDER)), labels=CAUSE_ORDER)
    axes.set(ylim=(0, 113), yticks=range(0, 101, 25), ylabel="share of rows, %", xlabel="first cause of failure, the gravest first")
    axes.set_title(f"What the failing rows fail by, same n = {n} rows (bars: share, lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{c} {100 * evaluations[name]['first_causes'][c]['share']:.1f} %" for c in CAUSE_ORDER)
        for name in systems
    )
    return _described(figure, f"Bar chart of first causes of failure on {n} rows. {told}.")


def chance_lead(test: dict, before: str, after: str) -> Figure:
    """What leads two equally good systems would show on as many differing rows, and the lead that was seen; its tail is p.

    Args:
        test: what `mcnemar_exact` says.

    Raises:
        ValueError: the systems differ on no row.
    """
    m, seen = test["gained"] + test["lost"], test["gained"] - test["lost"]
    if not m:
        raise ValueError("chance_lead: expected rows on which the systems differ, found none.")
    leads = range(-m, m + 1, 2)
    far = [abs(lead) >= abs(seen) for lead in leads]
    chance = [100 * comb(m, i) / 2**m for i in range(m + 1)]
    figure, (axes,) = _figure(3.4)
    for is_far, colour, hatch, label in (
        (False, "#f4f4f4", "", "nearer to a tie than what was seen"),
        (True, "#b5b5b5", "//", "as far from a tie or further: together p"),
    ):
        bars = [(lead, c) for lead, c, f in zip(leads, chance, far, strict=True) if f == is_far]
        axes.bar(*(zip(*bars, strict=True) if bars else ((), ())), 1.7, color=colour, hatch=hatch, edgecolor="#222222", label=label)
    axes.axvline(seen, color=STYLES["tuned"].colour, linewidth=2.5, linestyle="--", label=f"seen: {seen:+d} rows")
    reach = max(abs(seen) + 2, round(4 * m**0.5))
    axes.set(xlim=(-reach, reach), xlabel=f"lead of {after} over {before}, rows", ylabel="chance, %")
    axes.set_title(f"Leads by chance alone on {m} differing rows of n = {test['n']}; p = {test['p']:.2g}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    told = f"Seen: {seen:+d} rows on {m} differing rows of {test['n']}; chance alone goes as far with p = {test['p']:.2g}."
    return _described(figure, f"Bar chart of leads by chance of {after} over {before}. {told}")


def forced_against_written(points: Sequence[dict], rows_scored: int) -> Figure:
    """Share of pieces guessed right with the right beginning given, against what the written answers are worth.

    Args:
        points: [{"order": pieces looked back, "forced": share of pieces, "scores": shares of the written answers by name}].
        rows_scored: how many rows each point was scored on.
    """
    figure, (axes,) = _figure(4.0)
    at = range(len(points))
    axes.plot(at, [100 * p["forced"] for p in points], "--", marker="s", color="#444444", label="pieces right, beginning given")
    for i, score in enumerate(("schema_valid", "strict")):
        colour, marker, line = CURVE_LINES[score]
        _line(
            axes,
            [x + 0.06 * (i + 1) for x in at],
            [p["scores"][score] for p in points],
            colour,
            marker,
            line,
            f"{score}, written alone",
        )
    axes.set_xticks(at, labels=[str(p["order"]) for p in points])
    axes.set(ylim=(-4, 104), xlabel="how many pieces the guesser looks back", ylabel="share, %")
    axes.set_title(f"A guesser that never reads the message, n = {rows_scored} validation rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{p['order']} back: {100 * p['forced']:.1f} % of pieces, {100 * p['scores']['schema_valid']['share']:.1f} % schema_valid, "
        f"{100 * p['scores']['strict']['share']:.1f} % strict"
        for p in points
    )
    return _described(
        figure, f"Line chart of pieces guessed right against scores of written answers on {rows_scored} rows. {told}."
    )


def agreement_bars(passing: Sequence[float], failing: Sequence[float]) -> Figure:
    """How far the outputs of passing and of failing rows agree with the labels' texts: two histograms on one scale."""
    figure, panels = _figure(4.2, rows=2)
    edges = [i / 20 for i in range(21)]
    for axes, name, values, cause in ((panels[0], "pass", passing, "pass"), (panels[1], "fail", failing, "knowledge")):
        colour, hatch = FLOW_STYLES[cause]
        axes.hist(values, bins=edges, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.7)
        axes.set(xlim=(0, 1), ylabel="rows", title=f"rows that {name} the strict check, n = {len(values)}")
    panels[1].set_xlabel("agreement of the output's text with the label's text (1: the same)")
    means = [sum(values) / len(values) for values in (passing, failing)]
    told = (f"{len(v)} {k} rows, mean {m:.2f}" for v, k, m in zip((passing, failing), ("passing", "failing"), means, strict=True))
    return _described(figure, f"Histograms of text agreement: {'; '.join(told)}.")


def group_shares(groups: Mapping[str, Share], title: str, xlabel: str) -> Figure:
    """A share with its 95 % interval per group, the first on top."""
    figure, (axes,) = _figure(1.5 + 0.4 * len(groups))
    shares, style = [share.as_dict() for share in groups.values()][::-1], STYLES["tuned"]
    axes.errorbar(
        [100 * s["share"] for s in shares], range(len(shares)), xerr=_errors(shares), fmt=style.marker, color=style.colour,
        markersize=8, capsize=3, clip_on=False, zorder=3,
    )  # fmt: skip
    for y, s in enumerate(shares):
        axes.text(100 * s["share"], y + 0.2, f"{100 * s['share']:.1f}", ha="center", va="bottom", fontsize=9)
    labels = [f"{name} (n = {share.n})" for name, share in reversed(groups.items())]
    axes.set_yticks(range(len(shares)), labels=labels, parse_math=False)
    axes.grid(axis="y", visible=False)
    axes.set(ylim=(-0.5, len(shares) - 0.3), xlabel=f"{xlabel}, % (lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    axes.set_xlim(left=0)
    told = "; ".join(f"{name} {100 * s.share:.1f} % of {s.n}" for name, s in groups.items())
    return _described(figure, f"{title}: {told}.")


def coverage_map(coverage: dict, axis: str = "tag") -> Figure:
    """Rows of each class (down) and each value of `axis` (across), from the result of `datatools.coverage`; empty cells are crossed."""
    across = ("class", "tag", "lang", "words").index(axis)
    counts: Counter[tuple[str, str]] = Counter()
    for *place, n in coverage["cells"]:
        counts[place[0], place[across]] += n
    down, names = coverage["axes"]["class"], coverage["axes"][axis]
    table = [[counts[label, name] for name in names] for label in down]
    title = f"Rows of {coverage['name']}, {coverage['file']}, n = {coverage['rows']} (darker: more; crossed: none)"
    empty = [f"{label} + {name}" for label in down for name in names if not counts[label, name]]
    alt = f"{title}. Empty: {', '.join(empty) or 'no cell'}."
    return _described(_table(table, down, names, title, lambda n: str(n) if n else "×"), alt)


def found_table(found: Mapping[str, Mapping[str, int]], each: int, kinds: Sequence[str]) -> Figure:
    """Planted faults (down) against kinds of findings (across): how many of the `each` planted rows a finding names."""
    table = [[kinds_found.get(kind, 0) for kind in kinds] for kinds_found in found.values()]
    title = f"Planted rows that a finding names, of n = {each} of each fault (darker: more)"
    told = "; ".join(
        f"{fault}: " + (", ".join(f"{kind} {row[kind]}" for kind in kinds if row.get(kind)) or "nothing")
        for fault, row in found.items()
    )
    names = [kind.replace("_", " ") for kind in kinds]
    return _described(_table(table, list(found), names, title, lambda n: str(n) if n else "–"), f"{title}. {told}.")


def _table(
    table: Sequence[Sequence[int]], down: Sequence[str], across: Sequence[str], title: str, text: Callable[[int], str]
) -> Figure:
    figure, (axes,) = _figure(1.5 + 0.36 * len(down))
    axes.imshow(table, cmap="Blues", vmin=0, aspect="auto")
    most = max(max(row) for row in table) or 1
    for y, row in enumerate(table):
        for x, n in enumerate(row):
            axes.text(x, y, text(n), ha="center", va="center", color="white" if n > 0.6 * most else "#222222")
    axes.set_xticks(range(len(across)), labels=across, rotation=25, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(down)), labels=down, parse_math=False)
    axes.grid(visible=False)
    axes.set_title(title, parse_math=False)
    return figure


def minhash_estimates(exact: Sequence[float], estimates: Mapping[int, Sequence[float]]) -> Figure:
    """Similarity by signature against the exact one, a panel for each length of signature."""
    figure, panels = _figure(4.0, columns=len(estimates))
    figure.suptitle(f"Similarity of n = {len(exact)} pairs of messages: by signature and exact (dashed: equal)")
    told = []
    for axes, (hashes, guessed) in zip(panels, sorted(estimates.items()), strict=True):
        off = sum(abs(a - b) for a, b in zip(exact, guessed, strict=True)) / len(exact)
        axes.plot([0, 1], [0, 1], "--", color="#222222", linewidth=1)
        axes.plot(exact, guessed, "o", color=STYLES["tuned"].colour, markerfacecolor="none", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="exact Jaccard similarity", ylabel="share of equal places")
        axes.set_title(f"{hashes} hashes: off by {off:.3f} on average")
        told.append(f"{hashes} hashes off by {off:.3f}")
    return _described(figure, f"Scatter of estimated against exact similarity of {len(exact)} pairs: {', '.join(told)} on average.")


def review_lines(curve: Sequence[dict], wrong: int, n: int) -> Figure:
    """Wrong labels met while reading rows in the order of suspicion, against a random order with its 95 % band."""
    figure, (axes,) = _figure(4.0)
    read, style = [p["read"] for p in curve], STYLES["tuned"]
    axes.plot(read, [p["found"] for p in curve], "-", color=style.colour, linewidth=2.5, label="most doubtful first")
    axes.plot(read, [p["by_chance"] for p in curve], "--", color="#555555", label="any order, on average")
    axes.fill_between(
        read, [p["low"] for p in curve], [p["high"] for p in curve], color="#bbbbbb", hatch="..", label="95 % of all orders"
    )
    axes.set(xlim=(0, read[-1]), ylim=(0, None), xlabel="rows that a person has read", ylabel="wrong labels met")
    axes.set_title(f"{wrong} planted wrong labels among n = {n} rows")
    axes.legend(loc="upper left")
    last = curve[-1]
    told = f"after {last['read']} rows {last['found']} met, {last['by_chance']:.1f} by chance ({last['low']:.0f} to {last['high']:.0f})"
    return _described(figure, f"{wrong} planted wrong labels among {n} rows, most doubtful read first: {told}.")


def share_lines(lines: Mapping[str, Sequence[tuple[float, Share]]], title: str, xlabel: str, ylabel: str) -> Figure:
    """A line per name through shares at their x, each with its 95 % interval."""
    figure, (axes,) = _figure(4.0)
    for (name, points), style in zip(lines.items(), (STYLES["tuned"], STYLES["prompt"], STYLES["few_shot"]), strict=False):
        shares = [share.as_dict() for _, share in points]
        _line(axes, [x for x, _ in points], shares, style.colour, style.marker, "-", name)
    axes.set(xlabel=xlabel, ylabel=f"{ylabel}, %\n(lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    axes.legend(loc="best")
    told = "; ".join(
        f"{name}: " + ", ".join(f"{100 * s.share:.1f} % at {x:g}" for x, s in points) for name, points in lines.items()
    )
    return _described(figure, f"{title}. {told}.")


def cluster_bars(clusters: Sequence[Any], n: int, shown: int = 8) -> Figure:
    """The largest groups of failures: rows that fail (left) and training rows of the same kind (right)."""
    top = list(clusters)[:shown][::-1]
    figure, (left, right) = _figure(1.6 + 0.42 * len(top), columns=2)
    failing, trained = [len(c.ids) for c in top], [c.trained for c in top]
    left.barh(range(len(top)), failing, color=STYLES["tuned"].colour, edgecolor="#222222")
    right.barh(range(len(top)), trained, color="#dddddd", hatch="//", edgecolor="#222222")
    for axes, values in ((left, failing), (right, trained)):
        for y, value in enumerate(values):
            axes.text(value, y, f" {value}", va="center")
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.15 * max(values))
    left.set_yticks(range(len(top)), labels=[_wrapped(f"{c.cause}: {c.what}") for c in top], parse_math=False, fontsize=8)
    right.set_yticks([])
    left.set(xlabel="failing rows", title=f"Failures by kind, n = {n} rows")
    right.set(xlabel="training rows of that kind", title="What training had of it")
    told = "; ".join(f"{c.cause}, {c.what}: {len(c.ids)} failing, {c.trained} in training" for c in reversed(top))
    return _described(figure, f"The largest groups of failures of {n} rows. {told}.")


def _wrapped(text: str) -> str:
    return fill(text, 34)


def _figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.grid(axis="both", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _line(axes: Axes, at: Sequence[float], shares: Sequence[dict], colour: str, marker: str, line: str, label: str) -> None:
    axes.errorbar(
        at, [100 * s["share"] for s in shares], yerr=_errors(shares), color=colour, marker=marker, linestyle=line, capsize=3,
        markersize=7, elinewidth=1, label=label,
    )  # fmt: skip


def _errors(shares: Sequence[dict]) -> list[list[float]]:
    """How far the intervals reach below and above the shares, in percent points, as `errorbar` wants it."""
    # subtle: at 0 and 1 the interval's own end may differ from the share in the last bit, and matplotlib refuses -1e-17
    return [[max(0.0, 100 * (s["share"] - s["low"])) for s in shares], [max(0.0, 100 * (s["high"] - s["share"])) for s in shares]]


def _systems(results: dict) -> list[str]:
    return [name for name in STYLES if name in results["systems"]]


def _known(results: dict, scores: Sequence[str]) -> list[str]:
    """The scores that mean something here: without a class field there is no class to get right."""
    return [score for score in scores if score != "class_right" or results["about"]["class_field"]]


def _spoken(results: dict, scores: Sequence[str]) -> str:
    told = {name: results["systems"][name]["scores"] for name in _systems(results)}
    shares = (f"{score}: " + ", ".join(f"{name} {100 * told[name][score]['share']:.1f} %" for name in told) for score in scores)
    return "; ".join(shares) + "."


def _described(figure: Figure, alt: str) -> Figure:
    figure.set_label(alt)
    return figure

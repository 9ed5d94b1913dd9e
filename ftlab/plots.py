"""Figures of a run: each function takes the results of `run_main_job` and returns a matplotlib `Figure`.

Made to be read 900 pixels wide, with and without colour: each system keeps one colour, hatch and marker throughout. The alt text
is the figure's label, computed from the same numbers: `figure.get_label()`. Nothing here touches pyplot or other global state.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from ftlab.checks import CAUSE_ORDER
from ftlab.stats import Share, wilson_interval

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
    return [[100 * (s["share"] - s["low"]) for s in shares], [100 * (s["high"] - s["share"]) for s in shares]]


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

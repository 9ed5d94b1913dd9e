"""Figures of the notebook that chooses a lever: a share against its bar, what is held and what is not, cost, verdicts by case."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from ftlab.plots.frame import STYLES, Style, described, errors, new_figure, system_bars
from ftlab.stats import Share

VERDICT_MARKS = {"first": "1st", "next": "next", "beside": "beside", "no": "·"}  # as `choose.recommend` says them
_SHADES = {"first": 3, "next": 2, "beside": 1, "no": 0}


def against_bar(shares: Mapping[str, Share], bar: float, title: str) -> Figure:
    """Shares with their 95 % intervals against the share that is wanted; filled where the whole interval reaches it."""
    figure, (axes,) = new_figure(1.7 + 0.45 * len(shares))
    style, names = STYLES["prompt"], list(shares)
    for y, found in enumerate(shares.values()):
        ends = errors([found.as_dict()])
        axes.errorbar(
            [100 * found.share], [y], xerr=ends, fmt=style.marker, color=style.colour, markersize=9, capsize=4,
            markerfacecolor=style.colour if found.low >= bar else "white",
        )  # fmt: skip
    axes.axvline(100 * bar, color="#222222", linestyle="--", label=f"wanted: {100 * bar:g} %")
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    axes.set(
        ylim=(len(names) - 0.4, -0.6),
        xlabel="rows that pass all checks, %\n(lines: 95 % interval; filled: all of it reaches the bar)",
    )
    axes.set_title(title, parse_math=False)
    figure.legend(loc="outside upper right")
    told = "; ".join(
        f"{name} {100 * s.share:.1f} % [{100 * s.low:.1f}, {100 * s.high:.1f}], {'beyond' if s.low >= bar else 'not beyond'} doubt"
        for name, s in shares.items()
    )
    return described(figure, f"{title}, wanted {100 * bar:g} %: {told}.")


def grouped_bars(systems: Mapping[str, Mapping[str, dict]], scores: Sequence[str], title: str) -> Figure:
    """Bars with 95 % intervals, a group for each score and a bar for each system (name → score → `Share.as_dict`)."""
    figure, (axes,) = new_figure(4.2)
    for i, (name, style) in enumerate(zip(systems, _styles(systems), strict=True)):
        system_bars(axes, i, len(systems), style, [systems[name][score] for score in scores])
    axes.set_xticks(range(len(scores)), labels=scores)
    axes.set(ylim=(0, 113), yticks=range(0, 101, 25), ylabel="share of rows, %")
    axes.set_title(f"{title} (lines: 95 % interval)", parse_math=False)
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{score} {100 * systems[name][score]['share']:.1f} %" for score in scores) for name in systems
    )
    return described(figure, f"Bar chart. {title}. {told}.")


def _styles(names: Mapping[str, Any]) -> list[Style]:
    """Each known system in its own style, the others in those that are left."""
    left = [style for name, style in STYLES.items() if name not in names]
    return [STYLES[name] if name in STYLES else Style(**{**left.pop(0).__dict__, "label": name}) for name in names]


def reading_lines(points: Sequence[dict], before: int) -> Figure:
    """Surprise a letter on held-out text of two kinds by how much of the new kind was read.

    Args:
        points: [{"read": letters of the new kind, "new": bits a letter on it, "old": bits a letter on the old kind}].
        before: letters of the old kind that were read first.
    """
    figure, (axes,) = new_figure(4.0)
    at = range(len(points))
    for key, style, line, label in (
        ("new", STYLES["tuned"], "-", "held-out notation"),
        ("old", STYLES["prompt"], "--", "held-out English messages"),
    ):
        axes.plot(at, [p[key] for p in points], line, color=style.colour, marker=style.marker, markersize=8, label=label)
    axes.set_xticks(at, labels=[f"{p['read']:,}" for p in points])
    axes.set(ylim=(0, None), xlabel="letters of unlabelled notation that were read", ylabel="surprise, bits a letter")
    axes.set_title(f"A model of letters, after {before:,} letters of English")
    axes.legend()
    told = "; ".join(f"{p['read']} read: notation {p['new']:.2f}, English {p['old']:.2f}" for p in points)
    return described(figure, f"Line chart of bits a letter by letters of notation read. {told}.")


def predicted_times(runs: Sequence[dict]) -> Figure:
    """Seconds that `ftlab.cost` predicted for real trainings beside those they took, from results/cost.json."""
    figure, (axes,) = new_figure(1.6 + 0.7 * len(runs))
    for key, style, off in (("predicted_s", STYLES["prompt"], -0.18), ("measured_s", STYLES["tuned"], 0.18)):
        axes.barh(
            [y + off for y in range(len(runs))], [run[key] for run in runs], 0.34, color=style.colour, hatch=style.hatch,
            edgecolor="#222222", label=key.removesuffix("_s"),
        )  # fmt: skip
    axes.set_yticks(range(len(runs)), labels=[run["run"] for run in runs])
    axes.set(
        ylim=(len(runs) - 0.4, -0.6), xlabel="seconds", title=f"A training's time: predicted and measured, n = {len(runs)} runs"
    )
    figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{run['run']}: predicted {run['predicted_s']:.0f} s, took {run['measured_s']:.0f} s" for run in runs)
    return described(figure, f"Bar chart of predicted and measured times. {told}.")


def hours_bars(bill: Mapping[str, tuple[float, float]]) -> Figure:
    """What each lever takes: hours of people (counted by rows and pairs) and of two cores, on a logarithmic scale."""
    figure, (axes,) = new_figure(1.8 + 0.55 * len(bill))
    floor = 0.5 / 60  # half a minute: below it a bar would say nothing
    for k, (style, off, who) in enumerate(((STYLES["prompt"], -0.18, "people"), (STYLES["tuned"], 0.18, "two cores"))):
        there = [(y, hours[k]) for y, hours in enumerate(bill.values()) if hours[k] > 0]
        axes.barh(
            [y + off for y, _ in there], [hours - floor for _, hours in there], 0.34, left=floor, color=style.colour,
            hatch=style.hatch, edgecolor="#222222", label=f"hours of {who}",
        )  # fmt: skip
        for y, hours in there:
            axes.text(hours, y + off, f" {hours:,.2g}" if hours < 10 else f" {hours:,.0f}", va="center", fontsize=9)
    axes.set_xscale("log")
    marks = {0.01: "0.01", 1: "1", 100: "100", 1e4: "10 thousand", 1e6: "1 million", 1e8: "100 million"}
    axes.set_xticks(list(marks), labels=list(marks.values()))
    axes.minorticks_off()
    axes.set_yticks(range(len(bill)), labels=list(bill), parse_math=False)
    axes.set(xlim=(floor, 40 * max(max(hours) for hours in bill.values())), ylim=(len(bill) - 0.4, -0.6))
    axes.set(xlabel="hours (each mark to the right: a hundred times as many)", title="What each lever takes")
    figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{name}: people {people:.3g}, two cores {cores:.3g}" for name, (people, cores) in bill.items())
    return described(figure, f"Bar chart of hours by lever. {told}.")


def lever_matrix(verdicts: Mapping[str, Mapping[str, str]], names: Mapping[str, str]) -> Figure:
    """Cases (down) by levers (across) and what is said of each: first, next, beside, or not now.

    Args:
        verdicts: case → lever → verdict, as `choose.recommend` gives it.
        names: lever → what it is called in the figure.
    """
    figure, (axes,) = new_figure(1.9 + 0.36 * len(verdicts))
    table = [[_SHADES[said[lever]] for lever in names] for said in verdicts.values()]
    axes.imshow(table, cmap="Blues", vmin=0, vmax=4, aspect="auto")
    for y, said in enumerate(verdicts.values()):
        for x, lever in enumerate(names):
            colour, weight = ("white", "bold") if said[lever] == "first" else ("#222222", "normal")
            axes.text(x, y, VERDICT_MARKS[said[lever]], ha="center", va="center", color=colour, weight=weight)
    axes.set_xticks(range(len(names)), labels=list(names.values()))
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(verdicts)), labels=list(verdicts), parse_math=False)
    axes.grid(visible=False)
    axes.set_xlabel(f"n = {len(verdicts)} cases; 1st: do first, next: then, beside: keep with it, ·: not now")
    told = "; ".join(
        f"{case}: " + (", ".join(f"{names[lever]} {v}" for lever, v in said.items() if v != "no") or "none")
        for case, said in verdicts.items()
    )
    return described(figure, f"Which lever for which case. {told}.")

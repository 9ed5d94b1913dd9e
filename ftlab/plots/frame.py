"""What all figures share: size, colours and markers by system, intervals as error bars, the label that serves as alt text."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


FLOW_STYLES = {
    "pass": ("#009E73", ""), "knowledge": ("#F0E442", "..."), "instruction": ("#D55E00", "//"), "format": ("#777777", "\\\\"),
    "safety": ("#7A3E9D", "xx"),
}  # fmt: skip


CURVE_LINES = {  # shades of the tuned model's colour: all four are about it
    "schema_valid": ("#74B3D8", "v", ":"), "class_right": ("#08306B", "P", "--"), "values_right": ("#3D8B9E", "X", "-."),
    "strict": (STYLES["tuned"].colour, STYLES["tuned"].marker, "-"),
}  # fmt: skip


def new_figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.grid(axis="both", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def interval_line(axes: Axes, at: Sequence[float], shares: Sequence[dict], colour: str, marker: str, line: str, label: str) -> None:
    axes.errorbar(
        at, [100 * s["share"] for s in shares], yerr=errors(shares), color=colour, marker=marker, linestyle=line, capsize=3,
        markersize=7, elinewidth=1, label=label,
    )  # fmt: skip


def errors(shares: Sequence[dict]) -> list[list[float]]:
    """How far the intervals reach below and above the shares, in percent points, as `errorbar` wants it."""
    # subtle: at 0 and 1 the interval's own end may differ from the share in the last bit, and matplotlib refuses -1e-17
    return [[max(0.0, 100 * (s["share"] - s["low"])) for s in shares], [max(0.0, 100 * (s["high"] - s["share"])) for s in shares]]


def systems_of(results: dict) -> list[str]:
    return [name for name in STYLES if name in results["systems"]]


def known_scores(results: dict, scores: Sequence[str]) -> list[str]:
    """The scores that mean something here: without a class field there is no class to get right."""
    return [score for score in scores if score != "class_right" or results["about"]["class_field"]]


def spoken_scores(results: dict, scores: Sequence[str]) -> str:
    told = {name: results["systems"][name]["scores"] for name in systems_of(results)}
    shares = (f"{score}: " + ", ".join(f"{name} {100 * told[name][score]['share']:.1f} %" for name in told) for score in scores)
    return "; ".join(shares) + "."


def described(figure: Figure, alt: str) -> Figure:
    figure.set_label(alt)
    return figure


def system_bars(axes: Axes, i: int, of: int, style: Style, shares: Sequence[dict]) -> None:
    width = 0.84 / of
    at = [group + (i - (of - 1) / 2) * width for group in range(len(shares))]
    axes.bar(
        at, [100 * s["share"] for s in shares], 0.94 * width, yerr=errors(shares), capsize=3, label=style.label,
        color=style.colour, hatch=style.hatch, edgecolor="#222222", linewidth=0.7, error_kw={"ecolor": "#222222"}, zorder=2,
    )  # fmt: skip
    for x, s in zip(at, shares, strict=True):
        axes.text(x, 100 * s["high"] + 1.5, f"{100 * s['share']:.1f}", ha="center", va="bottom", fontsize=9)

"""What stands in for the widgets where nothing interactive is shown: one figure for each, of the state that it is in."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from ftlab.plots.frame import FLOW_STYLES, STYLES, described, new_figure
from ftlab.plots.inside import drawable

_STATES = {"passed": ("#009E73", "o"), "broken": ("#D55E00", "X"), "not judged": ("#999999", "_")}
_LABELS = {"": ("#ffffff", ""), "unsure": ("#cccccc", "||"), **FLOW_STYLES}


def next_token_bars(found: Any, title: str) -> Figure:
    """The likeliest next tokens (`nexttoken.Next`), the likeliest on top, and all others together in grey."""
    names = [f"“{drawable(c.token.replace(' ', '␣'))}”" for c in found.candidates] + [f"{found.others} others"]
    shares = [100 * c.probability for c in found.candidates] + [100 * found.rest]
    figure, (axes,) = new_figure(1.3 + 0.3 * len(names))
    style = STYLES["tuned"]
    axes.barh(range(len(names)), shares, color=[style.colour] * (len(names) - 1) + ["#bbbbbb"], edgecolor="#222222", linewidth=0.7)
    for y, share in enumerate(shares):
        axes.text(share, y, f" {share:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    axes.set(xlim=(0, 1.12 * max(shares)), ylim=(len(names) - 0.4, -0.6), xlabel="probability, %")
    axes.grid(axis="y", visible=False)
    axes.set_title(drawable(f"{title} ({found.bits:.1f} bits of uncertainty)"), parse_math=False)
    told = ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, shares, strict=True))
    return described(figure, f"{title}: {told}; entropy {found.bits:.1f} bits.")


def ladder_steps(ladders: Mapping[str, Sequence[Any]], title: str) -> Figure:
    """The rungs of each system's answer (`ladder.climb`), from the bottom: passed, broken with its first fault, or not judged."""
    figure, panels = new_figure(3.6, columns=len(ladders))
    figure.suptitle(fill(drawable(title), 100), parse_math=False)
    told = []
    for axes, (name, steps) in zip(panels, ladders.items(), strict=True):
        for y, step in enumerate(steps):
            colour, marker = _STATES[step.state]
            axes.plot([0], [y], marker, color=colour, markersize=13, markeredgewidth=2)
            said = step.faults[0] if step.faults else step.limit
            text = fill(drawable(f"{step.state}: {said}" if said else step.state), 46, max_lines=2, placeholder=" …")
            axes.text(0.4, y, text, va="center", fontsize=9, parse_math=False)
        axes.set_yticks(range(len(steps)), labels=[step.rung for step in steps])
        axes.set_xticks([])
        axes.set(xlim=(-0.4, 5), ylim=(-0.6, len(steps) - 0.4))
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_title(name, parse_math=False)
        told.append(f"{name}: " + ", ".join(f"{step.rung} {step.state}" for step in steps))
    return described(figure, f"{title}. {'; '.join(told)}.")


def review_bars(found: dict, title: str) -> Figure:
    """What people said (`labelling.progress`) of the answers of each first cause by the checker; white: not labelled yet."""
    causes = list(found["by_cause"])
    figure, (axes,) = new_figure(1.8 + 0.45 * len(causes))
    left = [0] * len(causes)
    for label, (colour, hatch) in reversed(_LABELS.items()):
        counts = [found["by_cause"][cause].get(label, 0) for cause in causes]
        if sum(counts):
            name = label or "not labelled"
            axes.barh(
                range(len(causes)), counts, left=left, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.7, label=name
            )
            for y, n in enumerate(counts):
                if n > 0.02 * found["cases"]:  # narrower ones have no room for a number
                    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                    axes.text(left[y] + n / 2, y, str(n), ha="center", va="center", fontsize=9, bbox=box)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    axes.set_yticks(range(len(causes)), labels=causes)
    axes.set(ylim=(len(causes) - 0.4, -0.6), xlabel="answers", ylabel="first cause\nby the checker")
    axes.grid(axis="y", visible=False)
    axes.set_title(f"{title}, n = {found['cases']} answers", parse_math=False)
    figure.legend(loc="outside lower center", ncols=4, title="by a person")
    told = "; ".join(
        f"{cause}: " + ", ".join(f"{label or 'not labelled'} {n}" for label, n in counts.items())
        for cause, counts in found["by_cause"].items()
    )
    return described(
        figure, f"{title}, {found['labelled']} of {found['cases']} answers labelled by a person. By the checker's cause, {told}."
    )

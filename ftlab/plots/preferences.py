"""Figures of preference tuning: pairs, log-probabilities, what beta does, the best of n, learning by a reward."""

from collections.abc import Mapping, Sequence
from math import exp

from matplotlib.figure import Figure

from ftlab.plots.frame import CURVE_LINES, FLOW_STYLES, STYLES, described, interval_line, new_figure

NAMED = {"reward": "by the reward", "random": "at random", "oracle": "oracle"}
CHOSEN, REJECTED = STYLES["tuned"], STYLES["prompt"]
REWARDED = {  # what is followed while a reward is learnt: key -> (colour, marker, line, label)
    "reward": ("#222222", "o", "-", "reward"),
    "strict": (STYLES["tuned"].colour, "s", "--", "strict score"),
    "unsafe": (FLOW_STYLES["safety"][0], "X", ":", "unsafe"),
}


def pair_lengths(letters: Sequence[tuple[int, int]], title: str) -> Figure:
    """How much longer the chosen message of each pair is than the rejected one: a histogram of the differences in letters."""
    grown = [chosen - rejected for chosen, rejected in letters]
    reach = max(map(abs, grown)) + 5
    figure, (axes,) = new_figure(3.2)
    axes.hist(grown, bins=range(-reach, reach + 5, 5), color=CHOSEN.colour, edgecolor="#222222", linewidth=0.5, zorder=2)
    axes.axvline(0, color="#222222", linewidth=1.2, linestyle="--")
    axes.set(xlim=(-reach, reach), xlabel="letters of the chosen message minus letters of the rejected one", ylabel="pairs")
    axes.set_title(f"{title}, n = {len(grown)} pairs", parse_math=False)
    longer, shorter = sum(g > 0 for g in grown), sum(g < 0 for g in grown)
    for x, ha, text in ((0.99, "right", f"chosen longer: {longer}"), (0.01, "left", f"chosen shorter: {shorter}")):
        axes.text(x, 0.95, text, ha=ha, va="top", transform=axes.transAxes)
    mean = sum(grown) / len(grown)
    return described(
        figure,
        f"{title}: of {len(grown)} pairs the chosen message is longer in {longer}, shorter in {shorter}; {mean:+.1f} letters on average.",
    )


def preference_lines(runs: Mapping[str, Sequence[dict]], n: int) -> Figure:
    """How the log-probabilities of chosen and rejected replies moved while tuning, a panel for each run.

    Args:
        runs: name → the trace of `train_dpo` on held-out pairs: [{"step", "chosen_logp", "rejected_logp", "margin", "reward_accuracy"}].
        n: how many pairs were measured.
    """
    figure, panels = new_figure(4.2, columns=len(runs))
    figure.suptitle(f"Log-probabilities of whole replies while tuning, mean of n = {n} held-out pairs")
    told, ends = [], []
    for axes, (name, trace) in zip(panels, runs.items(), strict=True):
        first, last = trace[0], trace[-1]
        for key, style, line, label in (("chosen_logp", CHOSEN, "-", "chosen"), ("rejected_logp", REJECTED, "--", "rejected")):
            moved = [point[key] - first[key] for point in trace]
            axes.plot([p["step"] for p in trace], moved, line, color=style.colour, marker=style.marker, markersize=5, label=label)
            ends += moved
        axes.axhline(0, color="#222222", linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set(xlabel="optimizer steps", ylabel="change against the start, nats")
        axes.set_title(name, parse_math=False)
        axes.legend(loc="best")
        gained = [last[key] - first[key] for key in ("chosen_logp", "rejected_logp")]
        told.append(
            f"{name}: chosen {gained[0]:+.1f}, rejected {gained[1]:+.1f} nats, margin {last['margin']:.1f}, the chosen one gained more in "
            f"{100 * last['reward_accuracy']:.0f} %"
        )
    room = 0.06 * (max(ends) - min(ends))
    for axes in panels:
        axes.set_ylim(min(ends) - room, max(ends) + room)
    return described(figure, f"Change of log-probabilities, n = {n} held-out pairs. {'; '.join(told)}.")


def pair_pull(betas: Sequence[float], most: float = 40.0) -> Figure:
    """How hard a pair still pulls on the weights, σ(−β · margin), by the margin that it has reached: a line for each beta."""
    figure, (axes,) = new_figure(3.6)
    at = [most * i / 100 - 0.25 * most for i in range(126)]
    told = []
    for beta, (colour, marker, line) in zip(betas, CURVE_LINES.values(), strict=False):
        pull = [100 / (1 + exp(beta * x)) for x in at]
        axes.plot(at, pull, line, color=colour, marker=marker, markevery=25, label=f"beta {beta:g}")
        told.append(f"beta {beta:g}: {100 / (1 + exp(beta * 0.25 * most)):.0f} % at a margin of {0.25 * most:g}")
    axes.axvline(0, color="#222222", linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set(xlabel="margin over the start, nats", ylabel="pull that is left, %", ylim=(-3, 103))
    axes.set_title("How hard a pair still pulls")
    axes.legend(loc="upper right")
    return described(figure, f"Pull of a pair, sigma(-beta times margin): {'; '.join(told)}; all 50 % at a margin of 0.")


def choice_lines(found: Mapping[str, dict]) -> Figure:
    """The strict score of the reply that a reward chooses among 1 to n drawn ones, a panel for each reward (`bestofn.best_of_n`)."""
    figure, panels = new_figure(4.2, columns=len(found))
    rows = next(iter(found.values()))["rows"]
    figure.suptitle(f"Best of n, strict score, N = {rows} messages (lines: 95 % interval)")
    told = []
    looks = (("oracle", STYLES["tfidf"], ":"), ("reward", STYLES["tuned"], "-"), ("random", STYLES["prompt"], "--"))
    for axes, (name, best) in zip(panels, found.items(), strict=True):
        at = [point["n"] for point in best["table"]]
        for key, style, line in looks:
            shares = [point[key] for point in best["table"]]
            interval_line(axes, at, shares, style.colour, style.marker, line, NAMED[key])
        ends = best["table"][-1]
        spoken = (f"{label} {100 * ends[key]['share']:.0f} %" for key, label in NAMED.items())
        told.append(f"{name}: {', '.join(spoken)}")
        axes.set(ylim=(-3, 103), xticks=at, xlabel="replies to choose from", ylabel="chosen reply passes, %")
        axes.set_title(name, parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return described(figure, f"Best of {at[-1]} by different rewards, {rows} messages. {'; '.join(told)}.")


def reward_lines(curves: Mapping[str, Sequence[dict]], replies: int) -> Figure:
    """What each reward rose to while it was learnt, and what became of the strict score meanwhile: a panel for each reward.

    Args:
        curves: name → [{"step", "reward", "strict", "unsafe"}], means over the replies drawn in a step.
        replies: how many were drawn in a step.
    """
    figure, panels = new_figure(4.2, columns=len(curves))
    figure.suptitle(f"Learning by a reward, {replies} drawn replies a step")
    told = []
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        for key, (colour, marker, line, label) in REWARDED.items():
            axes.plot(
                [p["step"] for p in curve],
                [100 * p[key] for p in curve],
                line,
                color=colour,
                marker=marker,
                markersize=5,
                label=label,
            )
        axes.set(ylim=(-3, 103), xlabel="optimizer steps", ylabel="mean of the drawn replies, %")
        axes.set_title(name, parse_math=False)
        told.append(
            f"{name}: "
            + ", ".join(f"{look[3]} {100 * curve[0][key]:.0f} to {100 * curve[-1][key]:.0f} %" for key, look in REWARDED.items())
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return described(figure, f"Learning by different rewards. {'; '.join(told)}.")

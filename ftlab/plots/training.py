"""Figures of a training: what it costs token by token, rates, padding, curves of two runs, memory before the start, seeds."""

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ftlab.plots.frame import CURVE_LINES, STYLES, described, errors, new_figure
from ftlab.plots.inside import XRAY_COLUMNS, drawable
from ftlab.stats import wilson_interval

TRAINED, HELD_OUT = ("#444444", "s", "--"), (STYLES["tuned"].colour, "o", "-")  # colour, marker, line, as in `learning_curves`
LINES = tuple(CURVE_LINES.values())


def xray_compared(before: dict, after: dict, names: tuple[str, str]) -> Figure:
    """The loss of each answer token under two models, from two x-rays (`ftlab.xray.Xray.as_dict`) of the same row."""
    pairs = [
        (p["token"], p["loss"], q["loss"])
        for p, q in zip(before["rows"][0]["positions"], after["rows"][0]["positions"], strict=True)
        if p["loss"] is not None
    ]
    strips = [pairs[start : start + XRAY_COLUMNS] for start in range(0, len(pairs), XRAY_COLUMNS)]
    figure, panels = new_figure(0.9 + 1.8 * len(strips), rows=len(strips))
    top = 1.05 * max(max(a, b) for _, a, b in pairs)
    for axes, strip in zip(panels, strips, strict=True):
        at = range(len(strip))
        axes.vlines(at, [b for _, _, b in strip], [a for _, a, _ in strip], color="#999999", linewidth=1)
        for side, style in ((1, STYLES["prompt"]), (2, STYLES["tuned"])):
            name = names[side - 1]
            axes.plot(at, [pair[side] for pair in strip], style.marker, color=style.colour, markersize=6, label=name, clip_on=False)
        axes.set_xticks(
            at, labels=[drawable(token)[:12] or "∅" for token, _, _ in strip], rotation=90, fontsize=8, parse_math=False
        )
        axes.set(xlim=(-0.8, XRAY_COLUMNS - 0.2), ylim=(-0.03 * top, top), ylabel="loss, nats")
        axes.grid(axis="x", visible=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    sums = [sum(pair[side] for pair in pairs) for side in (1, 2)]
    figure.suptitle(f"Loss of each answer token of one row, n = {len(pairs)} tokens")
    told = f"{names[0]} {sums[0]:.2f} nats in all, {names[1]} {sums[1]:.2f}"
    worst = max(pairs, key=lambda pair: pair[2])
    return described(figure, f"Loss of {len(pairs)} answer tokens: {told}. The dearest for {names[1]} is {worst[0]!r}.")


def rate_points(tried: Sequence[dict], untrained: float, title: str) -> Figure:
    """What short trainings end at, by their learning rate: a point a seed, a line through the medians.

    Args:
        tried: [{"learning_rate", "seed", "loss"}].
        untrained: the loss before any step.
    """
    figure, (axes,) = new_figure(4.0)
    rates = sorted({point["learning_rate"] for point in tried})
    colour, _, line = HELD_OUT
    middles = [median(point["loss"] for point in tried if point["learning_rate"] == rate) for rate in rates]
    axes.plot(rates, middles, line, color=colour, label="median")
    for seed, marker in zip(sorted({point["seed"] for point in tried}), "os^DvP", strict=False):
        those = [point for point in tried if point["seed"] == seed]
        axes.plot([p["learning_rate"] for p in those], [p["loss"] for p in those], marker, color=colour, label=f"seed {seed}")
    axes.axhline(untrained, color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label="before training")
    axes.set(
        xscale="log", yscale="log", xlabel="learning rate (both axes logarithmic)", ylabel="held-out loss,\nnats per answer token"
    )
    axes.set_xticks(rates, labels=[f"{rate:g}" for rate in rates])
    _plain_numbers(axes.yaxis)
    axes.set_title(title, parse_math=False)
    axes.legend()
    told = ", ".join(f"{loss:.2f} at {rate:g}" for rate, loss in zip(rates, middles, strict=True))
    return described(figure, f"{title}. Median held-out loss: {told}; {untrained:.2f} before training.")


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with 0.1, 1, 10, and 2 and 5 of each between them, instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def padding_bars(steps: Mapping[str, Sequence[Sequence[int]]]) -> Figure:
    """Tokens that are computed in a pass: those of the rows and the padding to the longest row at hand, for ways to cut it into pieces.

    Args:
        steps: name → the lengths of the rows that are computed together, a list a piece.
    """
    figure, (axes,) = new_figure(1.6 + 0.6 * len(steps))
    own = [sum(map(sum, pieces)) for pieces in steps.values()]
    padding = [sum(len(piece) * max(piece) for piece in pieces) - n for pieces, n in zip(steps.values(), own, strict=True)]
    at = range(len(steps))
    axes.barh(at, own, color=STYLES["tuned"].colour, edgecolor="#222222", label="tokens of the rows")
    axes.barh(at, padding, left=own, color="#dddddd", hatch="//", edgecolor="#222222", label="padding")
    for y, n, more in zip(at, own, padding, strict=True):
        axes.text(n + more, y, f" {100 * more / (n + more):.0f} % padding", va="center")
    axes.set_yticks(at, labels=list(steps), parse_math=False)
    axes.set(xlim=(0, 1.25 * max(n + more for n, more in zip(own, padding, strict=True))), xlabel="tokens computed in a pass")
    axes.set_title(f"One pass over n = {sum(map(len, next(iter(steps.values()))))} rows")
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
    told = "; ".join(f"{name}: {n} of the rows, {more} padding" for name, n, more in zip(steps, own, padding, strict=True))
    return described(figure, f"Tokens computed in a pass. {told}.")


def run_curves(runs: Mapping[str, Sequence[dict]], held_out: int) -> Figure:
    """Loss (above) and exactly right answers (below) after each pass, a column a run, the pass of the lowest held-out loss marked.

    Args:
        runs: name → [{"epoch", "step", "train_loss", "validation_loss", "exact" as a share}].
        held_out: held-out rows.
    """
    figure, panels = new_figure(6.4, rows=2, columns=len(runs))
    every = [point[key] for curve in runs.values() for point in curve for key in ("train_loss", "validation_loss")]
    limits, last_step = (0.7 * min(every), 1.4 * max(every)), max(curve[-1]["step"] for curve in runs.values())
    told = []
    for column, (name, curve) in enumerate(runs.items()):
        losses, scores = panels[column], panels[column + len(runs)]
        steps = [point["step"] for point in curve]
        for key, label, (colour, marker, line) in (
            ("train_loss", "rows trained on", TRAINED), ("validation_loss", "held-out rows", HELD_OUT)
        ):  # fmt: skip
            losses.plot(steps, [p[key] for p in curve], line, color=colour, marker=marker, markersize=4, label=label)
        _exact_line(scores, curve, held_out)
        lowest = min(curve, key=lambda point: point["validation_loss"])
        for axes in (losses, scores):
            axes.set_xlim(0, 1.04 * last_step)
            axes.axvline(lowest["step"], color="#222222", linewidth=0.8, linestyle=(0, (2, 3)))
        losses.set(yscale="log", ylim=limits, title=name, ylabel="loss, nats per answer token\n(logarithmic)")
        _plain_numbers(losses.yaxis)
        scores.set(
            ylim=(-4, 104),
            xlabel="optimizer steps (dotted: lowest held-out loss)",
            ylabel="held-out answers exactly\nright, % (bars: 95 %)",
        )
        losses.legend()
        first, last = curve[0], curve[-1]
        told.append(
            f"{name}: training loss {first['train_loss']:.2f} to {last['train_loss']:.2f}, held-out loss lowest "
            f"{lowest['validation_loss']:.2f} at pass {lowest['epoch']} and {last['validation_loss']:.2f} at the end, "
            f"exactly right {100 * last['exact']:.0f} % at the end"
        )
    return described(figure, f"Curves of {len(runs)} trainings, n = {held_out} held-out rows. {'; '.join(told)}.")


def _exact_line(axes: Axes, curve: Sequence[dict], n: int) -> None:
    shares = []
    for point in curve:
        low, high = wilson_interval(round(point["exact"] * n), n)
        shares.append({"share": point["exact"], "low": low, "high": high})
    colour, marker, line = HELD_OUT
    steps, values = [p["step"] for p in curve], [100 * p["exact"] for p in curve]
    axes.errorbar(
        steps, values, yerr=errors(shares), color=colour, marker=marker, linestyle=line, markersize=4, elinewidth=0.7, capsize=2
    )


def memory_lines(lines: Mapping[str, Sequence[tuple[int, float]]], limit_mb: float, title: str) -> Figure:
    """Expected memory against the tokens computed at once, a line a way of training: name → [(tokens, MB)]."""
    figure, (axes,) = new_figure(4.2)
    for (name, points), (colour, marker, line) in zip(lines.items(), LINES, strict=False):
        axes.plot([t for t, _ in points], [mb / 1000 for _, mb in points], line, color=colour, marker=marker, label=name)
    axes.axhline(limit_mb / 1000, color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label=f"{limit_mb / 1000:g} GB")
    axes.set(xlabel="tokens computed at once", ylabel="expected on top of\nthe loaded model, GB", ylim=(0, None))
    axes.set_title(title, parse_math=False)
    axes.legend()
    told = "; ".join(f"{name}: " + ", ".join(f"{mb:.0f} MB at {t}" for t, mb in points) for name, points in lines.items())
    return described(figure, f"{title}. {told}.")


def predicted_and_measured(runs: Sequence[dict]) -> Figure:
    """Seconds and memory of whole runs, as they were predicted and then measured (results/cost.json); equal ones lie on the line."""
    figure, panels = new_figure(4.4, columns=2)
    told = []
    for axes, what, unit in ((panels[0], "s", "seconds"), (panels[1], "mb", "peak memory, MB")):
        top = 1.2 * max(run[f"{side}_{what}"] for run in runs for side in ("predicted", "measured"))
        axes.plot([0, top], [0, top], color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label="as predicted")
        for run, (colour, marker, _) in zip(runs, LINES, strict=False):
            predicted, measured = run[f"predicted_{what}"], run[f"measured_{what}"]
            axes.plot(predicted, measured, marker, color=colour, markersize=9, label=run["run"])
            told.append(f"{run['run']}: {predicted:.0f} {unit} predicted, {measured:.0f} measured")
        axes.set(xlim=(0, top), ylim=(0, top), xlabel=f"predicted {unit}", ylabel=f"measured {unit}")
    figure.suptitle(f"Before the start and after the end, n = {len(runs)} runs")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return described(figure, f"Predicted and measured cost of whole runs. {'; '.join(told)}.")


def seed_points(arms: Mapping[str, Sequence[float]], n: int, title: str) -> Figure:
    """One score of each training, a point a seed, in a row for each arm; beside it how far chance alone spreads scores on n rows."""
    figure, (axes,) = new_figure(1.6 + 0.6 * len(arms))
    for y, values in enumerate(arms.values()):
        low, high = wilson_interval(round(n * sum(values) / len(values)), n)
        axes.plot([100 * low, 100 * high], [y, y], color="#bbbbbb", linewidth=6, solid_capstyle="butt", zorder=1)
        axes.plot([100 * v for v in values], [y] * len(values), "o", color=STYLES["tuned"].colour, markersize=8, zorder=2)
    axes.set_yticks(range(len(arms)), labels=[f"{name} ({len(values)} seeds)" for name, values in arms.items()], parse_math=False)
    axes.set(ylim=(len(arms) - 0.4, -0.6), xlabel=f"strict score on n = {n} rows, % (grey: 95 % interval of the mean)")
    axes.set_title(title, parse_math=False)
    told = "; ".join(f"{name}: " + ", ".join(f"{100 * v:.1f} %" for v in values) for name, values in arms.items())
    return described(figure, f"{title}. {told}.")

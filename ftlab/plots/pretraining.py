"""Figures of pretraining, in the manner of `plots`: each function takes what was measured and returns a `Figure` with an alt text."""

from matplotlib.figure import Figure

from ftlab.plots.frame import described, interval_line, new_figure
from ftlab.pretrain_study import MODELS, WORTH, law_loss

TRAINED, HELD_OUT = ("#E69F00", "s", "--"), ("#0072B2", "o", "-")  # colour, marker, line
SIZE_STYLES = (("#74B3D8", "v", ":"), ("#3D8B9E", "X", "-."), ("#0072B2", "o", "--"), ("#08306B", "P", "-"))
VERDICTS = {"shown": "#009E73", "the other way round": "#D55E00"}


def pretraining_curve(lineage: dict) -> Figure:
    """Loss over the tokens seen, and recall of the invented facts by how often they were stated, with 95 % intervals."""
    training = lineage["training"]
    curve, last = training["curve"], training["curve"][-1]
    figure, panels = new_figure(4.2, columns=2 if "recall" in last else 1)
    for key, label, (colour, marker, line) in (
        ("train_loss", "text trained on, facts included", TRAINED), ("loss", "held-out text", HELD_OUT)
    ):  # fmt: skip
        panels[0].plot(
            [p["tokens"] / 1e6 for p in curve], [p[key] for p in curve], color=colour, marker=marker, linestyle=line, label=label
        )
    panels[0].set(xlabel="tokens seen, millions", ylabel="loss, nats per token")
    panels[0].set_title(f"{training['parameters'] / 1e6:.1f} M parameters from nothing")
    panels[0].legend()
    spoken = f"Held-out loss falls from {curve[0]['loss']:.2f} to {last['loss']:.2f} nats over {last['tokens']:,} tokens."
    if "recall" in last:
        spoken += _recall_panel(panels[1], last["recall"])
    return described(figure, spoken)


def _recall_panel(axes, recall: dict) -> str:
    """Draw recall by exposure; returns what it shows in words."""
    shares = recall["by_exposure"]
    interval_line(axes, range(len(shares)), list(shares.values()), *HELD_OUT, "facts recalled")
    axes.axhline(100 * recall["control"]["needed"], color="#222222", linewidth=1, linestyle="--", label="needed at the right end")
    axes.axhline(100 * recall["chance"], color="#8c8c8c", linewidth=1, linestyle=":", label="chance")
    axes.set_xticks(range(len(shares)), labels=list(shares))
    axes.set(ylim=(-4, 104), xlabel="times a fact was stated", ylabel="facts recalled, %")
    axes.set_title(f"n ≥ {min(s['n'] for s in shares.values())} facts a point (lines: 95 % interval)")
    axes.legend()
    told = ", ".join(f"{100 * s['share']:.0f} % of those stated {n} times" for n, s in shares.items())
    return f" Recalled were {told}."


def effects(results: dict) -> Figure:
    """Every effect of the studies with its 95 % interval; the grey band is too small to be worth having."""
    rows = [(f"{kind}: {name}", e) for kind, found in results.items() for name, e in found.get("effects", {}).items()]
    figure, (axes,) = new_figure(1.4 + 0.5 * len(rows))
    axes.axvspan(-WORTH, WORTH, color="#dddddd", zorder=0)
    axes.axvline(0, color="#222222", linewidth=0.8)
    for at, (_, e) in enumerate(rows):
        colour = VERDICTS.get(e["verdict"], "#777777")
        axes.errorbar(
            e["difference"],
            at,
            xerr=[[e["difference"] - e["low"]], [e["high"] - e["difference"]]],
            color=colour,
            marker="o",
            capsize=4,
        )
        axes.plot(e["by_seed"], [at + 0.18] * len(e["by_seed"]), linestyle="", marker="|", color="#222222", markersize=7)
    axes.set_yticks(range(len(rows)), labels=[name for name, _ in rows])
    axes.set(
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="loss of the one minus loss of the other, nats per token (right: the other is better)",
    )
    seeds = next((found["seeds"] for found in results.values() if "effects" in found), 0)
    axes.set_title(f"Equal compute, {seeds} seeds (strokes: single seeds, lines: 95 % interval)")
    told = "; ".join(f"{name} {e['difference']:+.2f} ({e['low']:+.2f} to {e['high']:+.2f}), {e['verdict']}" for name, e in rows)
    return described(figure, f"Effects on the loss: {told}.")


def scaling(found: dict) -> Figure:
    """Held-out loss over tokens, a line per size of model: what was measured, and the law fitted to it."""
    points, law = found["points"], [found["law"][name]["value"] for name in ("floor", "A", "a", "B", "b")]
    sizes = sorted({p["parameters"] for p in points})
    figure, (axes,) = new_figure(4.6)
    for i, size in enumerate(sizes):
        colour, marker, line = SIZE_STYLES[i % len(SIZE_STYLES)]
        own = sorted((p for p in points if p["parameters"] == size), key=lambda p: p["tokens"])
        axes.plot([p["tokens"] for p in own], [p["loss"] for p in own], color=colour, marker=marker, linestyle="")
        fitted = [law_loss(law, size, p["tokens"]) for p in own]
        axes.plot([p["tokens"] for p in own], fitted, color=colour, linestyle=line, label=f"{size / 1e6:.2f} M parameters")
    axes.set(xscale="log", yscale="log", xlabel="tokens trained on", ylabel="held-out loss, nats per token")
    axes.set_title(
        f"n = {len(points)} trainings (marks) and the fitted law (lines); error of log(loss) {found['law']['error']:.3f}"
    )
    axes.legend()
    exponents = ", ".join(
        f"{what} {found['law'][name]['value']:.2f} ({found['law'][name]['low']:.2f} to {found['law'][name]['high']:.2f})"
        for what, name in (("parameters", "a"), ("tokens", "b"))
    )
    told = f"Loss falls with parameters and tokens; the exponents are {exponents}."
    return described(figure, told + f" From here to {', '.join(MODELS)} is far outside of what was measured.")

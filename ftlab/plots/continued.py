"""Figures of continued pretraining, in the manner of `plots`."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftlab.continued_study import ALONE, DOMAIN_FIRST, GENERAL_FIRST
from ftlab.plots.frame import described, new_figure

DOMAIN, GENERAL = ("#0072B2", "o", "-"), ("#E69F00", "s", "--")  # colour, marker, line
ARMS = {DOMAIN_FIRST: ("#0072B2", "o", "-"), GENERAL_FIRST: ("#E69F00", "s", "--"), ALONE: ("#777777", "^", ":")}
TEXTS = ("domain", "general")


def continued_curve(lineage: dict) -> Figure:
    """Loss on domain and on general text over the tokens seen, from before the first step on."""
    curve, losses = lineage["training"]["curve"], lineage["losses"]
    figure, (axes,) = new_figure(4.2)
    for key, label, (colour, marker, line) in (
        ("loss", f"domain text ({lineage['corpus_name']})", DOMAIN), ("general_loss", f"general text ({lineage['general_name']})", GENERAL)
    ):  # fmt: skip
        axes.plot([p["tokens"] for p in curve], [p[key] for p in curve], color=colour, marker=marker, linestyle=line, label=label)
    axes.set(xlabel="tokens seen in continued pretraining", ylabel="held-out loss, nats per token", ylim=(0, None))
    share = lineage["config"]["general_share"]
    axes.set_title(f"{lineage['base']['model']}, {lineage['training']['tokens']:,} tokens, {share:.0%} of them general text")
    axes.legend()
    told = " and ".join(f"on {name} text from {loss['before']:.2f} to {loss['after']:.2f}" for name, loss in losses.items())
    return described(figure, f"Held-out loss goes {told} nats per token.")


def continued_effects(found: dict) -> Figure:
    """What continued pretraining did: losses before and after on both texts, and the deciding score of each arm by rows to tune on."""
    figure, panels = new_figure(4.6, columns=2)
    spoken = [_loss_panel(panels[0], found["losses"]), _score_panel(panels[1], found)]
    return described(figure, " ".join([*spoken, f"Verdict: {found['verdict']}."]))


def _loss_panel(axes: Axes, losses: dict) -> str:
    told = []
    for at, (arm, texts) in enumerate(losses.items()):
        colour, marker, line = ARMS[arm]
        for text, loss in texts.items():
            x = [TEXTS.index(text) + 0.16 * (2 * at - len(losses) + 1) / 2 + offset for offset in (-0.04, 0.04)]
            values = [loss["before"], loss["after"]]
            axes.plot(x, values, color=colour, linestyle=line, marker=marker, markersize=7, fillstyle="none", label=None)
            axes.plot(
                x[1:], values[1:], color=colour, marker=marker, markersize=7, linestyle="", label=arm if text == TEXTS[0] else None
            )
            told.append(f"{text} loss {values[0]:.2f} to {values[1]:.2f} ({arm})")
    axes.set_xticks(range(len(TEXTS)), labels=[f"{text} text" for text in TEXTS])
    axes.set(xlim=(-0.5, len(TEXTS) - 0.5), ylim=(0, None), ylabel="held-out loss, nats per token")
    axes.set_title("Loss before (hollow) and after (full)")
    axes.legend()
    return f"Held-out losses in nats per token, before and after: {', '.join(told)}."


def _score_panel(axes: Axes, found: dict) -> str:
    told, primary = [], found["primary"]
    for at, (rows, arms) in enumerate(found["arms"].items()):
        for i, (arm, scores) in enumerate(arms.items()):
            score, (colour, marker, _) = scores[primary], ARMS[arm]
            x = at + 0.2 * (i - (len(arms) - 1) / 2)
            reach = [[max(0.0, 100 * (score["mean"] - score["low"]))], [max(0.0, 100 * (score["high"] - score["mean"]))]]
            axes.errorbar(x, 100 * score["mean"], yerr=reach, color=colour, marker=marker, capsize=4, markersize=7, linestyle="",
                          label=None if at else arm)  # fmt: skip
            axes.plot(
                [x + 0.06] * len(score["by_seed"]), [100 * s for s in score["by_seed"]], color="#222222", marker="_", linestyle=""
            )
            told.append(f"{100 * score['mean']:.0f} % ({100 * score['low']:.0f} to {100 * score['high']:.0f}; {arm}, {rows} rows)")
    axes.set_xticks(range(len(found["arms"])), labels=[f"{rows} rows" for rows in found["arms"]])
    axes.set(xlim=(-0.5, len(found["arms"]) - 0.5), ylim=(0, 104), ylabel=f"{found['scores'][primary]}, %")
    axes.set_title(f"{found['seeds']} seeds, n = {found['test_rows']} (lines: 95 % interval)")
    axes.legend()
    return f"The {found['scores'][primary]} is {', '.join(told)}."

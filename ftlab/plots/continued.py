"""Figures of continued pretraining, in the manner of `plots`."""

from matplotlib.figure import Figure

from ftlab.plots.frame import described, new_figure

DOMAIN, GENERAL = ("#0072B2", "o", "-"), ("#E69F00", "s", "--")  # colour, marker, line


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

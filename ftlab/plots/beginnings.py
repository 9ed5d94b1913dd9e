"""Figures of notebook 01: what a tokenizer saves, losses while models read, losses token by token, and the bill of a large model."""

from collections.abc import Mapping, Sequence
from textwrap import shorten

from matplotlib.figure import Figure

from ftlab.plots.frame import described, interval_line, new_figure

_LINES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#7A3E9D", "D", ":"))
_MACHINES = (("#E69F00", "s"), ("#0072B2", "o"), ("#009E73", "^"))


def vocabulary_line(points: Sequence[tuple[int, float]], held_out_bytes: int) -> Figure:
    """Bytes that a token stands for, over the size of the vocabulary."""
    figure, (axes,) = new_figure(3.4)
    colour, marker, line = _LINES[0]
    axes.plot([v for v, _ in points], [b for _, b in points], color=colour, marker=marker, linestyle=line)
    axes.set_xscale("log")
    axes.set_xticks([v for v, _ in points], labels=[str(v) for v, _ in points])
    axes.minorticks_off()
    axes.set(ylim=(0, None), xlabel="tokens in the vocabulary", ylabel="bytes of text a token")
    axes.set_title(f"One tokenizer a point, on n = {held_out_bytes:,} bytes that none was made from")
    told = ", ".join(f"{v} tokens {b:.2f}" for v, b in points)
    return described(figure, f"Bytes a token by size of the vocabulary: {told}.")


def loss_lines(runs: Mapping[str, Sequence[dict]], title: str, floor: float | None = None) -> Figure:
    """Held-out loss over the tokens read, a line per run (filled marks); hollow marks: loss on what it was trained on, if measured.

    Args:
        runs: name → points with "tokens", "loss" and perhaps "train_loss".
        floor: a loss to compare with, drawn across: that of guessing evenly.
    """
    figure, (axes,) = new_figure(4.3)
    both = any("train_loss" in point for curve in runs.values() for point in curve)
    for (name, curve), (colour, marker, line) in zip(runs.items(), _LINES, strict=False):
        told = f"{name}, held out" if both else name
        axes.plot([p["tokens"] for p in curve], [p["loss"] for p in curve], color=colour, marker=marker, linestyle=line, label=told)
        seen = [p for p in curve if "train_loss" in p] if both else []
        if seen:
            axes.plot(
                [p["tokens"] for p in seen], [p["train_loss"] for p in seen], color=colour, marker=marker, linestyle=line, linewidth=0.8,
                markerfacecolor="white", label=f"{name}, trained on",
            )  # fmt: skip
    if floor is not None:
        axes.axhline(floor, color="#222222", linewidth=1, linestyle=(0, (1, 3)), label="all tokens equally likely")
    axes.set(xlabel="tokens read", ylabel="loss, nats per token", title=title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    told = "; ".join(f"{name} from {curve[0]['loss']:.2f} to {curve[-1]['loss']:.2f}" for name, curve in runs.items())
    return described(figure, f"{title}. Held-out loss in nats per token: {told}.")


def token_loss_bars(rows: Mapping[str, Sequence[tuple[str, float, bool]]]) -> Figure:
    """The loss of each token of some texts, a panel each; grey and hatched: read, but not asked for.

    Args:
        rows: title → (token, loss in nats, whether it carries a label).
    """
    figure, panels = new_figure(2.5 * len(rows), rows=len(rows))
    told = []
    for axes, (name, tokens) in zip(panels, rows.items(), strict=True):
        for wanted, colour, hatch, label in (
            (True, "#0072B2", "", "asked: counts in the loss"),
            (False, "#dddddd", "///", "only read"),
        ):
            part = [(at, loss) for at, (_, loss, is_asked) in enumerate(tokens) if is_asked == wanted]
            if part:
                axes.bar(*zip(*part, strict=True), 0.85, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.4, label=label)
        labels = [shorten(repr(token)[1:-1], 12, placeholder="…") or "␣" for token, _, _ in tokens]
        axes.set_xticks(range(len(tokens)), labels=labels, rotation=90, fontsize=7, parse_math=False)
        axes.grid(axis="x", visible=False)
        axes.set(ylabel="loss, nats", title=f"{name}: {sum(a for *_, a in tokens)} of n = {len(tokens)} tokens asked")
        axes.legend(loc="upper right")
        told.append(f"{name}: {sum(a for *_, a in tokens)} of {len(tokens)} tokens carry a label")
    return described(figure, f"Loss token by token. {'; '.join(told)}.")


def bill_lines(bill: Sequence[dict]) -> Figure:
    """Hours of pretraining on a logarithmic axis, a row per model and amount of text, a mark per machine."""
    figure, (axes,) = new_figure(1.6 + 0.42 * len(bill))
    for (colour, marker), machine in zip(_MACHINES, bill[0]["hours"], strict=False):
        hours = [row["hours"][machine] for row in bill]
        axes.plot(hours, range(len(bill)), color=colour, marker=marker, linestyle="", markersize=9, label=machine)
    for hours, name in ((1, "an hour"), (24, "a day"), (8766, "a year"), (8766e3, "1,000 years")):
        axes.axvline(hours, color="#888888", linewidth=0.8, linestyle=":")
        axes.text(hours, len(bill) - 0.42, f" {name}", fontsize=8, color="#444444", va="bottom")
    axes.set_yticks(range(len(bill)), labels=[f"{row['model']}, {row['why']}" for row in bill])
    axes.set(xscale="log", ylim=(len(bill) - 0.4, -0.6), xlabel="hours of computing")
    axes.set_title("6 × parameters × tokens, divided by what a machine computes a second")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(f"{r['model']}, {r['why']}: " + ", ".join(f"{m} {h:.2g}" for m, h in r["hours"].items()) for r in bill)
    return described(figure, f"Hours of pretraining: {told}.")


def recall_lines(curve: Sequence[dict], exposures: Sequence[str], needed: float, chance: float) -> Figure:
    """Share of the planted facts that are recalled, over the tokens read, a line per number of statements, with 95 % intervals."""
    figure, (axes,) = new_figure(4.0)
    for often, style in zip(exposures, _LINES, strict=False):
        shares = [point["recall"]["by_exposure"][often] for point in curve]
        interval_line(axes, [p["tokens"] / 1e6 for p in curve], shares, *style, f"stated {often} times (n = {shares[0]['n']})")
    axes.axhline(100 * needed, color="#222222", linewidth=1, linestyle="--", label="what the control asks")
    axes.axhline(100 * chance, color="#8c8c8c", linewidth=1, linestyle=":", label="a guess")
    axes.set(ylim=(-4, 104), xlabel="tokens read, millions", ylabel="facts recalled, %")
    axes.set_title("Planted facts, asked for while the model reads (lines: 95 % interval)")
    axes.legend(loc="upper left")
    last = curve[-1]["recall"]["by_exposure"]
    told = "; ".join(f"stated {often} times {100 * last[often]['share']:.0f} %" for often in exposures)
    return described(figure, f"Facts recalled at the end: {told}.")

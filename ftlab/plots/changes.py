"""Figures of what a training changed: the update matrix by matrix, its directions, ways of tuning side by side, strength and its price."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftlab.plots.frame import STYLES, described, errors, new_figure
from ftlab.updates import in_layers

_LOOKS = tuple(
    (style.colour, style.marker, line) for style, line in zip(STYLES.values(), (":", "--", "-.", "-", (0, (5, 1))), strict=True)
)
_TUNED = STYLES["tuned"]
_KINDS = {"task": ("o", "#222222"), "general": ("^", "white")}  # marker and what fills it: colours are the trainings'


def update_map(matrices: Sequence[dict], title: str) -> Figure:
    """The size of the update of each matrix, layers down and kinds of matrices across, in per cent of the weights' own norm.

    Args:
        matrices: of `ftlab.inside.inspect`; what is in no layer, and what is no matrix, is left out.
    """
    inside = {(m["layer"], m["kind"]): 100 * m["relative_norm"] for m in in_layers(matrices)}
    layers, kinds = sorted({layer for layer, _ in inside}), list(dict.fromkeys(kind for _, kind in inside))
    figure, (axes,) = new_figure(1.5 + (0.4 if len(layers) <= 12 else 0.21) * len(layers))
    top = max(inside.values()) or 1.0
    axes.imshow([[inside[layer, kind] for kind in kinds] for layer in layers], cmap="Blues", vmin=0, vmax=1.25 * top, aspect="auto")
    for (layer, kind), size in inside.items():
        at = kinds.index(kind), layers.index(layer)
        axes.text(*at, f"{size:.1f}", ha="center", va="center", fontsize=8, color="white" if size > 0.7 * top else "#222222")
    axes.set_xticks(range(len(kinds)), labels=[kind.rpartition(".")[2] for kind in kinds], parse_math=False)
    axes.set_yticks(range(len(layers)), labels=[str(layer) for layer in layers])
    axes.grid(visible=False)
    axes.set(ylabel="layer", xlabel=f"size of the update, % of the weights' norm, n = {len(inside)} matrices")
    axes.set_title(title, parse_math=False)
    (low, least), (high, most) = (pick(inside.items(), key=lambda item: item[1]) for pick in (min, max))
    told = f"from {least:.1f} % (layer {low[0]}, {low[1]}) to {most:.1f} % (layer {high[0]}, {high[1]})"
    return described(figure, f"{title}. Size of the update of {len(inside)} matrices, {told}.")


def singular_lines(updates: Mapping[str, Sequence[float]], title: str) -> Figure:
    """How strongly each direction of an update counts: its singular values as shares of the largest, a line an update."""
    figure, (axes,) = new_figure(3.8)
    told = []
    for (name, values), (colour, marker, line) in zip(updates.items(), (_LOOKS[3], _LOOKS[1], _LOOKS[2]), strict=False):
        shares = [100 * value / values[0] for value in values if value > 1e-4 * values[0]]
        axes.plot(
            range(1, len(shares) + 1),
            shares,
            linestyle=line,
            color=colour,
            marker=marker,
            markersize=4,
            label=f"{name}, n = {len(shares)}",
        )
        told.append(f"{name}: {len(shares)} directions above a ten-thousandth of the largest")
    axes.set(xlabel="direction, the strongest first", ylabel="strength, % of the strongest", ylim=(0, 105))
    axes.set_title(title, parse_math=False)
    axes.legend()
    return described(figure, f"{title}. {'; '.join(told)}.")


def method_bars(ways: Mapping[str, dict]) -> Figure:
    """Ways of tuning side by side (`ftlab.course.outcomes.scope`): numbers trained, weights touched, size and directions of the update."""
    figure, panels = new_figure(1.6 + 0.42 * len(ways), columns=4)
    parts = (
        ("trained", 1, "numbers trained\n(logarithmic)", "{:,.0f}"), ("changed", 100, "weights in matrices\nthat changed, %", "{:.0f}"),
        ("strength", 100, "size of the update,\n% of the weights", "{:.1f}"), ("rank", 1, "most directions\n(effective rank)", "{:.1f}"),
    )  # fmt: skip
    for axes, (key, scale, label, form) in zip(panels, parts, strict=True):
        values = [scale * facts[key] for facts in ways.values()]
        axes.barh(range(len(ways)), values, 0.7, color=_TUNED.colour, edgecolor="#222222", linewidth=0.7)
        for y, value in enumerate(values):
            axes.text(value, y, f" {form.format(value)}", va="center", fontsize=9)
        if key == "trained":
            axes.set(xscale="log", xlim=(min(values) / 3, 60 * max(values)))
        else:
            axes.set_xlim(0, 1.45 * max(values))
        axes.set(ylim=(len(ways) - 0.4, -0.6), xlabel=label)
        axes.set_yticks(range(len(ways)), labels=list(ways) if axes is panels[0] else [""] * len(ways), parse_math=False)
        axes.grid(axis="y", visible=False)
    figure.suptitle(f"n = {len(ways)} ways to tune one model, one training each")
    told = "; ".join(
        f"{name}: {facts['trained']:,} numbers trained, {100 * facts['changed']:.0f} % of the weights in changed matrices, size "
        f"{100 * facts['strength']:.1f} %, effective rank up to {facts['rank']:.1f}"
        for name, facts in ways.items()
    )
    return described(figure, f"Ways of tuning. {told}.")


def strength_price(points: Sequence[dict], untuned: dict, title: str) -> Figure:
    """What ever stronger tuning wins on its task (left) and costs elsewhere (right), by the size of the update.

    Args:
        points: [{"way", "rate", "strength", "task": loss in nats, "general": loss in nats}], each way from gentle to strong.
        untuned: "task" and "general" of the base.
    """
    figure, panels = new_figure(4.0, columns=2)
    ways = list(dict.fromkeys(point["way"] for point in points))
    for axes, key, label in (
        (panels[0], "task", "loss on held-out orders,\nnats (logarithmic)"),
        (panels[1], "general", "loss on general text, nats"),
    ):
        for way, (colour, marker, line) in zip(ways, (_LOOKS[3], _LOOKS[1], _LOOKS[2]), strict=False):
            those = [point for point in points if point["way"] == way]
            axes.plot(
                [100 * p["strength"] for p in those],
                [p[key] for p in those],
                linestyle=line,
                color=colour,
                marker=marker,
                markersize=8,
                label=way,
            )
            for p in those:
                beside = {"xytext": (5, 5 if way == ways[0] else -12), "textcoords": "offset points"}
                axes.annotate(f"{p['rate']:g}", (100 * p["strength"], p[key]), fontsize=8, **beside)
        axes.axhline(untuned[key], color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label="untuned")
        axes.set(xlabel="size of the update, % of the weights", ylabel=label, xlim=(0, None))
    panels[0].set_yscale("log")
    figure.suptitle(f"{title} (beside the points: learning rates)", parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{p['way']} at {p['rate']:g}: size {100 * p['strength']:.1f} %, task loss {p['task']:.3f}, general loss {p['general']:.2f}"
        for p in points
    )
    return described(figure, f"{title}. Untuned: task {untuned['task']:.2f}, general {untuned['general']:.2f}. {told}.")


def reach_figure(seen: Mapping[str, dict]) -> Figure:
    """How far trainings of one base reach: token choices that changed, and the likeness of states by layer on both kinds of text.

    Args:
        seen: name → result of `ftlab.inside.compare` with the kinds "task" and "general".
    """
    figure, (choices, task, general) = new_figure(4.2, columns=3)
    for i, (kind, (marker, filled)) in enumerate(_KINDS.items()):
        shares = [found["choices"][kind]["changed"] for found in seen.values()]
        at = [y + 0.24 * (i - 0.5) for y in range(len(seen))]
        n = next(iter(seen.values()))["choices"][kind]["texts"]
        choices.errorbar(
            [100 * s["share"] for s in shares], at, xerr=errors(shares), fmt=marker, color="#222222", markerfacecolor=filled, markersize=8,
            capsize=3, label=f"{kind}, n = {n} texts",
        )  # fmt: skip
    choices.set_yticks(range(len(seen)), labels=[name.replace(", ", ",\n") for name in seen], parse_math=False)
    choices.set(xlim=(-3, 103), ylim=(len(seen) - 0.4, -0.6), xlabel="token choices changed, %\n(lines: 95 %)")
    lowest = min(point["low"] for found in seen.values() for kind in _KINDS for point in found["similarity"][kind])
    for axes, kind in ((task, "task"), (general, "general")):
        _likeness(axes, {name: found["similarity"][kind] for name, found in seen.items()})
        axes.set(title=f"{kind} text", xlabel="layer (0: the embedding)", ylabel="likeness of states, CKA" if axes is task else "")
        axes.set_ylim(lowest - 0.03, 1.02)
    figure.legend(*choices.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    figure.legend(*task.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    told = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{100 * found['choices'][kind]['changed']['share']:.0f} % of the choices changed on {kind} text, last likeness "
            f"{found['similarity'][kind][-1]['cka']:.2f}"
            for kind in _KINDS
        )
        for name, found in seen.items()
    )
    return described(figure, f"How far trainings reach. {told}.")


def _likeness(axes: Axes, lines: Mapping[str, Sequence[dict]]) -> None:
    """A line over the layers for each training, with the band of its interval."""
    for (name, points), (colour, marker, line) in zip(lines.items(), (_LOOKS[3], _LOOKS[1], _LOOKS[2], _LOOKS[4]), strict=False):
        at = [p["layer"] for p in points]
        axes.plot(at, [p["cka"] for p in points], linestyle=line, color=colour, marker=marker, markersize=5, label=name)
        axes.fill_between(at, [p["low"] for p in points], [p["high"] for p in points], color=colour, alpha=0.15)
    axes.set_xticks(at)

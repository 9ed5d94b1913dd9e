"""Figures of a batch as the trainer sees it, and of what training changed inside a model."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftlab.plots.frame import FLOW_STYLES, STYLES, described, errors, new_figure
from ftlab.updates import in_layers

XRAY_COLUMNS = 48  # tokens in one strip: with more, their names cannot be read


UPWARD, DOWNWARD = (STYLES["tuned"].colour, ""), (FLOW_STYLES["instruction"][0], "//")  # made likelier, made less likely


KIND_MARKERS = "osv^DPX*<>"


def xray_figure(found: dict) -> Figure:
    """The loss of each token of an x-ray (`ftlab.xray.Xray.as_dict`), in strips: a bar above the line, its weight below; grey: no loss."""
    strips = [
        (row, row["positions"][start : start + XRAY_COLUMNS])
        for row in found["rows"]
        for start in range(0, len(row["positions"]), XRAY_COLUMNS)
    ]
    figure, panels = new_figure(0.5 + 1.75 * len(strips), rows=len(strips))
    figure.suptitle(f"Loss by token (below the line: weight; grey: none), {found['trainer']}, {found['model']}", parse_math=False)
    trained = [p for row in found["rows"] for p in row["positions"] if p["loss"] is not None]
    heaviest, top = max(abs(p["weight"]) for p in trained), max(p["loss"] for p in trained)
    top = 1.05 * max(top, 1e-6)
    for axes, (row, positions) in zip(panels, strips, strict=True):
        _xray_strip(axes, positions, 0.25 * top / heaviest)
        name = row["row"] if row["name"] == "row" else f"{row['row']}\n{row['name']}"
        axes.set_ylabel(f"{name}\nloss, nats", parse_math=False, fontsize=9)
        axes.set(ylim=(-0.28 * top, top), xlim=(-0.8, XRAY_COLUMNS - 0.2))
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    told = "; ".join(
        f"{row['row']} {row['name']}: {sum(p['loss'] is not None for p in row['positions'])} of {len(row['positions'])} tokens with loss, "
        f"{sum(p['loss'] or 0 for p in row['positions']):.2f} nats in all"
        for row in found["rows"]
    )
    return described(figure, f"Loss by token, {found['trainer']}, losses of {found['model']}: {told}.")


def _xray_strip(axes: Axes, positions: Sequence[dict], scale: float) -> None:
    axes.axhline(0, color="#222222", linewidth=0.7)
    for x, p in enumerate(positions):
        if p["loss"] is None:
            axes.axvspan(x - 0.5, x + 0.5, color="#eeeeee", zorder=0)
            continue
        colour, hatch = UPWARD if p["weight"] >= 0 else DOWNWARD
        axes.bar(x, p["loss"], 0.8, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.5, zorder=2)
        axes.bar(x, -scale * abs(p["weight"]), 0.5, color="#bbbbbb" if p["weight"] >= 0 else colour, zorder=2)
    tokens = [drawable(p["token"])[:12] or "∅" for p in positions]
    axes.set_xticks(range(len(positions)), labels=tokens, rotation=90, fontsize=8, parse_math=False)
    axes.grid(axis="x", visible=False)


def drawable(text: str) -> str:
    """A text with a box for each letter that matplotlib's own font does not have, and a sign for the end of a line."""
    known = [(0x20, 0x7F), (0xA0, 0x590), (0x1E00, 0x2100), (0x2190, 0x2300), (0x2422, 0x2424), (0x2500, 0x2700)]
    return "".join(c if any(a <= ord(c) < b for a, b in known) else "□" for c in text.replace("\n", "↵"))


def inspection_figure(result: dict) -> Figure:
    """What training changed, from the result of `ftlab.inside.inspect`: size and rank of the updates by layer, the likeness of states by
    layer, and the share of token choices that changed."""
    figure, (sizes, ranks, states, choices) = new_figure(8.4, rows=2, columns=2)
    figure.suptitle(f"{result['before']} → {result['after']}", parse_math=False)
    matrices = in_layers(result["matrices"])
    for axes, key, scale, label in (
        (sizes, "relative_norm", 100, "size of the update, % of the weights' norm"),
        (ranks, "effective_rank", 1, "effective rank of the update"),
    ):
        _kind_lines(axes, matrices, key, scale)
        axes.set(xlabel="layer", ylabel=label, ylim=(0, None))
    figure.legend(*ranks.get_legend_handles_labels(), loc="outside lower center", ncols=7, title="above: kinds of matrices")
    looks = {"task": ("tuned", "-"), "general": ("prompt", "--")}
    for kind, points in result["similarity"].items():
        style, line = STYLES[looks[kind][0]], looks[kind][1]
        at, n = [p["layer"] for p in points], result["choices"][kind]["texts"]
        states.plot(at, [p["cka"] for p in points], line, color=style.colour, marker=style.marker, label=f"{kind}, n = {n} texts")
        states.fill_between(at, [p["low"] for p in points], [p["high"] for p in points], color=style.colour, alpha=0.2)
    states.set(xlabel="layer (0: the embedding)", ylabel="linear CKA of the states (bands: 95 %)")
    states.legend(loc="lower left")
    _choice_bars(choices, result["choices"], looks)
    told = "; ".join(
        f"{kind}: {100 * c['changed']['share']:.1f} % of the choices changed, {100 * c['outside_top_3']['share']:.1f} % to a token outside "
        f"the three likeliest, likeness after the last layer {result['similarity'][kind][-1]['cka']:.3f}"
        for kind, c in result["choices"].items()
    )
    return described(figure, f"What changed from {result['before']} to {result['after']}: {told}.")


def _kind_lines(axes: Axes, matrices: Sequence[dict], key: str, scale: float) -> None:
    """A line over the layers for each kind of matrix."""
    for i, kind in enumerate(dict.fromkeys(m["kind"] for m in matrices)):
        points = [(m["layer"], scale * m[key]) for m in matrices if m["kind"] == kind and m[key] is not None]
        marker, grey = KIND_MARKERS[i % len(KIND_MARKERS)], f"C{i % 10}"
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, linewidth=1, color=grey, label=kind.rpartition(".")[2])


def _choice_bars(axes: Axes, choices: dict, looks: dict) -> None:
    names = {"changed": "another token\nis likeliest", "outside_top_3": "… outside the three\nlikeliest before"}
    for i, (kind, found) in enumerate(choices.items()):
        shares, style = [found[name] for name in names], STYLES[looks[kind][0]]
        at = [x + 0.4 * (i - 0.5) for x in range(len(names))]
        label = f"{kind}, {found['positions']} places"
        axes.bar(
            at, [100 * s["share"] for s in shares], 0.36, yerr=errors(shares), capsize=3, color=style.colour, hatch=style.hatch,
            edgecolor="#222222", linewidth=0.7, label=label, zorder=2,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), labels=names.values())
    axes.set(ylabel="share of places, % (lines: 95 %)", ylim=(0, None))
    axes.legend(loc="upper right")

"""Figures that the course's notebooks draw: checks, labellings, power, failures, data and its faults."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import comb
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from ftlab.checks import CAUSE_ORDER
from ftlab.plots.frame import CURVE_LINES, FLOW_STYLES, STYLES, described, errors, interval_line, new_figure, system_bars
from ftlab.stats import Share, detectable_difference, share, wilson_interval

SEES = {"answer": "o", "message": "s", "label": "^", "people": "D"}  # what decides, and its marker


def deciders(checks: Sequence[dict], people: Sequence[str] = ()) -> Figure:
    """Each check of a task (`checks.checklist`) by what it has to see beside the answer, and what only people decide."""
    often = Counter((c["rung"], c["code"]) for c in checks)  # one name may stand for checks of several fields
    where = [f" ({c['path']})" if often[c["rung"], c["code"]] > 1 else "" for c in checks]
    lines = [(f"{c['rung']}: {c['code']}{place}", c["sees"]) for c, place in zip(checks, where, strict=True)]
    lines += [(wish, "people") for wish in people]
    counts = {kind: sum(sees == kind for _, sees in lines) for kind in SEES}
    heads = ("the answer\nalone", "… and the\nmessage", "… and the\nlabel", "only\npeople")
    figure, (axes,) = new_figure(1.2 + 0.3 * len(lines))
    for at, (kind, marker) in enumerate(SEES.items()):
        there = [i for i, (_, sees) in enumerate(lines) if sees == kind]
        colour = STYLES["prompt" if kind == "people" else "tuned"].colour
        axes.plot([at] * len(there), there, marker, color=colour, markersize=9, clip_on=False)
    axes.set_xticks(range(len(SEES)), labels=[f"{head}\n({n})" for head, n in zip(heads, counts.values(), strict=True)])
    axes.set_yticks(range(len(lines)), labels=[name for name, _ in lines], parse_math=False)
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.5, len(SEES) - 0.5), ylim=(len(lines) - 0.5, -0.5))
    told = "; ".join(f"{kind}: {', '.join(name for name, sees in lines if sees == kind) or 'none'}" for kind in SEES)
    return described(figure, f"What decides each of {len(lines)} demands of a task. {told}.")


def label_matrix(first: Sequence[str], second: Sequence[str], title: str) -> Figure:
    """How often one labeller's label met each of the other's: agreement stands on the diagonal."""
    names, n = sorted(set(first) | set(second)), len(first)
    counts = [[sum(a == row and b == column for a, b in zip(first, second, strict=True)) for column in names] for row in names]
    figure, (axes,) = new_figure(1.6 + 0.55 * len(names))
    top = max(map(max, counts))
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=1.4 * top, aspect="auto")
    axes.grid(visible=False)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            axes.text(x, y, str(count) if count else "·", ha="center", va="center", weight="bold" if x == y else "normal")
    axes.set_xticks(range(len(names)), labels=names, parse_math=False)
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    axes.set(xlabel="second labelling", ylabel="first labelling")
    axes.set_title(f"{title}, n = {n} rows", parse_math=False)
    pairs = [(a, b, counts[y][x]) for y, a in enumerate(names) for x, b in enumerate(names) if a != b and counts[y][x]]
    same = sum(counts[i][i] for i in range(len(names)))
    told = "; ".join(f"{a} against {b} {count}" for a, b, count in pairs)
    return described(figure, f"{title}: two labellings agree on {same} of {n} rows. They differ: {told or 'nowhere'}.")


def rows_curves(sizes: Sequence[int], share: float, discordant: Sequence[float]) -> Figure:
    """What a test of each size can tell: left the width of a share's 95 % interval, right the smallest difference of two models that a
    paired test finds four times in five, a line for each share of rows on which they differ."""
    figure, (left, right) = new_figure(4.2, columns=2)
    widths = [[100 * x for x in wilson_interval(round(share * n), n)] for n in sizes]
    left.plot(sizes, [high - low for low, high in widths], color="#222222", marker="o")
    left.set(ylabel="width of the 95 % interval, points", title=f"One model that passes {100 * share:.0f} %")
    told = []
    for part, (colour, marker, line) in zip(discordant, CURVE_LINES.values(), strict=False):
        found = [(n, detectable_difference(n, part)) for n in sizes]
        points = [(n, 100 * difference) for n, difference in found if difference is not None]
        right.plot(
            *zip(*points, strict=True), line, color=colour, marker=marker, label=f"they differ on {100 * part:.0f} % of rows"
        )
        told += [f"differing on {100 * part:.0f} %: " + ", ".join(f"{d:.1f} points at {n} rows" for n, d in points)]
    right.set(ylabel="smallest difference found\n4 times in 5, points", title="Two models on the same rows")
    right.legend()
    for axes in (left, right):
        axes.set(xscale="log", ylim=(0, None), xlabel="rows in the test set")
        axes.set_xticks(sizes, labels=[str(n) for n in sizes])
        axes.minorticks_off()
    spoken = ", ".join(f"{high - low:.1f} points at {n} rows" for n, (low, high) in zip(sizes, widths, strict=True))
    return described(figure, f"Interval width of one model: {spoken}. Smallest difference found: {'; '.join(told)}.")


def reliability(calibrations: dict[str, dict], title: str) -> Figure:
    """Stated confidence against how often it was right, a panel per system (`stats.calibration`), with the intervals of the bins."""
    figure, panels = new_figure(4.4, columns=len(calibrations))
    figure.suptitle(title)
    told = []
    for axes, (name, found) in zip(panels, calibrations.items(), strict=True):
        shares, at = [], [100 * b["confidence"] for b in found["bins"]]
        for b in found["bins"]:
            low, high = wilson_interval(round(b["hit_rate"] * b["n"]), b["n"])
            shares.append({"share": b["hit_rate"], "low": low, "high": high})
        axes.plot([0, 100], [0, 100], color="#222222", linewidth=0.9, linestyle=(0, (2, 3)), label="stated = true")
        axes.axhline(100 * found["base_rate"], color="#777777", linewidth=0.9, label="right overall")
        interval_line(axes, at, shares, STYLES["tuned"].colour, "o", "", "rows of one bin")
        axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="stated confidence, %", ylabel="right, % (lines: 95 % interval)")
        axes.set_title(f"{name}, n = {found['n']}", parse_math=False)
        axes.legend(loc="upper left")
        points = ", ".join(f"{100 * b['confidence']:.0f} stated {100 * b['hit_rate']:.0f} right" for b in found["bins"])
        told.append(f"{name}, n = {found['n']}: {points}")
    return described(figure, f"{title}. In per cent: {'; '.join(told)}.")


def share_points(shares: dict[str, dict], title: str, unit: str) -> Figure:
    """Named shares as points with their 95 % intervals, one below the other; n stands beside each name."""
    names = list(shares)
    figure, (axes,) = new_figure(1.5 + 0.5 * len(names))
    at, found = [100 * s["share"] for s in shares.values()], list(shares.values())
    axes.errorbar(
        at, range(len(names)), xerr=errors(found), fmt="o", color=STYLES["tuned"].colour, markersize=8, capsize=3, clip_on=False
    )
    axes.set_yticks(range(len(names)), labels=[f"{name} (n = {shares[name]['n']})" for name in names], parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel=f"share {unit}, % (lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    told = "; ".join(f"{name} {100 * s['share']:.1f} % of {s['n']}" for name, s in shares.items())
    return described(figure, f"{title}, share {unit}: {told}.")


def refusal_plane(systems: dict[str, tuple[dict, dict]]) -> Figure:
    """Each system by two faults at once: name → (share of allowed requests turned down, share of forbidden ones complied with)."""
    figure, (axes,) = new_figure(4.2)
    for (name, (over, complied)), style in zip(systems.items(), STYLES.values(), strict=False):
        x, y = 100 * over["share"], 100 * complied["share"]
        axes.errorbar(
            x, y, xerr=errors([over]), yerr=errors([complied]), fmt=style.marker, color=style.colour, markersize=9, capsize=3,
            clip_on=False, label=name,
        )  # fmt: skip
    (over, complied), *_ = systems.values()
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel=f"allowed requests turned down, % of {over['n']}")
    axes.set(
        ylabel=f"forbidden requests complied\nwith, % of {complied['n']}",
        title="Two ways to be wrong about refusing (lines: 95 % interval)",
    )
    axes.legend(loc="center right")
    told = "; ".join(
        f"{n} turns down {100 * o['share']:.1f} %, complies with {100 * c['share']:.1f} %" for n, (o, c) in systems.items()
    )
    return described(figure, f"Over-refusal against compliance: {told}.")


def baseline_growth(points: Sequence[dict], rows_scored: int) -> Figure:
    """What a baseline gains from more labelled rows, a line per score.

    Args:
        points: [{"rows": training rows, "scores": shares by name}].
        rows_scored: how many rows each point was scored on.
    """
    scores = ("class_right", "values_right", "strict")
    figure, (axes,) = new_figure(4.0)
    for i, score in enumerate(scores):
        interval_line(
            axes, [p["rows"] * 1.03 ** (i - 1) for p in points], [p["scores"][score] for p in points], *CURVE_LINES[score], score
        )
    axes.set_xscale("log")
    axes.set_xticks([p["rows"] for p in points], labels=[str(p["rows"]) for p in points])
    axes.minorticks_off()
    axes.set(ylim=(-4, 104), xlabel="labelled training rows", ylabel="share of rows, %")
    axes.set_title(f"TF-IDF by training rows, same n = {rows_scored} validation rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{p['rows']} rows: " + ", ".join(f"{s} {100 * p['scores'][s]['share']:.1f} %" for s in scores) for p in points
    )
    return described(figure, f"Line chart of a baseline's scores on {rows_scored} validation rows by training rows. {told}.")


def paired_differences(tests: Mapping[str, dict], before: str, after: str) -> Figure:
    """The difference of two systems on the same rows, a line per score, with its interval, the rows that differ and p.

    Args:
        tests: score → what `evaluate.paired_intervals` says of it.
    """
    n = next(iter(tests.values()))["n"]
    figure, (axes,) = new_figure(1.4 + 0.55 * len(tests))
    for y, test in enumerate(reversed(tests.values())):
        at, ends = (
            100 * test["difference"],
            [[100 * (test["difference"] - test["low"])], [100 * (test["high"] - test["difference"])]],
        )
        sure = test["p"] < 0.05
        axes.errorbar(
            [at], [y], xerr=ends, fmt="o" if sure else "D", color=STYLES["tuned"].colour, markerfacecolor=None if sure else "white",
            markersize=8, capsize=4,
        )  # fmt: skip
        told = f"{test['gained']} only {after}, {test['lost']} only {before}, p = {test['p']:.2g}"
        axes.text(1.01, y, told, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.axvline(0, color="#222222", linewidth=1)
    axes.set_yticks(range(len(tests)), labels=list(reversed(tests)))
    axes.set(
        ylim=(-0.6, len(tests) - 0.4), xlabel=f"{after} minus {before}, percentage points (lines: 95 % interval; filled: p < 0.05)"
    )
    axes.set_title(f"{after} against {before}, same n = {n} rows")
    spoken = "; ".join(f"{name} {100 * t['difference']:+.1f} points, p = {t['p']:.2g}" for name, t in tests.items())
    return described(figure, f"Paired differences, {after} minus {before}, on {n} rows: {spoken}.")


def cause_bars(evaluations: Mapping[str, dict]) -> Figure:
    """The share of all rows that fail by each first cause, with intervals, a bar per system."""
    systems = [name for name in STYLES if name in evaluations]
    n = evaluations[systems[0]]["n"]
    figure, (axes,) = new_figure(4.0)
    for i, name in enumerate(systems):
        system_bars(axes, i, len(systems), STYLES[name], [evaluations[name]["first_causes"][cause] for cause in CAUSE_ORDER])
    axes.set_xticks(range(len(CAUSE_ORDER)), labels=CAUSE_ORDER)
    axes.set(ylim=(0, 113), yticks=range(0, 101, 25), ylabel="share of rows, %", xlabel="first cause of failure, the gravest first")
    axes.set_title(f"What the failing rows fail by, same n = {n} rows (bars: share, lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{c} {100 * evaluations[name]['first_causes'][c]['share']:.1f} %" for c in CAUSE_ORDER)
        for name in systems
    )
    return described(figure, f"Bar chart of first causes of failure on {n} rows. {told}.")


def chance_lead(test: dict, before: str, after: str) -> Figure:
    """What leads two equally good systems would show on as many differing rows, and the lead that was seen; its tail is p.

    Args:
        test: what `mcnemar_exact` says.

    Raises:
        ValueError: the systems differ on no row.
    """
    m, seen = test["gained"] + test["lost"], test["gained"] - test["lost"]
    if not m:
        raise ValueError("chance_lead: expected rows on which the systems differ, found none.")
    leads = range(-m, m + 1, 2)
    far = [abs(lead) >= abs(seen) for lead in leads]
    chance = [100 * comb(m, i) / 2**m for i in range(m + 1)]
    figure, (axes,) = new_figure(3.4)
    for is_far, colour, hatch, label in (
        (False, "#f4f4f4", "", "nearer to a tie than what was seen"),
        (True, "#b5b5b5", "//", "as far from a tie or further: together p"),
    ):
        bars = [(lead, c) for lead, c, f in zip(leads, chance, far, strict=True) if f == is_far]
        axes.bar(*(zip(*bars, strict=True) if bars else ((), ())), 1.7, color=colour, hatch=hatch, edgecolor="#222222", label=label)
    axes.axvline(seen, color=STYLES["tuned"].colour, linewidth=2.5, linestyle="--", label=f"seen: {seen:+d} rows")
    reach = max(abs(seen) + 2, round(4 * m**0.5))
    axes.set(xlim=(-reach, reach), xlabel=f"lead of {after} over {before}, rows", ylabel="chance, %")
    axes.set_title(f"Leads by chance alone on {m} differing rows of n = {test['n']}; p = {test['p']:.2g}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    told = f"Seen: {seen:+d} rows on {m} differing rows of {test['n']}; chance alone goes as far with p = {test['p']:.2g}."
    return described(figure, f"Bar chart of leads by chance of {after} over {before}. {told}")


def forced_against_written(points: Sequence[dict], rows_scored: int) -> Figure:
    """Share of pieces guessed right with the right beginning given, against what the written answers are worth.

    Args:
        points: [{"order": pieces looked back, "forced": share of pieces, "scores": shares of the written answers by name}].
        rows_scored: how many rows each point was scored on.
    """
    figure, (axes,) = new_figure(4.0)
    at = range(len(points))
    axes.plot(at, [100 * p["forced"] for p in points], "--", marker="s", color="#444444", label="pieces right, beginning given")
    for i, score in enumerate(("schema_valid", "strict")):
        colour, marker, line = CURVE_LINES[score]
        interval_line(
            axes,
            [x + 0.06 * (i + 1) for x in at],
            [p["scores"][score] for p in points],
            colour,
            marker,
            line,
            f"{score}, written alone",
        )
    axes.set_xticks(at, labels=[str(p["order"]) for p in points])
    axes.set(ylim=(-4, 104), xlabel="how many pieces the guesser looks back", ylabel="share, %")
    axes.set_title(f"A guesser that never reads the message, n = {rows_scored} validation rows (lines: 95 % interval)")
    figure.legend(loc="outside lower center", ncols=3)
    told = "; ".join(
        f"{p['order']} back: {100 * p['forced']:.1f} % of pieces, {100 * p['scores']['schema_valid']['share']:.1f} % schema_valid, "
        f"{100 * p['scores']['strict']['share']:.1f} % strict"
        for p in points
    )
    return described(figure, f"Line chart of pieces guessed right against scores of written answers on {rows_scored} rows. {told}.")


def agreement_bars(passing: Sequence[float], failing: Sequence[float]) -> Figure:
    """How far the outputs of passing and of failing rows agree with the labels' texts: two histograms on one scale."""
    figure, panels = new_figure(4.2, rows=2)
    edges = [i / 20 for i in range(21)]
    for axes, name, values, cause in ((panels[0], "pass", passing, "pass"), (panels[1], "fail", failing, "knowledge")):
        colour, hatch = FLOW_STYLES[cause]
        axes.hist(values, bins=edges, color=colour, hatch=hatch, edgecolor="#222222", linewidth=0.7)
        axes.set(xlim=(0, 1), ylabel="rows", title=f"rows that {name} the strict check, n = {len(values)}")
    panels[1].set_xlabel("agreement of the output's text with the label's text (1: the same)")
    means = [sum(values) / len(values) for values in (passing, failing)]
    told = (f"{len(v)} {k} rows, mean {m:.2f}" for v, k, m in zip((passing, failing), ("passing", "failing"), means, strict=True))
    return described(figure, f"Histograms of text agreement: {'; '.join(told)}.")


def group_shares(groups: Mapping[str, Share], title: str, xlabel: str) -> Figure:
    """A share with its 95 % interval per group, the first on top."""
    figure, (axes,) = new_figure(1.5 + 0.4 * len(groups))
    shares, style = [share.as_dict() for share in groups.values()][::-1], STYLES["tuned"]
    axes.errorbar(
        [100 * s["share"] for s in shares], range(len(shares)), xerr=errors(shares), fmt=style.marker, color=style.colour,
        markersize=8, capsize=3, clip_on=False, zorder=3,
    )  # fmt: skip
    for y, s in enumerate(shares):
        axes.text(
            100 * s["share"], y + 0.2, f"{100 * s['share']:.1f}", ha="center", va="bottom", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # at 0 the axis would run through the number
        )  # fmt: skip
    labels = [f"{name} (n = {share.n})" for name, share in reversed(groups.items())]
    axes.set_yticks(range(len(shares)), labels=labels, parse_math=False)
    axes.grid(axis="y", visible=False)
    axes.set(ylim=(-0.5, len(shares) - 0.3), xlabel=f"{xlabel}, % (lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    axes.set_xlim(left=0)
    told = "; ".join(f"{name} {100 * s.share:.1f} % of {s.n}" for name, s in groups.items())
    return described(figure, f"{title}: {told}.")


def coverage_map(coverage: dict, axis: str = "tag") -> Figure:
    """Rows of each class (down) and each value of `axis` (across), from the result of `datatools.coverage`; empty cells are crossed."""
    across = ("class", "tag", "lang", "words").index(axis)
    counts: Counter[tuple[str, str]] = Counter()
    for *place, n in coverage["cells"]:
        counts[place[0], place[across]] += n
    down, names = coverage["axes"]["class"], coverage["axes"][axis]
    table = [[counts[label, name] for name in names] for label in down]
    title = f"Rows of {coverage['name']}, {coverage['file']}, n = {coverage['rows']} (darker: more; crossed: none)"
    empty = [f"{label} + {name}" for label in down for name in names if not counts[label, name]]
    alt = f"{title}. Empty: {', '.join(empty) or 'no cell'}."
    figure = _table(table, down, names, title, lambda n: str(n) if n else "×")
    figure.axes[0].set_xlabel({"class": "class", "tag": "kind of row", "lang": "language", "words": "words of the message"}[axis])
    return described(figure, alt)


def found_table(found: Mapping[str, Mapping[str, int]], each: int, kinds: Sequence[str]) -> Figure:
    """Planted faults (down) against kinds of findings (across): how many of the `each` planted rows a finding names."""
    table = [[kinds_found.get(kind, 0) for kind in kinds] for kinds_found in found.values()]
    title = f"Planted rows that a finding names, of n = {each} of each fault (darker: more)"
    told = "; ".join(
        f"{fault}: " + (", ".join(f"{kind} {row[kind]}" for kind in kinds if row.get(kind)) or "nothing")
        for fault, row in found.items()
    )
    names = [kind.replace("_", " ") for kind in kinds]
    return described(_table(table, list(found), names, title, lambda n: str(n) if n else "–"), f"{title}. {told}.")


def _table(
    table: Sequence[Sequence[int]], down: Sequence[str], across: Sequence[str], title: str, text: Callable[[int], str]
) -> Figure:
    figure, (axes,) = new_figure(1.5 + 0.36 * len(down))
    axes.imshow(table, cmap="Blues", vmin=0, aspect="auto")
    most = max(max(row) for row in table) or 1
    for y, row in enumerate(table):
        for x, n in enumerate(row):
            axes.text(x, y, text(n), ha="center", va="center", color="white" if n > 0.6 * most else "#222222")
    axes.set_xticks(range(len(across)), labels=across, rotation=25, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(down)), labels=down, parse_math=False)
    axes.grid(visible=False)
    axes.set_title(title, parse_math=False)
    return figure


def minhash_estimates(exact: Sequence[float], estimates: Mapping[int, Sequence[float]]) -> Figure:
    """Similarity by signature against the exact one, a panel for each length of signature."""
    figure, panels = new_figure(4.0, columns=len(estimates))
    figure.suptitle(f"Similarity of n = {len(exact)} pairs of messages: by signature and exact (dashed: equal)")
    told = []
    for axes, (hashes, guessed) in zip(panels, sorted(estimates.items()), strict=True):
        off = sum(abs(a - b) for a, b in zip(exact, guessed, strict=True)) / len(exact)
        axes.plot([0, 1], [0, 1], "--", color="#222222", linewidth=1)
        axes.plot(exact, guessed, "o", color=STYLES["tuned"].colour, markerfacecolor="none", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="exact Jaccard similarity", ylabel="share of equal places")
        axes.set_title(f"{hashes} hashes: off by {off:.3f} on average")
        told.append(f"{hashes} hashes off by {off:.3f}")
    return described(figure, f"Scatter of estimated against exact similarity of {len(exact)} pairs: {', '.join(told)} on average.")


def review_lines(curve: Sequence[dict], wrong: int, n: int) -> Figure:
    """Wrong labels met while reading rows in the order of suspicion, against a random order with its 95 % band."""
    figure, (axes,) = new_figure(4.0)
    read, style = [p["read"] for p in curve], STYLES["tuned"]
    axes.plot(read, [p["found"] for p in curve], "-", color=style.colour, linewidth=2.5, label="most doubtful first")
    axes.plot(read, [p["by_chance"] for p in curve], "--", color="#555555", label="any order, on average")
    axes.fill_between(
        read, [p["low"] for p in curve], [p["high"] for p in curve], color="#bbbbbb", hatch="..", label="95 % of all orders"
    )
    axes.set(xlim=(0, read[-1]), ylim=(0, None), xlabel="rows that a person has read", ylabel="wrong labels met")
    axes.set_title(f"{wrong} planted wrong labels among n = {n} rows")
    axes.legend(loc="upper left")
    last = curve[-1]
    told = f"after {last['read']} rows {last['found']} met, {last['by_chance']:.1f} by chance ({last['low']:.0f} to {last['high']:.0f})"
    return described(figure, f"{wrong} planted wrong labels among {n} rows, most doubtful read first: {told}.")


def share_lines(lines: Mapping[str, Sequence[tuple[float, Share]]], title: str, xlabel: str, ylabel: str) -> Figure:
    """A line per name through shares at their x, each with its 95 % interval."""
    figure, (axes,) = new_figure(4.0)
    for (name, points), style in zip(lines.items(), (STYLES["tuned"], STYLES["prompt"], STYLES["few_shot"]), strict=False):
        shares = [share.as_dict() for _, share in points]
        interval_line(axes, [x for x, _ in points], shares, style.colour, style.marker, "-", name)
    axes.set(xlabel=xlabel, ylabel=f"{ylabel}, %\n(lines: 95 % interval)")
    axes.set_title(title, parse_math=False)
    axes.legend(loc="best")
    told = "; ".join(
        f"{name}: " + ", ".join(f"{100 * s.share:.1f} % at {x:g}" for x, s in points) for name, points in lines.items()
    )
    return described(figure, f"{title}. {told}.")


def cluster_bars(clusters: Sequence[Any], n: int, shown: int = 8) -> Figure:
    """The largest groups of failures: rows that fail (left) and training rows of the same kind (right)."""
    top = list(clusters)[:shown][::-1]
    figure, (left, right) = new_figure(1.6 + 0.42 * len(top), columns=2)
    failing, trained = [len(c.ids) for c in top], [c.trained for c in top]
    left.barh(range(len(top)), failing, color=STYLES["tuned"].colour, edgecolor="#222222")
    right.barh(range(len(top)), trained, color="#dddddd", hatch="//", edgecolor="#222222")
    for axes, values in ((left, failing), (right, trained)):
        for y, value in enumerate(values):
            axes.text(value, y, f" {value}", va="center")
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.15 * max(values))
    left.set_yticks(range(len(top)), labels=[_wrapped(f"{c.cause}: {c.what}") for c in top], parse_math=False, fontsize=8)
    right.set_yticks([])
    left.set(xlabel="failing rows", title=f"Failures by kind, n = {n} rows")
    right.set(xlabel="training rows of that kind", title="What training had of it")
    told = "; ".join(f"{c.cause}, {c.what}: {len(c.ids)} failing, {c.trained} in training" for c in reversed(top))
    return described(figure, f"The largest groups of failures of {n} rows. {told}.")


def _wrapped(text: str) -> str:
    return fill(text, 34)


def draw_gains(gains: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str], title: str) -> Figure:
    """What each draw of a second round gained over its random arm: a panel for each set of rows, a line of dots for each way of choosing.

    Args:
        gains: set of rows → way → points gained, one per draw (`course.rounds.gains`).
        names: set of rows → how the panel is headed.
    """
    figure, panels = new_figure(3.4, columns=len(gains))
    figure.suptitle(title, parse_math=False)
    ways, told = list(next(iter(gains.values()))), []
    reach = max(abs(g) for ways_found in gains.values() for found in ways_found.values() for g in found) + 2
    for axes, (name, found) in zip(panels, gains.items(), strict=True):
        for y, (way, style) in enumerate(zip(ways, (STYLES["prompt"], STYLES["tuned"], STYLES["few_shot"]), strict=False)):
            mean = sum(found[way]) / len(found[way])
            spread = [y + 0.16 * ((i % 5) - 2) / 2 for i in range(len(found[way]))]
            axes.plot(found[way], spread, style.marker, color=style.colour, markerfacecolor="none", markersize=6)
            axes.plot([mean, mean], [y - 0.33, y + 0.33], color="#222222", linewidth=2.5)
            axes.text(mean, y + 0.36, f"{mean:+.1f}", ha="center", va="bottom", fontsize=9)
            told.append(f"{name}, {way} {mean:+.1f} on average ({min(found[way]):+.1f} to {max(found[way]):+.1f})")
        axes.axvline(0, color="#222222", linewidth=1, linestyle="--")
        axes.set_yticks(range(len(ways)), labels=ways)
        axes.set(xlim=(-reach, reach), ylim=(-0.6, len(ways) - 0.3), xlabel="points above the random arm", title=names[name])
    return described(figure, f"{title}. In points above the random arm: {'; '.join(told)}.")


def picked_lines(points: Sequence[dict], names: Mapping[str, str]) -> Figure:
    """Right answers after each round: batches picked by validation rows against batches taken as they come, a panel for each set of rows.

    Args:
        points: see `course.rounds.picked_batches`.
        names: set of rows → how the panel is headed.
    """
    figure, panels = new_figure(4.0, columns=len(names))
    figure.suptitle("The best of many random batches, picked by validation rows (lines: 95 % interval)")
    told, rows = [], [p["rows"] for p in points]
    looks = {"best": (STYLES["prompt"], "-", "picked by validation"), "first": (STYLES["tuned"], "--", "taken as they come")}
    for axes, (name, head) in zip(panels, names.items(), strict=True):
        for way, (style, line, label) in looks.items():
            shares = [share(p[way][name]).as_dict() for p in points]
            interval_line(axes, rows, shares, style.colour, style.marker, line, label)
            told.append(f"{name}, {label}: {100 * shares[0]['share']:.1f} to {100 * shares[-1]['share']:.1f} %")
        axes.set(xlabel="training rows", ylabel="intent right, %", title=f"{head}, n = {len(points[0]['best'][name])}")
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
    panels[0].legend(loc="upper left", fontsize=9)
    return described(figure, f"Line chart of right answers over rounds. {'; '.join(told)}.")


def request_tokens(tokens: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> Figure:
    """Tokens of an average request, prompt and answer stacked, a bar for each of `names` (key of `tokens` → label)."""
    figure, (axes,) = new_figure(2.6)
    told = []
    for y, (key, label) in enumerate(names.items()):
        prompt, answer = tokens[key]["prompt"], tokens[key]["answer"]
        parts = ((0, prompt, STYLES["prompt"].colour, "//", "prompt"), (prompt, answer, STYLES["tuned"].colour, "", "answer"))
        for left, width, colour, hatch, part in parts:
            axes.barh(y, width, left=left, color=colour, hatch=hatch, edgecolor="#222222", label=part if y == 0 else None)
        axes.text(prompt + answer, y, f" {prompt:.0f} + {answer:.0f}", va="center")
        told.append(f"{label}: prompt {prompt:.0f}, answer {answer:.0f}")
    axes.set_yticks(range(len(names)), labels=list(names.values()), parse_math=False)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="tokens of an average request", ylim=(len(names) - 0.4, -0.6))
    axes.set_xlim(0, 1.15 * max(tokens[key]["prompt"] + tokens[key]["answer"] for key in names))
    figure.legend(loc="outside lower center", ncols=2)
    return described(figure, f"Tokens of an average request. {'; '.join(told)}.")

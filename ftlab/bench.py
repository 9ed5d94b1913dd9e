"""Our way against the stock one, measured: separate processes, in turn, on the same rows.

Each side of each round is a process of its own (`python -m ftlab.bench_worker`), so that peak memory is its own and neither warms the other
up. Loading the model is not timed, on either side. Ratios are ours over stock, round by round; quote their median.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ftlab.errors import DataError, UsageError
from ftlab.stats import seeds_difference

KINDS = ("sft", "preference", "generate", "check")
SIDES = {
    "sft": ("ours", "stock"),
    "preference": ("ours", "stock"),
    "generate": ("ours", "stock", "stock_single", "ours_single", "ctranslate2", "ctranslate2-int8"),
    "check": ("ours", "stock"),
}
ABOUT = {
    "sft": "LoRA on rows of the task: our loop / trl SFTTrainer",
    "preference": "DPO with an SFT term, reference included: our loop / trl DPOTrainer",
    "generate": "greedy answers with the short prompt: ours / transformers generate",
    "check": "the strict checker / json and jsonschema alone",
}


def bench(
    kind: str,
    *,
    task: str = "support_plan",
    model: str | None = None,
    rows: int = 0,
    rounds: int = 3,
    say: Callable[[str], None] = print,
) -> dict:
    """Measure one kind.

    Args:
        rows: how many rows of the task's training split each side works on; 0 takes the kind's usual number.
        rounds: how often each side runs, in turn.

    Returns:
        {"ratio": {"tokens_per_s", "cpu_s", "peak_memory"} (ours/stock, medians of the rounds; cpu_s is per token),
        "max_relative_gradient_difference" (training) or "identical_rows" (share; generation and checks), "rounds": [{side: figures}],
        "sides": {side: medians}, "share_of_matmul_peak", "machine"}.

    A side whose package is not installed is left out, unless it is the stock side, which everything is compared with.

    Raises:
        UsageError: an unknown kind, fewer than one round, or fewer than no rows.
        DataError: a side failed; its last words are in the message.
    """
    if kind not in KINDS:
        raise UsageError(f"bench: expected one of {', '.join(KINDS)} or all, found {kind!r}.")
    _check_sizes(rows, rounds)
    job = {"kind": kind, "task": task, "model": model, "rows": rows}
    measured: list[dict[str, dict]] = []
    for number in range(rounds):
        measured.append({})
        for side in SIDES[kind] if number % 2 == 0 else SIDES[kind][::-1]:
            if figures := _run(job | {"side": side}):
                measured[-1][side] = figures
                say(f"{kind} round {number + 1} {side:>16}: {_line(figures)}")
    machine = _run({"kind": "machine"})
    result = {"about": ABOUT[kind], **_ratios(measured), **_agreement(job, measured)}
    result["rounds"] = [{side: _short(figures) for side, figures in round_.items()} for round_ in measured]
    result["machine"] = machine
    if flops := measured[0]["ours"].get("flops"):
        speed = statistics.median(flops / r["ours"]["seconds"] for r in measured)
        result["share_of_matmul_peak"] = round(speed / 1e9 / machine["matmul_gflops"], 3)
    return result


def _check_sizes(rows: int, rounds: int) -> None:
    if rounds < 1:
        raise UsageError(f"--rounds: expected a number above 0, found {rounds}.")
    if rows < 0:
        raise UsageError(f"--rows: expected 0 (the usual number) or more, found {rows}.")


GROWTH = {
    "rows": (100, 1_000, 10_000, 100_000),
    "row_tokens": (32, 64, 128, 256, 512),
    "rank": (4, 8, 16, 32, 64),
    "micro_tokens": (114, 228, 456, 912, 1824),
}


def growth(*, model: str | None = None, sizes: dict[str, Sequence[int]] = GROWTH, say: Callable[[str], None] = print) -> dict:
    """Time and memory as one size grows and the others stay: rows (reading and tokenizing), row length, rank, micro-batch (steps).

    Returns:
        {size: [{"value", "seconds", "per_second" (rows or tokens), "peak_memory_mb", "held_mb" (before the work began)}], "machine"}.
    """
    found: dict[str, Any] = {what: [] for what in sizes}
    for what, values in sizes.items():
        for value in values:
            f = _run({"kind": "growth", "what": what, "value": value, "model": model})
            figures = {"value": value, "seconds": f["seconds"], "per_second": round(f["tokens"] / f["seconds"], 1)}
            found[what].append(figures | {"peak_memory_mb": f["peak_memory_mb"], "held_mb": f["held_mb"]})
            say(f"growth {what} {value:>7}: {figures['per_second']:9.1f} a second, {f['peak_memory_mb']:6.0f} MB")
    return found | {"machine": _run({"kind": "machine"})}


COSTED = {
    "cpu profile, 320 rows": {"profile": "cpu", "train_rows": 320, "general_rows": 0},
    "cpu profile, 160 rows, rank 4, two passes": {
        "profile": "cpu", "train_rows": 160, "rank": 4, "epochs": 2, "general_rows": 0, "validation_rows": 16,
    },
    "small profile, 160 rows": {"profile": "small", "train_rows": 160, "general_rows": 0},
}  # fmt: skip


def cost_study(*, task: str = "support_plan", runs: dict[str, dict] = COSTED, say: Callable[[str], None] = print) -> list[dict]:
    """`ftlab cost` beside the runs it predicts: [{"run", "predicted_s", "measured_s", "predicted_mb", "measured_mb"}]."""
    found = []
    for name, changes in runs.items():
        job = {"kind": "cost", "task": task, "model": None, "changes": changes}
        predicted, measured = (_run(job | {"side": side}) for side in ("predicted", "measured"))
        found.append({
            "run": name, "predicted_s": predicted["seconds"], "measured_s": measured["seconds"],
            "predicted_mb": predicted["peak_memory_mb"], "measured_mb": measured["peak_memory_mb"],
        })  # fmt: skip
        say(f"cost {name}: {found[-1]}")
    return found


LAYERS_ROWS = 400


def layers_study(
    *,
    task: str = "support_plan",
    model: str | None = None,
    last: int = 8,
    rows: int = 0,
    epochs: int = 3,
    seeds: int = 3,
    say: Callable[[str], None] = print,
) -> dict:
    """LoRA on the last layers with kept activations beside LoRA on all layers and trl: speed, and scores on the validation rows.

    Both arms train on the same rows for as many passes, seed by seed and in turn; the adapter after the last pass is scored. trl's
    SFTTrainer makes one pass over the same rows, all layers trained, for its speed.

    Args:
        rows: how many training rows; 0 takes 400.

    Returns:
        {"arms": {name: [{"seed", "seconds", "tokens", "peak_memory_mb", "scores"}]}, "stock": figures, "speed_ratio" (last/all, median
        over seeds), "speed_ratio_to_stock" (last/stock, likewise), "difference": {score: {"mean", "low", "high"}} (last minus all,
        points of a hundred; interval by bootstrap over rows, seeds averaged), ...}.

    Raises:
        UsageError: no seed, or fewer than no rows.
        DataError: an arm failed; its last words are in the message.
    """
    _check_sizes(rows, seeds)
    rows = rows or LAYERS_ROWS
    arms = {"all layers": 0, f"last {last} layers": last}
    found: dict[str, list[dict]] = {name: [] for name in arms}
    same = {"task": task, "model": model, "rows": rows}
    for seed in range(seeds):
        # in turn: whatever warms up or slows down the machine meets both arms alike
        for name in list(arms)[:: 1 if seed % 2 == 0 else -1]:
            f = _run(same | {"kind": "layers", "epochs": epochs, "seed": seed, "last_layers": arms[name]})
            found[name].append(f)
            scores = ", ".join(f"{key} {value}" for key, value in f["scores"].items())
            say(f"{name}, seed {seed}: {_figure(f, 'tokens_per_s'):.0f} tokens/s, {scores}")
    stock = _run(same | {"kind": "sft", "side": "stock"})
    say(f"stock: {_figure(stock, 'tokens_per_s'):.0f} tokens/s")
    whole, part = found.values()
    hits = {score: [[f["hits"][score] for f in arm] for arm in (whole, part)] for score in whole[0]["hits"]}
    speeds = [[_figure(f, "tokens_per_s") for f in arm] for arm in (whole, part)]
    return {
        "arms": {name: [{k: v for k, v in f.items() if k != "hits"} for f in runs] for name, runs in found.items()},
        "stock": stock, "last_layers": last, "rows": rows, "epochs": epochs, "validation_rows": len(whole[0]["hits"]["strict"]),
        "speed_ratio": round(statistics.median(p / w for w, p in zip(*speeds, strict=True)), 3),
        "speed_ratio_to_stock": round(statistics.median(speeds[1]) / _figure(stock, "tokens_per_s"), 3),
        "difference": {score: seeds_difference(*arms) for score, arms in hits.items()},
        "machine": _run({"kind": "machine"}),
    }  # fmt: skip


def _run(job: dict) -> Any:
    """The figures that one process measured; None if its side can be left out and its package is not installed.

    Raises:
        DataError: the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ftlab.bench_worker", json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DataError(f"bench {job['kind']} {job.get('side', '')}: the process failed ({words}).")
    return json.loads(lines[-1])


def _ratios(rounds: Sequence[dict]) -> dict:
    def ratio(name: str, side: str = "ours", other: str = "stock") -> float:
        return round(statistics.median(_figure(r[side], name) / _figure(r[other], name) for r in rounds), 3)

    sides = [side for side in rounds[0] if all(side in r for r in rounds)]
    names = ("tokens_per_s", "cpu_s", "peak_memory")
    found: dict[str, Any] = {"ratio": {name: ratio(name) for name in names}}
    found["sides"] = {
        side: {name: round(statistics.median(_figure(r[side], name) for r in rounds), 5) for name in names} for side in sides
    }
    found["against"] = {side: {name: ratio(name, other=side) for name in names} for side in sides if side not in ("ours", "stock")}
    return found


def _figure(figures: dict, name: str) -> float:
    if name == "tokens_per_s":
        return figures["tokens"] / figures["seconds"]
    return figures["cpu_s"] / figures["tokens"] if name == "cpu_s" else figures["peak_memory_mb"]


def _agreement(job: dict, rounds: Sequence[dict]) -> dict:
    """How far both sides compute the same."""
    if job["kind"] in ("sft", "preference"):
        return _run(job | {"side": "gradients"})
    first = rounds[0]
    same = {side: _same(first["ours"]["outputs"], f["outputs"]) for side, f in first.items() if side != "ours"}
    return {"identical_rows": same["stock"], "identical_rows_by_side": same}


def _same(ours: Sequence[Any], other: Sequence[Any]) -> float:
    """Share of equal outputs; a side that answers one by one does so for the first rows only."""
    pairs = list(zip(ours, other, strict=False))
    return round(sum(a == b for a, b in pairs) / len(pairs), 4)


def _short(figures: dict) -> dict:
    return {key: value for key, value in figures.items() if key != "outputs"}


def _line(figures: dict) -> str:
    return (
        f"{_figure(figures, 'tokens_per_s'):9.1f} tokens/s  {figures['cpu_s']:7.1f} CPU s  {figures['seconds']:7.1f} s  "
        f"{figures['peak_memory_mb']:6.0f} MB"
    )


def report(results: dict[str, dict]) -> str:
    """The results of `bench` as lines of text."""
    lines = []
    for kind, r in results.items():
        agreement = r.get("max_relative_gradient_difference", r.get("identical_rows"))
        name = "largest relative gradient difference" if "max_relative_gradient_difference" in r else "identical rows"
        ratio = r["ratio"]
        lines.append(
            f"{kind}: {ratio['tokens_per_s']:.2f} × tokens/s, {ratio['cpu_s']:.2f} × CPU s per token, {ratio['peak_memory']:.2f} × peak "
            f"memory of the stock way; {name} {agreement:g}"
        )
        for side, against in r["against"].items():
            lines.append(f"    against {side}: {against['tokens_per_s']:.2f} × tokens/s")
        if "share_of_matmul_peak" in r:
            peak = r["machine"]["matmul_gflops"]
            lines.append(f"    {100 * r['share_of_matmul_peak']:.0f} % of this machine's matmul peak of {peak:.0f} GFLOP/s")
    return "\n".join(lines)


def machine() -> dict:
    """What the figures were measured on: processor, cores, memory, and the matmul peak by our choice of library and by the stock one."""
    import time

    import torch

    from ftlab.models import tune_cpu

    def peak() -> float:
        a, best = torch.randn(2048, 2048), float("inf")
        for _ in range(8):
            started = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - started)
        return round(2 * 2048**3 / best / 1e9, 1)

    stock = peak()
    tune_cpu()
    lines = open("/proc/cpuinfo").read().splitlines() if os.path.exists("/proc/cpuinfo") else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": name, "cores": os.cpu_count(), "memory_gb": round(pages / 1e9, 1), "system": platform.system(),
        "threads": torch.get_num_threads(), "matmul_gflops": peak(), "matmul_gflops_stock": stock, "torch": torch.__version__,
    }  # fmt: skip

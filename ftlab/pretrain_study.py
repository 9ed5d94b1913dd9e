"""Small studies of pretraining at equal compute: how much text, how clean, from how many sources; what filling gaps teaches; how loss
falls with parameters and tokens, and what that means for the bill of a large model.

Every arm trains a new model on the same number of tokens with the same tokenizer and is measured on the same held-out blocks, several
seeds an arm. Differences are paired by seed and block. An arm that is finished is not trained again.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import exp, log
from pathlib import Path
from statistics import mean, median
from typing import Any

from ftlab.corpus import HELD_OUT, Corpus
from ftlab.errors import DataError, UsageError
from ftlab.models import quiet_transformers, tune_cpu
from ftlab.stats import crossed_bootstrap, t_interval
from ftlab.train.blocks import Blocks, make_blocks, read_blocks, write_tokens
from ftlab.train.kept import begun, read_kept, write_kept
from ftlab.train.measures import block_losses
from ftlab.train.objectives import SPECIALS, gap_batch, summed_loss
from ftlab.train.pretrain import pretrain_on
from ftlab.train.pretrain_settings import PretrainConfig, check_memory, pretrain_config
from ftlab.train.settings import changed, named_profile

WORTH = 0.05  # nats: the smallest difference of losses that is worth having
SEEDS = 5  # trainings of each arm
SMALL = 16  # the small corpus is this part of what a training reads
NOISE = 0.3  # share of words that noise spoils
GAPS = (0.25, 0.5, 0.75)  # where in a block a token is left out
OBJECTIVES = ("next-token", "fill-in-the-middle", "masked")
STUDY_PROFILES = {
    "smoke": pretrain_config("smoke"),
    "cpu": PretrainConfig(size="0.7M", tokens=400_000, vocabulary=1024, batch_blocks=4, micro_blocks=4, measurements=1),
}
SCALES = {  # sizes and tokens of the scaling study
    "smoke": (("0.1M", "0.3M"), (1024, 2048, 4096)),
    "cpu": (("0.1M", "0.3M", "0.7M", "1.5M"), (100_000, 200_000, 400_000, 800_000)),
}
MODELS = {  # parameters, and the tokens that published models of about this size were trained on
    "135M": (135e6, 2e12, "SmolLM2-135M"), "7B": (7e9, 2e12, "Llama 2 7B"), "70B": (70e9, 2e12, "Llama 2 70B"),
}  # fmt: skip
TOKENS_A_PARAMETER = 20  # Hoffmann et al. (2022), Training Compute-Optimal Large Language Models
GPU = 989e12 * 0.4  # FLOP/s: the 16-bit peak that the maker of an H100 states, and the share of it that a well-run training reaches
CLUSTER = 1024  # such GPUs


@dataclass(frozen=True)
class Arm:
    """What a trained arm is worth: its losses by block, the recall of its facts, its counts; `more` holds what a study adds."""

    losses: list[float]
    control: dict
    summary: dict
    more: dict


class Bench:
    """What the arms of a study share: text, tokenizer, settings, and a folder where finished arms are kept."""

    def __init__(self, corpus: Corpus, out: Path, config: PretrainConfig, say: Callable[[str], None] = print):
        tune_cpu()
        quiet_transformers()
        check_memory(config)
        self.corpus, self.out, self.config, self.say = corpus, out, config, say
        text = make_blocks(corpus, config, out / "text")
        self.all = replace(text, held_out=_evenly(text.held_out, config.held_out_blocks))
        self.tested = hashlib.sha256(self.all.held_out.tobytes()).hexdigest()
        if len(self.all.train) < SMALL * 2:
            raise DataError(f"--corpus: expected {SMALL * 2} blocks of text for a study, found {len(self.all.train)}; add text.")

    def arm(self, name: str, blocks: Blocks, config: PretrainConfig, measure: Callable[[Any, Blocks], dict] | None = None) -> Arm:
        """Train one arm, or take what was kept of it.

        Args:
            name: names the text that it is trained on, and its folder.
            measure: what else to note of the trained model, as JSON can hold it.
        """
        identity = {
            "corpus": self.corpus.sha256, "tokenizer": blocks.tokenizer_sha256, "arm": name, "blocks": len(blocks.train),
            "tested": self.tested,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(identity | config.decisive()).encode()).hexdigest()
        folder = self.out / f"{name}-{config.size}-{config.tokens}-{config.seed}"
        found = read_kept(folder / "arm.json", key)
        if found is None:
            same = begun(folder, key)  # a checkpoint of other text or settings is no start for this arm
            run = pretrain_on(blocks, config, folder, corpus_sha256=key, resume=same, progress=False)
            losses = block_losses(run.model, self.all.held_out, config.objective, run.ids).tolist()
            control = run.curve[-1].get("recall", {}).get("control", {})
            more = measure(run.model, blocks) if measure else {}
            found = {"losses": losses, "control": control, "summary": run.summary() | {"curve": []}, "more": more}
            write_kept(folder / "arm.json", key, found)
        self.say(f"{folder.name}: loss {mean(found['losses']):.3f}, {found['summary']['tokens']:,} tokens")
        return Arm(**found)

    def seeds(self, seeds: int) -> Iterator[PretrainConfig]:
        for seed in range(seeds):
            yield replace(self.config, seed=self.config.seed + seed)

    def about(self, seeds: int) -> dict:
        """What every results file says of how it came about."""
        return {
            "corpus": self.corpus.manifest["corpus"], "corpus_sha256": self.corpus.sha256, "config": self.config.decisive(),
            "seeds": seeds, "worth_nats": WORTH, "held_out_blocks": len(self.all.held_out),
        }  # fmt: skip


def effect(worse: Sequence[Sequence[float]], better: Sequence[Sequence[float]], worth: float = WORTH) -> dict:
    """By how much the loss of one arm is above that of another: positive where `better` is better.

    Args:
        worse, better: losses by seed and block; the same seeds, the same blocks.
        worth: the smallest difference that is worth having.

    Returns:
        {"difference", "low", "high" (95 %), "by_seed", "verdict"}. The interval is the wider at each end of two: the bootstrap over seeds
        and blocks, which is too narrow for the noise between few trainings, and Student's t of the seeds' means (none of a single
        seed). The verdict is about this scale only, and also asks that every seed points the same way.
    """
    differences = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(worse, better, strict=True)]
    by_seed = [mean(row) for row in differences]
    (low, high), (low_t, high_t) = crossed_bootstrap(differences), t_interval(by_seed)
    low, high = min(low, low_t), max(high, high_t)
    found = {"difference": mean(by_seed), "low": low, "high": high, "by_seed": by_seed}
    return found | {"verdict": verdict(mean(by_seed), low, high, by_seed, worth)}


def verdict(difference: float, low: float, high: float, by_seed: Sequence[float], worth: float = WORTH) -> str:
    """ "shown", "the other way round", or "not shown" with the reason why not."""
    if low > 0 and difference >= worth and min(by_seed) > 0:
        return "shown"
    if high < 0 and difference <= -worth and max(by_seed) < 0:
        return "the other way round"
    return "not shown: no effect worth having" if -worth < low and high < worth else "not shown: too small to tell"


def amount_study(bench: Bench, seeds: int) -> dict:
    """A sixteenth of the text that can be read, met as many times, against text that is met once at most: equal tokens trained on."""
    read = min(len(bench.all.train), bench.config.steps * bench.config.batch_blocks)
    few = replace(bench.all, train=_evenly(bench.all.train, max(1, read // SMALL)))  # evenly from all sources
    arms: dict[str, list[Arm]] = {"small": [], "large": []}
    for config in bench.seeds(seeds):
        arms["small"].append(bench.arm("small", few, config))
        arms["large"].append(bench.arm("large", bench.all, config))
    return bench.about(seeds) | _compared(arms, "small", "large")


def noise_study(bench: Bench, seeds: int) -> dict:
    """Text with slips in a third of its words against the text as it is; both measured on clean text."""
    spoilt = make_blocks(
        bench.corpus, bench.config, bench.out / "noisy-text", tokenizer=bench.all.tokenizer, change=lambda text: spoil(text, NOISE)
    )
    arms: dict[str, list[Arm]] = {"noisy": [], "clean": []}
    for config in bench.seeds(seeds):
        arms["noisy"].append(bench.arm("noisy", spoilt, config))
        arms["clean"].append(bench.arm("large", bench.all, config))
    return bench.about(seeds) | {"noise": NOISE} | _compared(arms, "noisy", "clean")


def spoil(text: str, rate: float) -> str:
    """Slips in a share of the words: two letters swapped, one lost, or one doubled. The same for the same text.

    >>> spoil("a b c", 1.0)
    'a b c'
    """
    draw = random.Random(hashlib.sha256(text.encode()).digest())
    return " ".join(_slip(word, draw) if draw.random() < rate else word for word in text.split(" "))


def _slip(word: str, draw: random.Random) -> str:
    if len(word) < 3:
        return word
    i = draw.randrange(len(word) - 1)
    return draw.choice((word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:]))


def diversity_study(bench: Bench, seeds: int) -> dict:
    """The largest source alone against as much text from all sources, measured on that source and on all others."""
    sources = list(bench.corpus.manifest["sources"])
    if len(sources) < 2:
        raise UsageError("pretrain-study diversity: expected a corpus of two sources (sub-folders) at least, found one.")
    narrow = make_blocks(bench.corpus, bench.config, bench.out / "narrow-text", tokenizer=bench.all.tokenizer, sources=sources[:1])
    n = min(len(narrow.train), bench.config.steps * bench.config.batch_blocks)  # more is never read
    narrow, wide = (replace(blocks, train=_evenly(blocks.train, n)) for blocks in (narrow, bench.all))
    tests = {
        "same source": _held_out_of(bench, sources[:1], "on"), "other sources": _held_out_of(bench, sources[1:], "off")
    }  # fmt: skip

    def measure(model: Any, blocks: Blocks) -> dict:
        return {name: block_losses(model, test, "next-token", {}).tolist() for name, test in tests.items()}

    arms: dict[str, list[Arm]] = {"narrow": [], "diverse": []}
    for config in bench.seeds(seeds):
        arms["narrow"].append(bench.arm("narrow", narrow, config, measure))
        arms["diverse"].append(bench.arm("diverse", wide, config, measure))
    found = _compared(arms, "narrow", "diverse")
    for name in tests:
        found["effects"][name] = effect(*([arm.more[name] for arm in arms[kind]] for kind in ("narrow", "diverse")))
    return bench.about(seeds) | {"narrow_source": sources[0], "sources": len(sources)} | found


def _evenly(blocks: Any, n: int) -> Any:
    """n of the blocks, or all if there are fewer, from the first to the last at equal distances."""
    import numpy as np

    return blocks[np.linspace(0, len(blocks) - 1, min(n, len(blocks))).round().astype(int)]


def _held_out_of(bench: Bench, sources: Sequence[str], name: str) -> Any:
    path = bench.out / f"held_out_{name}.bin"
    texts = (d.text for d in bench.corpus.documents(HELD_OUT, sources))
    write_tokens(bench.all.tokenizer, texts, path)
    blocks = read_blocks(path, bench.config.block_tokens)
    if not len(blocks):
        raise DataError(f"pretrain-study diversity: expected held-out text of {', '.join(sources[:3])}, found none; add text.")
    return _evenly(blocks, bench.config.held_out_blocks)


def _compared(arms: dict[str, list[Arm]], worse: str, better: str) -> dict:
    """Losses of the arms and the effect on all held-out blocks, after a look that each was trained on as much."""
    compute = {arm.summary["flops"] for group in arms.values() for arm in group}
    if len(compute) > 1:
        raise AssertionError(f"arms of unequal compute: {compute}")
    told = {name: [_told(arm) for arm in group] for name, group in arms.items()}
    losses = {name: [arm.losses for arm in group] for name, group in arms.items()}
    return {
        "arms": told, "flops_each": compute.pop(), "compared": f"loss of {worse} minus loss of {better}, in nats per token",
        "effects": {"all held-out text": effect(losses[worse], losses[better])},
        "control_passed": all(arm.control.get("passed", False) for arm in arms[better]),
    }  # fmt: skip


def _told(arm: Arm) -> dict:
    return {
        "loss": mean(arm.losses), "recall_of_most_stated": arm.control.get("found"), "passes": arm.summary["passes"],
        "tokens": arm.summary["tokens"], "seconds": arm.summary["seconds"],
    }  # fmt: skip


def fill_study(bench: Bench, seeds: int) -> dict:
    """One missing token, asked of models that learnt the next token, the middle, or hidden tokens, on equal tokens.

    A next-token model is asked in one pass, so it sees what stands before the gap; the others see both sides.
    """
    arms: dict[str, list[Arm]] = {objective: [] for objective in OBJECTIVES}
    for config in bench.seeds(seeds):
        for objective in OBJECTIVES:
            own = replace(config, objective=objective)

            def measure(model: Any, blocks: Blocks, own: PretrainConfig = own) -> dict:
                return gap_scores(model, blocks, own)

            arms[objective].append(bench.arm(objective, bench.all, own, measure))
    gaps = {name: [arm.more["gap_losses"] for arm in group] for name, group in arms.items()}
    plain, fill, _ = OBJECTIVES
    effects = {f"gap, {name}": effect(gaps[plain], gaps[name]) for name in OBJECTIVES[1:]}
    effects["plain text, fill-in-the-middle"] = effect(*([arm.losses for arm in arms[name]] for name in (plain, fill)))
    told = {
        name: [_told(arm) | {"gap_loss": mean(arm.more["gap_losses"]), "gap_right": arm.more["gap_right"]} for arm in group]
        for name, group in arms.items()
    }
    passed = all(arm.control.get("passed", False) for arm in arms[plain])
    compared = "loss of next-token minus loss of the other, in nats per token"
    return bench.about(seeds) | {"arms": told, "compared": compared, "effects": effects, "control_passed": passed}


def gap_scores(model: Any, blocks: Blocks, config: PretrainConfig) -> dict:
    """Loss on a missing token by block, the mean of some places; and the share of such tokens that the model finds."""
    import numpy as np
    import torch

    ids = {sign: blocks.tokenizer.convert_tokens_to_ids(sign) for sign in SPECIALS}
    part = np.asarray(blocks.held_out[: config.held_out_blocks], dtype=np.int64)
    losses, right = np.zeros(len(part)), []
    with torch.inference_mode():
        for place in GAPS:
            batch, position = gap_batch(part, round(place * (config.block_tokens - 4)), config.objective, ids)
            for start in range(0, len(part), config.micro_blocks):
                piece = batch.part(start, start + config.micro_blocks)
                found = summed_loss(model, piece, each=True)[:, position].cpu().numpy()
                losses[start : start + len(found)] += found / len(GAPS)
                right += (found < log(2)).tolist()  # more likely than all other tokens together
    return {"gap_losses": losses.tolist(), "gap_right": mean(right)}


def scaling_study(bench: Bench, seeds: int, sizes: Sequence[str], tokens: Sequence[int]) -> dict:
    """Loss over parameters and tokens: every pair trained with a schedule of its own, a law fitted, and the bill of larger models.

    The law is loss = floor + A / parameters^a + B / tokens^b (Hoffmann et al., 2022).
    """
    points = []
    for config in bench.seeds(seeds):
        for size, n in product(sizes, tokens):
            own = replace(config, size=size, tokens=n, fact_share=0.0)
            arm = bench.arm("scale", replace(bench.all, stated=bench.all.stated[:0], facts=()), own)
            points.append(
                {
                    "size": size, "seed": config.seed, "loss": mean(arm.losses),
                    **{key: arm.summary[key] for key in ("parameters", "tokens", "flops", "seconds", "passes")},
                }
            )  # fmt: skip
    speeds = [p["flops"] / p["seconds"] for p in points if p["seconds"]]
    largest = [p["flops"] / p["seconds"] for p in points if p["size"] == sizes[-1] and p["seconds"]]
    law = fit_law(points)
    found = {"points": points, "law": law, "bill": bill(median(largest)), "predicted_loss": predictions(law)}
    return bench.about(seeds) | {"flops_per_second": {"here": median(largest), "least": min(speeds), "most": max(speeds)}} | found


def fit_law(points: Sequence[dict], rounds: int = 200, seed: int = 0) -> dict:
    """The law of `scaling_study` fitted to {"parameters", "tokens", "loss"} by least squares of log(loss), with a bootstrap over points.

    Returns:
        {"floor", "A", "a", "B", "b": {"value", "low", "high"}, "optimal_exponent" (by which power of compute the best number of
        parameters grows: b / (a + b)), "error" (root mean square of log(loss)), "points", "draws" (the bootstrap's parameters)}.

    Raises:
        UsageError: fewer than six points, or only one size or number of tokens: five numbers cannot be fitted to them.
    """
    import numpy as np

    sizes, tokens, losses = (np.array([p[name] for p in points], dtype=float) for name in ("parameters", "tokens", "loss"))
    if len(points) < 6 or len(set(sizes)) < 2 or len(set(tokens)) < 2:
        raise UsageError(f"scaling: expected six points of two sizes and two numbers of tokens at least, found {len(points)}.")
    best, error = _least_squares(sizes, tokens, losses, _starts(losses))
    draw, draws = np.random.default_rng(seed), []
    while len(draws) < rounds:
        pick = draw.integers(0, len(points), len(points))
        if len(set(sizes[pick])) > 1 and len(set(tokens[pick])) > 1:
            draws.append(_least_squares(sizes[pick], tokens[pick], losses[pick], [best])[0])
    names, readable = ("floor", "A", "a", "B", "b"), np.array([_readable(d) for d in draws])
    low, high = np.percentile(readable, [2.5, 97.5], axis=0)
    found = {
        name: {"value": float(v), "low": float(lo), "high": float(hi)}
        for name, v, lo, hi in zip(names, _readable(best), low, high, strict=True)
    }
    optimal = readable[:, 4] / (readable[:, 2] + readable[:, 4])
    value = found["b"]["value"] / (found["a"]["value"] + found["b"]["value"])
    low, high = np.percentile(optimal, [2.5, 97.5])
    return found | {
        "optimal_exponent": {"value": value, "low": float(low), "high": float(high)}, "error": error, "points": len(points),
        "draws": [[float(x) for x in row] for row in readable],
    }  # fmt: skip


def _starts(losses: Any) -> list[tuple]:
    """Where the fit begins: floors from nothing to nearly all of the least loss, slow and fast falls."""
    least = float(min(losses))
    return [
        (log(least * share), log(least) + rate * log(1e6), rate, log(least) + rate * log(1e6), rate)
        for share in (0.05, 0.5, 0.9)
        for rate in (0.2, 0.5)
    ]


def _least_squares(sizes: Any, tokens: Any, losses: Any, starts: Sequence[Any]) -> tuple[Any, float]:
    """(log floor, log A, a, log B, b) and the root mean square error of log(loss), from the best of the starts."""
    import numpy as np
    from scipy.optimize import least_squares

    def off(x: Any) -> Any:
        return np.log(np.exp(x[0]) + np.exp(x[1] - x[2] * np.log(sizes)) + np.exp(x[3] - x[4] * np.log(tokens))) - np.log(losses)

    bounds = ([-12, -20, 0.02, -20, 0.02], [log(min(losses)), 60, 2, 60, 2])
    found = [least_squares(off, np.clip(start, *bounds), bounds=bounds, loss="soft_l1", f_scale=0.01) for start in starts]
    best = min(found, key=lambda fit: fit.cost)
    return best.x, float(np.sqrt(np.mean(off(best.x) ** 2)))


def _readable(x: Any) -> tuple[float, ...]:
    return exp(x[0]), exp(x[1]), float(x[2]), exp(x[3]), float(x[4])


def law_loss(law: Sequence[float], parameters: float, tokens: float) -> float:
    """What the law, (floor, A, a, B, b), says of a model."""
    floor, a_size, a, b_size, b = law
    return floor + a_size / parameters**a + b_size / tokens**b


def predictions(law: dict) -> dict:
    """The law's loss for each of `MODELS` at 20 tokens a parameter, with its bootstrap interval.

    They are far outside of what was measured, by the factor that stands beside them: what the interval does not know is whether the law
    still holds there.
    """
    import numpy as np

    best = [law[name]["value"] for name in ("floor", "A", "a", "B", "b")]
    found = {}
    for name, (parameters, _, _) in MODELS.items():
        tokens = TOKENS_A_PARAMETER * parameters
        low, high = np.percentile([law_loss(draw, parameters, tokens) for draw in law["draws"]], [2.5, 97.5])
        found[name] = {"loss": law_loss(best, parameters, tokens), "low": float(low), "high": float(high)}
    return found


def bill(here: float) -> list[dict]:
    """Hours of pretraining for each of `MODELS`, by 6 × parameters × tokens operations.

    Args:
        here: operations a second that this machine was measured to do in training.

    Source: Kaplan et al. (2020), Scaling Laws for Neural Language Models, for 6ND.
    """
    machines = {"this machine": here, "one GPU": GPU, f"{CLUSTER} GPUs": GPU * CLUSTER}
    rows = []
    for name, (parameters, published, model) in MODELS.items():
        for why, tokens in ((f"{TOKENS_A_PARAMETER} a parameter", TOKENS_A_PARAMETER * parameters), (f"as {model}", published)):
            flops = 6 * parameters * tokens
            hours = {machine: flops / speed / 3600 for machine, speed in machines.items()}
            rows.append({"model": name, "tokens": tokens, "why": why, "flops": flops, "hours": hours})
    return rows


STUDIES: dict[str, Callable[[Bench, int], dict]] = {
    "amount": amount_study, "noise": noise_study, "diversity": diversity_study, "fill": fill_study,
}  # fmt: skip
KINDS = (*STUDIES, "scaling")


def pretrain_study(
    kind: str,
    corpus: Corpus,
    out: Path,
    *,
    profile_name: str = "cpu",
    seeds: int | None = None,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """One of `KINDS`, or "all", on a corpus; arms and text are kept in `out`.

    Args:
        seeds: trainings of each arm; by default five, and one of each point of the scaling study.
        changes: settings of `PretrainConfig` other than the profile's.

    Raises:
        UsageError: no such kind or profile, or too little memory.
        DataError: too little text.
    """
    if kind != "all" and kind not in KINDS:
        raise UsageError(f"pretrain-study: expected one of {', '.join((*KINDS, 'all'))}, found {kind!r}.")
    own = named_profile(STUDY_PROFILES, profile_name)
    if seeds is not None and seeds < 1:
        raise UsageError(f"--seeds: expected 1 or more, found {seeds}.")
    config = changed(own, changes)
    bench = Bench(corpus, out, config, say)
    found = {}
    for name in KINDS if kind == "all" else (kind,):
        if name == "scaling":
            found[name] = scaling_study(bench, seeds or 1, *SCALES[profile_name])
        else:
            found[name] = STUDIES[name](bench, seeds or SEEDS)
    return found


def study_text(results: dict) -> str:
    """What the studies found, to read."""
    lines = []
    for kind, found in results.items():
        lines.append(f"{kind}: {found.get('compared', 'loss over parameters and tokens')}")
        if not found.get("control_passed", True):
            lines.append("  the positive control was NOT passed: what follows says little")
        for name, e in found.get("effects", {}).items():
            lines.append(f"  {name}: {e['difference']:+.3f} ({e['low']:+.3f} to {e['high']:+.3f}), {e['verdict']}")
        if "law" in found:
            told = ", ".join(f"{n} {found['law'][n]['value']:.3g}" for n in ("floor", "A", "a", "B", "b"))
            lines.append(f"  {told}; error of log(loss) {found['law']['error']:.3f}")
            lines += [_bill_line(row) for row in found["bill"]]
    return "\n".join(lines)


def _bill_line(row: dict) -> str:
    hours = ", ".join(f"{machine} {_time(h)}" for machine, h in row["hours"].items())
    return f"  {row['model']:>5} on {row['tokens']:.1e} tokens ({row['why']}): {hours}"


def _time(hours: float) -> str:
    return f"{hours / 8766:,.1f} years" if hours > 8766 else f"{hours / 24:,.1f} days" if hours > 48 else f"{hours:,.1f} hours"

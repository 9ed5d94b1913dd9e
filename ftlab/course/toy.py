"""A toy task and its trainings, for watching a trainer at work: orders at a counter, the random tiny model, seconds a training.

The messages are made by a loop from a few words, so nothing here says anything about language, nor how large an effect is elsewhere. The
loop, its loss and its checkpoints are those that train real adapters; every weight of the tiny model is trained, from nothing.
"""

import hashlib
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftlab.generate import encode_example
from ftlab.lora import make_trainable
from ftlab.models import TINY, LoadedModel, load_model
from ftlab.task import dump_output
from ftlab.train.examples import Example, Examples
from ftlab.train.loop import Run, Stop, make_folder, micro_batches
from ftlab.train.loss import AnswerLoss, logits_at
from ftlab.train.settings import decisive, sft_config
from ftlab.train.sft import mean_loss

Order = tuple[str, str]  # message, answer
KINDS = {
    "drink": ("tea", "coffee", "juice", "milk"),
    "meal": ("soup", "rice", "pasta", "salad"),
    "baked": ("cake", "bread", "bun", "pie"),
}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDINGS = ("{n} {item}", "{n} {item} please", "hi, {n} {item}", "{item}, {n} of them", "just {n} {item}", "{n} x {item}")
WHOLE = 100_000  # tokens computed at once: any toy batch in one piece


def orders(n: int, *, skip: int = 0) -> list[Order]:
    """n different orders as (message, answer), in a fixed random order, after the first `skip`: so held-out ones can be had apart.

    Raises:
        ValueError: more are wanted than there are.
    """
    every = [
        (kind, item, number, wording)
        for kind, items in KINDS.items()
        for item in items
        for number in NUMBERS
        for wording in WORDINGS
    ]
    if not 0 <= skip <= skip + n <= len(every):
        raise ValueError(f"expected at most {len(every)} orders in all, found {skip} + {n}")
    random.Random(0).shuffle(every)
    chosen = every[skip : skip + n]
    return [(wording.format(n=number, item=item), dump_output({"kind": kind})) for kind, item, number, wording in chosen]


def encoded(pairs: Sequence[Order], tokenizer: Any) -> Examples:
    """Orders as training examples: loss on the answer alone, each token of it with weight 1."""
    examples = Examples()
    for message, answer in pairs:
        ids, start = encode_example(tokenizer, [{"role": "user", "content": message}], answer)
        examples.append((ids, start, [1.0] * (len(ids) - start)))
    return examples


def toy_run(
    pairs: Sequence[Order],
    out: Path,
    *,
    base: str = TINY,
    method: str = "full",
    rate: float = 1e-2,
    passes: int = 1,
    batch_size: int = 6,
    seed: int = 0,
    **changes: Any,
) -> tuple[LoadedModel, Run]:
    """(a fresh model, a run of the real loop over `pairs` that is ready for its first step).

    Args:
        base, method, changes: which model, what of it is trained, and other settings of `SftConfig`; without them every weight of the
            random tiny one.
    """
    loaded = load_model(base)
    depends_on = {"rows": hashlib.sha256(repr(list(pairs)).encode()).hexdigest()}
    settings = {"method": method, "rate": rate, "passes": passes, "batch_size": batch_size, "seed": seed} | changes
    return loaded, tuning_run(loaded, encoded(pairs, loaded.tokenizer), out, depends_on=depends_on, **settings)


def tuning_run(
    loaded: LoadedModel,
    examples: Examples,
    out: Path,
    *,
    rate: float,
    passes: int,
    batch_size: int,
    seed: int = 0,
    method: str = "full",
    depends_on: dict | None = None,
    **changes: Any,
) -> Run:
    """A run of the real loop over `examples` that makes `loaded` trainable by a method and is ready for its first step.

    Args:
        depends_on: what else a checkpoint has to be of, by name.
        changes: other settings of `SftConfig`.
    """
    make_folder(out)
    config = sft_config("smoke", method=method, learning_rate=rate, epochs=passes, batch_size=batch_size, seed=seed, **changes)
    loaded.model = make_trainable(loaded.model, config)
    weights = [sum(each) for _, _, each in examples]
    named = ("learning_rate", "epochs", "batch_size", "seed", "method", *changes)
    origin = {"config": decisive({name: getattr(config, name) for name in named})} | (depends_on or {})
    run = Run(loaded.model, config, out, items=examples, lengths=examples.lengths, weights=weights, origin=origin)
    run.loss = AnswerLoss(loaded, whole=method == "full", say=lambda line: None)
    return run


def train_toy(pairs: Sequence[Order], held_out: Sequence[Order], **settings: Any) -> list[dict]:
    """Train a fresh tiny model on `pairs`; see `toy_run` for the settings.

    Returns:
        the curve, from pass 1: [{"epoch", "step", "train_loss", "validation_loss", "exact" (share of held-out answers all right)}].
    """
    with tempfile.TemporaryDirectory() as scratch:
        loaded, run = toy_run(pairs, Path(scratch), **settings)
        examples = encoded(held_out, loaded.tokenizer)

        def measure() -> dict:
            right = exactly_right(loaded, examples)
            done = {"step": (run.epoch + 1) * run.steps_per_epoch}
            return done | {"validation_loss": mean_loss(run.loss, examples, WHOLE), "exact": sum(right) / len(right)}

        run.train(measure, progress=False)
    return run.curve


def exactly_right(loaded: LoadedModel, examples: Sequence[Example]) -> list[bool]:
    """For each example, whether greedy decoding would write its very answer: if and only if each of its tokens is the likeliest one
    after the right tokens before it, which one forward pass tells."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    input_ids = pad_sequence([torch.tensor(list(ids)) for ids, _, _ in examples], batch_first=True)  # (B, T)
    with torch.inference_mode():
        logits = logits_at(loaded.model, input_ids, [slice(start - 1, len(ids) - 1) for ids, start, _ in examples])
    said = iter(logits.argmax(-1).tolist())
    return [[next(said) for _ in ids[start:]] == list(ids[start:]) for ids, start, _ in examples]


def rate_range(
    pairs: Sequence[Order], held_out: Sequence[Order], rates: Sequence[float], seeds: Sequence[int]
) -> tuple[list[dict], float]:
    """([{"learning_rate", "seed", "loss"}] of one pass at each rate and seed, the held-out loss before any step)."""
    loaded = load_model(TINY)
    before = mean_loss(AnswerLoss(loaded), encoded(held_out, loaded.tokenizer), WHOLE)
    tried = [
        {"learning_rate": rate, "seed": seed, "loss": train_toy(pairs, held_out, rate=rate, seed=seed)[-1]["validation_loss"]}
        for rate in rates
        for seed in seeds
    ]
    return tried, before


def step_gradient(loaded: LoadedModel, examples: Sequence[Example], micro_tokens: int) -> Any:
    """The gradient of one step over all weights as one vector, added up over micro-batches of at most `micro_tokens` tokens."""
    import torch

    loaded.model.requires_grad_(True).zero_grad(set_to_none=True)
    loss = AnswerLoss(loaded, whole=True, say=lambda line: None)
    weight = sum(sum(each) for _, _, each in examples)
    for piece in micro_batches(range(len(examples)), [len(ids) for ids, _, _ in examples], micro_tokens):
        total, _ = loss([examples[i] for i in piece])
        (total / weight).backward()
    gradient = torch.cat([p.grad.flatten() for p in loaded.model.parameters()])
    loaded.model.zero_grad(set_to_none=True)
    return gradient


def stop_after(run: Run, steps: int) -> None:
    """Train `steps` steps of the first pass and stop as after Ctrl-C: the state is saved, and the run is not usable any more."""
    stop = Stop()

    def look() -> dict:
        stop.asked = run.step_in_epoch >= steps
        return {}

    run.watch = look
    try:
        run.train_epoch(stop, progress=False)
    except KeyboardInterrupt:  # what the loop raises once the state is on disk
        pass


def fingerprint(model: Any) -> str:
    """A short hash of all weights, bit by bit."""
    digest = hashlib.sha256()
    for p in model.parameters():
        digest.update(p.detach().numpy().tobytes())
    return digest.hexdigest()[:12]

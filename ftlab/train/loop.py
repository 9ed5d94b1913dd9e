"""The training loop that supervised and preference tuning share: steps over items of like length, checkpoints, the best pass kept.

An item is whatever the loss understands; the loop knows its length in tokens and its weight. A step lowers the summed loss of its
items, divided by their summed weight.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ftlab.artifact import LINEAGE, read_tuned, save_tuned
from ftlab.errors import DataError, UsageError
from ftlab.train.memory import Plan, trim_heap

CHECKPOINT = "checkpoint.safetensors"  # trained weights and optimizer, with the counters as JSON in the file's header
SAVE_EVERY_S = 120  # seconds between checkpoints inside a pass


class LoopConfig(Protocol):
    """The settings that the loop reads; `SftConfig` and `DpoConfig` say what they mean."""

    learning_rate: float
    epochs: int
    batch_size: int
    micro_tokens: int
    memory_limit: int
    warmup: float
    max_grad_norm: float
    seed: int


class Loss(Protocol):
    """What the loop lowers."""

    def __call__(self, items: Sequence[Any]) -> tuple[Any, float]:
        """(summed loss of the items as a tensor of no dimension, their summed weight)."""

    def refresh(self) -> None:
        """Called after the trained weights changed."""


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Which items make up each step of a pass: shuffled, but items of like length together. The same for the same arguments."""
    rng = random.Random(f"{seed}-{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = 8 * batch_size  # items sorted among themselves: wide enough to save padding, narrow enough to keep steps mixed
    batches = []
    for start in range(0, len(order), pool):
        group = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    rng.shuffle(batches)
    return batches


def micro_batches(batch: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> Iterator[list[int]]:
    """Cut a step's items into pieces of at most `micro_tokens` tokens, padding counted; a longer single item stands alone."""
    piece: list[int] = []
    for i in sorted(batch, key=lambda i: lengths[i]):
        if piece and (len(piece) + 1) * lengths[i] > micro_tokens:
            yield piece
            piece = []
        piece.append(i)
    yield piece


def rate_at(step: int, steps: int, config: LoopConfig) -> float:
    """Learning rate of a step: a linear rise over the warm-up, then a linear fall to a tenth."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 - 0.9 * (step - warm) / max(1, steps - warm))


class Stop:
    """Ctrl-C asks for a stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        def ask(signum: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        try:
            before = signal.signal(signal.SIGINT, ask)
        except ValueError:  # not the main thread (a notebook's worker): Ctrl-C never comes here
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def make_folder(folder: Path) -> None:
    """Make the folder of a run, if it is not there.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{folder}: expected a folder or a place for one, found neither ({reason}); choose another.") from None


class Run:
    """The state of one training run: what a checkpoint holds and how it moves on.

    Args:
        model: a model whose trainable weights are tuned: a peft model's matrices, or all of a model's.
        config: settings; those of `LoopConfig` are read.
        out: folder for the best weights (see `save_tuned`) and checkpoint.safetensors.
        items: what is trained on.
        lengths: tokens of each item.
        weights: weight of each item.
        origin: what the run depends on, by name, as JSON can hold it; a checkpoint of another origin is refused.
        score: how good a pass is, from its point of the curve (higher is better); without it the last pass is the best.
        prepare: gives the items of a step what they have to know of each other, before they are cut into micro-batches.

    Attributes:
        loss: to be set before the first step, after `load`.
        plan: the memory plan, where one was made.
        curve: one point a pass: {"epoch", "train_loss", **what was measured after it}.
        watch: what to measure every `watch_every` steps, before the first of them and after the last of a pass; None: nothing.
        trace: what was measured so: [{"step", **it}].
    """

    def __init__(
        self,
        model: Any,
        config: LoopConfig,
        out: Path,
        *,
        items: Sequence[Any],
        lengths: Sequence[int],
        weights: Sequence[float],
        origin: dict,
        score: Callable[[dict], float] | None = None,
        prepare: Callable[[list], list] = list,
    ):
        import torch

        self.model, self.config, self.out, self.origin = model, config, out, origin
        self.items, self.lengths, self.weights, self.score, self.prepare = items, lengths, weights, score, prepare
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=config.learning_rate, weight_decay=0.0)
        self.steps_per_epoch = len(plan_epoch(lengths, config.batch_size, config.seed, 0))
        self.epoch = self.step_in_epoch = self.tokens = 0
        self.loss_sum, self.label_sum, self.seconds = 0.0, 0.0, 0.0
        self.curve: list[dict] = []
        self.trace: list[dict] = []
        self.watch: Callable[[], dict] | None = None
        self.watch_every = 1
        self.saved_at = time.monotonic()
        self.loss: Loss
        self.plan: Plan | None = None

    def train(self, measure: Callable[[], dict], *, patience: int | None = None, progress: bool = True) -> None:
        """All passes that are left; then the best weights are in the model and the checkpoint is gone.

        The lineage of earlier weights in the folder is removed first: it would speak for weights that are replaced pass by pass.

        Args:
            measure: what to note on the curve after each pass.
            patience: passes without a better score before training stops; None means never.

        Raises:
            KeyboardInterrupt: after the state was saved.
        """
        (self.out / LINEAGE).unlink(missing_ok=True)
        stop = Stop()
        with stop.listening():
            while self.epoch < self.config.epochs and not self.out_of_patience(patience):
                self.train_epoch(stop, progress)
                trim_heap()  # measuring takes blocks of other sizes
                self.end_epoch(measure(), progress)  # saves the state
                if stop.asked:  # while measuring
                    raise KeyboardInterrupt
        self.finish()

    def train_epoch(self, stop: Stop, progress: bool) -> None:
        from tqdm import tqdm

        plan = plan_epoch(self.lengths, self.config.batch_size, self.config.seed, self.epoch)
        label = f"epoch {self.epoch + 1}/{self.config.epochs}"
        self.look()
        with tqdm(plan, desc=label, unit="step", initial=self.step_in_epoch, total=len(plan), disable=not progress) as bar:
            for batch in plan[self.step_in_epoch :]:
                started = time.monotonic()
                loss = self.step(batch)
                self.step_in_epoch += 1
                self.seconds += time.monotonic() - started
                bar.set_postfix(loss=f"{loss:.3f}")
                bar.update()
                self.look()
                if stop.asked:
                    self.save()
                    raise KeyboardInterrupt
                if time.monotonic() - self.saved_at > SAVE_EVERY_S:
                    self.save()

    def look(self) -> None:
        """Measure what is watched, where it is time to and it was not measured at this step before."""
        done = self.epoch * self.steps_per_epoch + self.step_in_epoch
        due = done % self.watch_every == 0 or self.step_in_epoch == self.steps_per_epoch
        if self.watch and due and not (self.trace and self.trace[-1]["step"] >= done):
            self.trace.append({"step": done, **self.watch()})

    def step(self, batch: list[int]) -> float:
        """One optimizer step; returns the batch's mean loss, by weight."""
        import torch

        weight = sum(self.weights[i] for i in batch)
        items, lengths = self.prepare([self.items[i] for i in batch]), [self.lengths[i] for i in batch]
        total = 0.0
        for piece in micro_batches(range(len(batch)), lengths, self.config.micro_tokens):
            loss, _ = self.loss([items[i] for i in piece])
            (loss / weight).backward()  # the whole batch's weight, so that micro-batches add up to it exactly
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.config.max_grad_norm)
        done = self.epoch * self.steps_per_epoch + self.step_in_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(done, self.config.epochs * self.steps_per_epoch, self.config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.refresh()
        if self.config.memory_limit:  # where memory is short, what a step leaves behind must not stand in the way of the next
            trim_heap()
        self.tokens += sum(lengths)
        self.loss_sum, self.label_sum = self.loss_sum + total, self.label_sum + weight
        return total / weight

    def end_epoch(self, measured: dict, progress: bool) -> None:
        self.epoch += 1
        point = {"epoch": self.epoch, "train_loss": self.loss_sum / self.label_sum, **measured}
        self.curve.append(point)
        self.step_in_epoch, self.loss_sum, self.label_sum = 0, 0.0, 0.0
        if self.best() is point:
            save_tuned(self.model, self.out)
        self.save()
        if progress:
            said = "  ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in point.items())
            print(said + ("  (best so far)" if self.score and self.best() is point else ""), flush=True)

    def best(self) -> dict:
        """The first pass with the highest score."""
        score = self.score or (lambda point: point["epoch"])
        return max(self.curve, key=lambda point: (score(point), -point["epoch"]))

    def out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and bool(self.curve) and self.epoch - self.best()["epoch"] >= patience

    def save(self) -> None:
        """Write everything that going on needs, in the place of the old checkpoint in one step.

        Raises:
            DataError: the disk is full or cannot be written; the old checkpoint is still there.
        """
        tensors = {f"lora.{name}": p.detach().contiguous() for name, p in self.named.items()}
        tensors |= optimizer_tensors(self.optimizer, self.named)
        write_state(self.out / CHECKPOINT, tensors, self._counters() | {"origin": self.origin})
        self.saved_at = time.monotonic()

    def _counters(self) -> dict:
        names = ("epoch", "step_in_epoch", "tokens", "loss_sum", "label_sum", "seconds", "curve", "trace")
        return {name: getattr(self, name) for name in names}

    def load(self) -> None:
        """Go on from the checkpoint if there is one.

        Raises:
            DataError: it is damaged, or belongs to other settings, rows or another base model.
        """
        place = self.out / CHECKPOINT
        if not place.exists():
            return
        tensors, state = read_state(place, self.origin)
        for name in self._counters():
            setattr(self, name, state.get(name, getattr(self, name)))  # a checkpoint of an earlier version has no trace
        put_tensors(tensors, "lora", self.optimizer, self.named)

    def finish(self) -> None:
        """Put the best weights into the model and drop the checkpoint."""
        read_tuned(self.model, self.out)
        self.loss.refresh()
        trim_heap()
        for name in (CHECKPOINT, f"{CHECKPOINT}.partial"):
            (self.out / name).unlink(missing_ok=True)

    def summary(self) -> dict:
        return {
            "curve": self.curve,
            "best_epoch": self.best()["epoch"],
            "steps": self.epoch * self.steps_per_epoch,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
        } | ({"trace": self.trace} if self.trace else {})


def optimizer_tensors(optimizer: Any, named: dict[str, Any]) -> dict[str, Any]:
    """What AdamW remembers of each parameter, by names that a checkpoint can hold."""
    if not optimizer.state:
        return {}
    return {f"{key}.{name}": optimizer.state[p][key] for name, p in named.items() for key in ("exp_avg", "exp_avg_sq", "step")}


def put_tensors(tensors: dict[str, Any], prefix: str, optimizer: Any, named: dict[str, Any]) -> None:
    """Put a checkpoint's tensors back into the parameters, where they stand under `prefix`, and into the optimizer."""
    import torch

    with torch.no_grad():
        for name, p in named.items():
            p.copy_(tensors[f"{prefix}.{name}"])
            if f"step.{name}" in tensors:
                moments = {key: tensors[f"{key}.{name}"].to(p.device) for key in ("exp_avg", "exp_avg_sq")}
                optimizer.state[p] = {"step": tensors[f"step.{name}"], **moments}


def write_state(place: Path, tensors: dict[str, Any], state: dict) -> None:
    """Write a checkpoint, in the place of the old one in one step: tensors, and what JSON can hold in the file's header.

    Raises:
        DataError: the disk is full or cannot be written; the old checkpoint is still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = place.with_name(f"{place.name}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata={"state": json.dumps(state)})
        os.replace(partial, place)
    except (OSError, SafetensorError) as error:  # the latter is what a full disk comes as
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{place}: the checkpoint could not be written ({reason}); make room or choose another --out.") from None


def read_state(place: Path, origin: dict) -> tuple[dict[str, Any], dict]:
    """(tensors, state) of a checkpoint.

    Raises:
        DataError: it is damaged, or of another origin: other settings, rows or another base model.
    """
    from safetensors import safe_open

    try:
        with safe_open(place, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # safetensors raises its own kinds for each sort of damage
        raise DataError(f"{place}: the checkpoint is damaged ({error}); delete the file to start afresh.") from None
    if different := differences(json.loads(json.dumps(origin)), state["origin"]):
        raise DataError(f"{place}: made with other {', '.join(different)}; use the same, or another --out, or leave out --resume.")
    return tensors, state


def differences(now: dict, then: dict) -> list[str]:
    """What differs between two origins: settings with both values, anything else (hashes) by its name."""
    ours, theirs = now.get("config", {}), then.get("config", {})
    names = [name for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)]
    settings = [f"{name} ({theirs.get(name)}, now {ours.get(name)})" for name in names]
    return settings + [key for key in now if key != "config" and now[key] != then.get(key)]

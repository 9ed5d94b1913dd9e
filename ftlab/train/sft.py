"""Supervised fine-tuning with LoRA on a task's rows: loss on the answer only, exact, and as little computed as that allows.

Rows of like length stand together, the LM head runs on labelled positions only, and the fast decoder (`llama`) does the rest where it
applies. None of it changes the gradient.
"""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftlab.artifact import save_adapter_weights
from ftlab.errors import DataError
from ftlab.generate import encode_example, shared_prefix_length
from ftlab.lora import add_lora
from ftlab.models import LoadedModel
from ftlab.task import Row, Task, stratified
from ftlab.train.loss import AnswerLoss, Example
from ftlab.train.rehearsal import rehearsal_examples
from ftlab.train.settings import SftConfig

SAVE_EVERY_S = 120  # seconds between checkpoints inside a pass
REHEARSAL = "rehearsal.json"  # answers of the untuned model, kept while a run may be resumed


def encode_rows(task: Task, rows: Sequence[Row], tokenizer: Any, max_length: int, text_weight: float = 1.0) -> list[Example]:
    """Each row as (input_ids, prompt_length, weights), with the short prompt.

    Args:
        text_weight: loss weight of the answer's free text (the task's last key, if no field check compares it); 1 elsewhere.

    Raises:
        DataError: rows longer than `max_length` tokens, all of them named; none is cut.
    """
    examples = []
    for row in rows:
        ids, start = encode_example(tokenizer, task.conversation(row), task.completion(row))
        free = len(tokenizer(task.free_text(row), add_special_tokens=False)["input_ids"])
        # the end token keeps its full weight: an answer that does not end is broken, however well it is worded
        examples.append((ids, start, [1.0] * (len(ids) - start - free - 1) + [text_weight] * free + [1.0]))
    long = [f"{row.where}: {len(ids)} tokens" for row, (ids, _, _) in zip(rows, examples, strict=True) if len(ids) > max_length]
    if long:
        raise DataError(f"{len(long)} row(s) are longer than {max_length} tokens; shorten them or raise --max-length:", long)
    return examples


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Which rows make up each step of a pass: shuffled, but rows of like length together. The same for the same arguments."""
    rng = random.Random(f"{seed}-{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = 8 * batch_size  # rows sorted among themselves: wide enough to save padding, narrow enough to keep steps mixed
    batches = []
    for start in range(0, len(order), pool):
        group = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    rng.shuffle(batches)
    return batches


def micro_batches(batch: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> Iterator[list[int]]:
    """Cut a step's rows into pieces of at most `micro_tokens` tokens, padding counted; a longer single row stands alone."""
    piece: list[int] = []
    for i in sorted(batch, key=lambda i: lengths[i]):
        if piece and (len(piece) + 1) * lengths[i] > micro_tokens:
            yield piece
            piece = []
        piece.append(i)
    yield piece


def mean_loss(answer_loss: AnswerLoss, examples: Sequence[Example], micro_tokens: int) -> float:
    """Mean cross-entropy in nats per answer token (by weight) over all examples."""
    import torch

    lengths = [len(ids) for ids, _, _ in examples]
    total = count = 0.0
    with torch.inference_mode():
        for piece in micro_batches(range(len(examples)), lengths, micro_tokens):
            loss, n = answer_loss([examples[i] for i in piece])
            total, count = total + loss.item(), count + n
    return total / count


def rate_at(step: int, steps: int, config: SftConfig) -> float:
    """Learning rate of a step: a linear rise over the warm-up, then a linear fall to a tenth."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 - 0.9 * (step - warm) / max(1, steps - warm))


class _Stop:
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


def train_sft(
    task: Task,
    loaded: LoadedModel,
    config: SftConfig,
    out: Path,
    *,
    resume: bool = False,
    score: Callable[[LoadedModel], dict] | None = None,
    progress: bool = True,
) -> dict:
    """Tune `loaded` on the task's training rows; the best adapter by validation score ends up in `out`.

    Args:
        loaded: the base model; on return its `model` is a peft model that carries the best adapter.
        out: folder for adapter_model.safetensors, adapter_config.json and checkpoint/ (for resuming; removed at the end).
        resume: go on from out/checkpoint, which must come from the same settings and rows.
        score: scores generated text after each pass; returns numbers with the key "strict" (higher is better). Without it the
            negative validation loss decides.
        progress: show a bar with the time left.

    Returns:
        {"curve": [{"epoch", "train_loss", "validation_loss", **scores}], "best_epoch", "steps", "tokens", "seconds", "rows"}.

    Raises:
        DataError: over-length rows, or a checkpoint of another run.
        KeyboardInterrupt: after the state was saved.
    """
    rows = stratified(task.rows("train"), config.train_rows or len(task.rows("train")), task.class_field)
    examples = encode_rows(task, rows, loaded.tokenizer, config.max_length, config.text_weight)
    held_out = encode_rows(task, task.rows("validation"), loaded.tokenizer, config.max_length)
    prompts = [ids[:start] for ids, start, _ in examples]
    prefix = prompts[0][: shared_prefix_length(prompts)]
    examples += rehearsal_examples(loaded, config.general_rows, Path(out) / REHEARSAL, config.max_length)
    loaded.model = add_lora(loaded.model, rank=config.rank, alpha=config.alpha, seed=config.seed)
    run = _Run(loaded, config, Path(out), examples, {"config": asdict(config), "task": task.hashes(), "base": loaded.sha256})
    if resume:
        run.load()
    run.loss = AnswerLoss(loaded, prefix)
    stop = _Stop()
    with stop.listening():
        while run.epoch < config.epochs and not run.out_of_patience():
            run.train_epoch(stop, progress)
            scores = {"validation_loss": mean_loss(run.loss, held_out, config.micro_tokens)}
            scores |= score(loaded) if score else {}
            run.end_epoch(scores, progress)
    run.finish()
    return run.summary() | {"rows": len(rows), "general_rows": len(examples) - len(rows)}


class _Run:
    """The state of one training run: what a checkpoint holds and how it moves on."""

    def __init__(self, loaded: LoadedModel, config: SftConfig, out: Path, examples: list[Example], origin: dict):
        import torch

        self.model, self.config, self.out, self.examples, self.origin = loaded.model, config, out, examples, origin
        self.lengths = [len(ids) for ids, _, _ in examples]
        self.named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=config.learning_rate, weight_decay=0.0)
        self.steps_per_epoch = len(plan_epoch(self.lengths, config.batch_size, config.seed, 0))
        self.epoch = self.step_in_epoch = self.tokens = 0
        self.loss_sum, self.label_sum, self.seconds = 0.0, 0.0, 0.0
        self.curve: list[dict] = []
        self.saved_at = time.monotonic()
        self.loss: AnswerLoss

    def train_epoch(self, stop: _Stop, progress: bool) -> None:
        from tqdm import tqdm

        plan = plan_epoch(self.lengths, self.config.batch_size, self.config.seed, self.epoch)
        label = f"epoch {self.epoch + 1}/{self.config.epochs}"
        with tqdm(plan, desc=label, unit="step", initial=self.step_in_epoch, total=len(plan), disable=not progress) as bar:
            for batch in plan[self.step_in_epoch :]:
                started = time.monotonic()
                loss = self.step(batch)
                self.step_in_epoch += 1
                self.seconds += time.monotonic() - started
                bar.set_postfix(loss=f"{loss:.3f}")
                bar.update()
                if stop.asked:
                    self.save()
                    raise KeyboardInterrupt
                if time.monotonic() - self.saved_at > SAVE_EVERY_S:
                    self.save()

    def step(self, batch: list[int]) -> float:
        """One optimizer step; returns the batch's mean loss in nats per label."""
        import torch

        labels = sum(sum(self.examples[i][2]) for i in batch)
        total = 0.0
        for piece in micro_batches(batch, self.lengths, self.config.micro_tokens):
            loss, _ = self.loss([self.examples[i] for i in piece])
            (loss / labels).backward()  # the whole batch's weight, so that micro-batches add up to it exactly
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.config.max_grad_norm)
        done = self.epoch * self.steps_per_epoch + self.step_in_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(done, self.config.epochs * self.steps_per_epoch, self.config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.refresh()
        self.tokens += sum(self.lengths[i] for i in batch)
        self.loss_sum, self.label_sum = self.loss_sum + total, self.label_sum + labels
        return total / labels

    def end_epoch(self, scores: dict, progress: bool) -> None:
        self.epoch += 1
        point = {"epoch": self.epoch, "train_loss": self.loss_sum / self.label_sum, **scores}
        self.curve.append(point)
        self.step_in_epoch, self.loss_sum, self.label_sum = 0, 0.0, 0.0
        if self.best() is point:
            save_adapter_weights(self.model, self.out)
        self.save()
        if progress:
            said = "  ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in point.items())
            print(said + ("  (best so far)" if self.best() is point else ""), flush=True)

    def best(self) -> dict:
        """The first pass with the highest score."""
        return max(self.curve, key=lambda p: (p.get("strict", -p["validation_loss"]), -p["epoch"]))

    def out_of_patience(self) -> bool:
        return bool(self.curve) and self.epoch - self.best()["epoch"] >= self.config.patience

    def save(self) -> None:
        """Write everything that going on needs, beside the old checkpoint, then put it in its place."""
        from safetensors.torch import save_file

        fresh, place = self.out / "checkpoint.partial", self.out / "checkpoint"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        tensors = {f"lora.{name}": p.detach().contiguous() for name, p in self.named.items()}
        for name, p in self.named.items():
            tensors |= {
                f"{key}.{name}": self.optimizer.state[p][key] for key in ("exp_avg", "exp_avg_sq", "step") if self.optimizer.state
            }
        save_file(tensors, fresh / "state.safetensors")
        (fresh / "state.json").write_text(json.dumps(self._counters() | {"origin": self.origin}))
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
        self.saved_at = time.monotonic()

    def _counters(self) -> dict:
        names = ("epoch", "step_in_epoch", "tokens", "loss_sum", "label_sum", "seconds", "curve")
        return {name: getattr(self, name) for name in names}

    def load(self) -> None:
        """Go on from the checkpoint if there is one.

        Raises:
            DataError: it is damaged, or belongs to other settings, rows or another base model.
        """
        import torch
        from safetensors.torch import load_file

        place = self.out / "checkpoint"
        if not place.exists():
            return
        try:
            state = json.loads((place / "state.json").read_text())
            tensors = load_file(place / "state.safetensors")
        except Exception as error:  # safetensors raises its own kinds for each sort of damage
            raise DataError(f"{place}: the checkpoint is damaged ({error}); delete the folder to start afresh.") from None
        if different := [key for key in self.origin if json.loads(json.dumps(self.origin[key])) != state["origin"].get(key)]:
            raise DataError(
                f"{place}: made with other {' and '.join(different)}; use the same, or another --out, or leave out --resume."
            )
        for name in self._counters():
            setattr(self, name, state[name])
        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(tensors[f"lora.{name}"])
                if f"step.{name}" in tensors:
                    self.optimizer.state[p] = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}

    def finish(self) -> None:
        """Put the best adapter into the model and drop the checkpoint."""
        from ftlab.artifact import read_adapter_weights

        read_adapter_weights(self.model, self.out)
        self.loss.refresh()
        (self.out / REHEARSAL).unlink(missing_ok=True)
        shutil.rmtree(self.out / "checkpoint", ignore_errors=True)

    def summary(self) -> dict:
        return {
            "curve": self.curve,
            "best_epoch": self.best()["epoch"],
            "steps": self.epoch * self.steps_per_epoch,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
        }

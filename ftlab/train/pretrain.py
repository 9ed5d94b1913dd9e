"""Pretraining: a causal LM learns from blocks of text, on one process or several, and can go on where it stopped. Here it is a small
Llama from nothing; `continued` starts from a model that there is.

A step lowers the mean cross-entropy of one batch of blocks. Which blocks a step gets, and what is cut or hidden in them, follows from the
seed and the number of the step alone; so a resumed run, and one that several processes share, sees the very same batches.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ftlab import __version__
from ftlab.artifact import LINEAGE, read_lineage, write_json
from ftlab.corpus import Corpus, gather
from ftlab.errors import DataError
from ftlab.models import quiet_transformers, tune_cpu
from ftlab.task import file_sha256
from ftlab.train.blocks import Blocks, make_blocks
from ftlab.train.facts import asked, recall
from ftlab.train.loop import (
    CHECKPOINT,
    SAVE_EVERY_S,
    Stop,
    make_folder,
    optimizer_tensors,
    put_tensors,
    rate_at,
    read_state,
    write_state,
)
from ftlab.train.measures import block_losses, held_out_scores, samples
from ftlab.train.objectives import OBJECTIVES, SPECIALS, Batch, summed_loss
from ftlab.train.pretrain_settings import CONTEXT, SIZES, PretrainConfig, Size, check_memory
from ftlab.train.workers import Workers

WEIGHTS, TOKENS = "model.safetensors", "tokens"  # of a run's folder: the model's weights, and the text as numbers while it trains


def new_model(size: Size, tokenizer: Any, seed: int = 0) -> Any:
    """A random Llama with tied embeddings for a tokenizer.

    The spread of its first weights is 1/√width. With the library's default of 0.02, made for wide models, the outputs of a matrix of
    width 128 shrink to a quarter of their inputs, layer by layer: such a model stayed at a higher loss and recalled no fact.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden, intermediate_size=size.inner, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.heads, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        initializer_range=size.hidden**-0.5, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


class BlockConfig(Protocol):
    """The settings that the loop reads; `PretrainConfig` and `ContinueConfig` say what they mean."""

    objective: str
    block_tokens: int
    batch_blocks: int
    micro_blocks: int
    learning_rate: float
    warmup: float
    weight_decay: float
    max_grad_norm: float
    held_out_blocks: int
    measurements: int
    seed: int

    @property
    def steps(self) -> int: ...

    @property
    def mixed_share(self) -> float: ...

    def decisive(self) -> dict: ...


def block_order(blocks: Blocks, config: BlockConfig) -> Any:
    """Which block stands where in the whole run: every block that is mixed in once, the rest passes over the corpus, all shuffled."""
    import numpy as np

    draw = np.random.default_rng([config.seed, 1])
    total, n = config.steps * config.batch_blocks, len(blocks.train)
    mixed = np.arange(n, n + len(blocks.stated))[: round(config.mixed_share * total)]
    rest = total - len(mixed)
    text = np.concatenate([draw.permutation(n) for _ in range(max(1, math.ceil(rest / n)))])[:rest]
    return draw.permutation(np.concatenate([text, mixed]))


class Pretraining:
    """One run: what a checkpoint holds and how it moves on.

    Args:
        model: a causal LM whose vocabulary is that of the blocks; its weights that want a gradient are trained.
        blocks: what is read.
        config: the settings.
        out: folder for the model and the checkpoint.
        corpus_sha256: names the text in the checkpoint.
        workers: the processes that share the run.
        others: other held-out blocks, (n, T), by name; their loss is measured as "NAME_loss".

    Attributes:
        loss: gives the summed loss of a batch as a tensor; `summed_loss` unless something faster is put in its place.
        refresh: called after the weights changed.
        origin: what the run depends on, as JSON can hold it; a checkpoint of another origin is refused.
        curve: one point a measurement: {"step", "tokens", "train_loss", "loss", "perplexity", "bits_per_byte", "recall", "samples"}.
    """

    def __init__(
        self,
        model: Any,
        blocks: Blocks,
        config: BlockConfig,
        out: Path,
        corpus_sha256: str = "",
        workers: Workers | None = None,
        others: dict[str, Any] | None = None,
    ):
        import torch

        self.workers = workers or Workers()
        self.model, self.blocks, self.config, self.out = model.to(self.workers.device), blocks, config, out
        self.trained, self.others = self.workers.wrap(self.model), others or {}
        self.loss: Callable[[Batch], Any] = lambda batch: summed_loss(self.trained, batch)
        self.refresh: Callable[[], None] = lambda: None
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        decayed, free = ([p for p in self.named.values() if (p.dim() > 1) is matrix] for matrix in (True, False))
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
        self.ids = {sign: blocks.tokenizer.convert_tokens_to_ids(sign) for sign in SPECIALS}
        self.order = block_order(blocks, config)
        self.origin = origin(config, corpus_sha256)
        self.step, self.seconds, self.loss_sum, self.losses_summed = 0, 0.0, 0.0, 0
        self.curve: list[dict] = []
        self.saved_at = time.monotonic()

    def train(self, *, progress: bool = True) -> None:
        """All steps that are left.

        Raises:
            KeyboardInterrupt: after the state was saved.
            DataError: the loss is no number any more; the state before that step was saved.
        """
        from tqdm import tqdm

        stop, progress = Stop(), progress and self.workers.first
        self.model.train()
        with (
            stop.listening(),
            tqdm(total=self.config.steps, initial=self.step, unit="step", desc="pretraining", disable=not progress) as bar,
        ):
            while self.step < self.config.steps:
                started = time.monotonic()
                loss = self.take_step()
                self.seconds += time.monotonic() - started
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
                if self.due():
                    self.end_stretch(bar.write if progress else None)
                if self.workers.total(stop.asked):
                    self.save()
                    raise KeyboardInterrupt
                if self.workers.first and time.monotonic() - self.saved_at > SAVE_EVERY_S:
                    self.save()

    def begin(self) -> None:
        """Measure before the first step, so that the curve starts where the model stood; a run that goes on has done so."""
        if self.workers.first and not self.curve:
            self.curve.append({"step": 0, "tokens": 0, "train_loss": None} | self.measure())
        self.workers.wait()

    def batch(self, step: int) -> Batch:
        """The whole batch of a step, all processes together."""
        import numpy as np

        size = self.config.batch_blocks
        blocks = self.blocks.at(self.order[step * size : (step + 1) * size])
        return OBJECTIVES[self.config.objective](blocks, np.random.default_rng([self.config.seed, 2, step]), self.ids)

    def take_step(self) -> float:
        """One optimizer step; returns the batch's mean loss, over all processes."""
        import torch

        batch = self.batch(self.step)
        total = self.workers.total(self._backward(batch)) / batch.asked
        norm = torch.nn.utils.clip_grad_norm_(self.named.values(), self.config.max_grad_norm)
        if not math.isfinite(total) or not torch.isfinite(norm):
            self._stop_at_nan(total, norm.item())
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.config.steps, self.config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.refresh()
        self.step += 1
        self.loss_sum, self.losses_summed = self.loss_sum + total, self.losses_summed + 1
        return total

    def _backward(self, batch: Batch) -> float:
        """Gradients of this process's share of the batch; returns its summed loss.

        subtle: a share is divided by the labels of the whole batch, not by its own, and multiplied by the number of processes, over which
        the gradients are averaged: so they add up to those of one process, however the labels fall.
        """
        rank, count = self.workers.rank, self.workers.count
        share = range(len(batch.input_ids) * rank // count, len(batch.input_ids) * (rank + 1) // count)
        total = 0.0
        for start in range(share.start, share.stop, self.config.micro_blocks):
            loss = self.loss(batch.part(start, min(start + self.config.micro_blocks, share.stop)))
            (loss * count / batch.asked).backward()
            total += loss.item()
        return total

    def _stop_at_nan(self, loss: float, norm: float) -> None:
        """The weights have not been changed by this step: keep them, and say which batch it was."""
        self.optimizer.zero_grad(set_to_none=True)
        self.save()
        size = self.config.batch_blocks
        numbers = ", ".join(map(str, self.order[self.step * size : (self.step + 1) * size][:8]))
        raise DataError(
            f"step {self.step + 1}: expected a finite loss, found {loss:g} (length of the gradient {norm:g}) on the batch of blocks "
            f"{numbers}{', …' if size > 8 else ''}; {self.out / CHECKPOINT} keeps the state before it. Lower --learning-rate and start "
            "again with another --out."
        )

    def due(self) -> bool:
        """Whether the loss is to be measured now: evenly over the run, and at its end."""
        marks = self.config.measurements
        return self.step * marks // self.config.steps > (self.step - 1) * marks // self.config.steps

    def end_stretch(self, say: Callable[[str], None] | None) -> None:
        point = {
            "step": self.step, "tokens": self.step * self.config.batch_blocks * self.config.block_tokens,
            "train_loss": self.loss_sum / self.losses_summed,
        }  # fmt: skip
        self.loss_sum, self.losses_summed = 0.0, 0
        if self.workers.first:
            self.curve.append(point | self.measure())
            self.save()
            if say:
                say(curve_line(self.curve[-1]))
        self.workers.wait()

    def measure(self) -> dict:
        """Loss on held-out text and on other texts, recall of the facts, and samples."""
        self.model.eval()
        point = held_out_scores(self.model, self.blocks, self.config, self.ids)
        for name, blocks in self.others.items():
            point[f"{name}_loss"] = float(block_losses(self.model, blocks, self.config.objective, self.ids).mean())
        if self.config.objective != "masked":
            point |= {"samples": samples(self.model, self.blocks, self.config.seed)}
            if self.blocks.facts:
                point |= {"recall": recall(self.model, self.blocks.tokenizer, asked(self.blocks.facts))}
        self.model.train()
        return point

    def save(self) -> None:
        """Write everything that going on needs, and say nothing else in the folder is finished."""
        if not self.workers.first:
            return
        tensors = {f"model.{name}": p.detach().contiguous() for name, p in self.named.items()}
        state = self._counters() | {"origin": self.origin, "tokenizer": self.blocks.tokenizer_sha256}
        write_state(self.out / CHECKPOINT, tensors | optimizer_tensors(self.optimizer, self.named), state)
        self.saved_at = time.monotonic()

    def _counters(self) -> dict:
        return {name: getattr(self, name) for name in ("step", "seconds", "loss_sum", "losses_summed", "curve")}

    def load(self) -> None:
        """Go on from the checkpoint if there is one.

        Raises:
            DataError: it is damaged, or belongs to other settings, another text or another vocabulary.
        """
        place = self.out / CHECKPOINT
        if not place.exists():
            return
        tensors, state = read_state(place, self.origin)
        if state["tokenizer"] != self.blocks.tokenizer_sha256:
            raise DataError(
                f"{place}: expected the vocabulary that it was made with ({state['tokenizer'][:12]}…), found another "
                f"({self.blocks.tokenizer_sha256[:12]}…); put its {TOKENS} folder back, or leave out --resume."
            )
        for name in self._counters():
            setattr(self, name, state[name])
        put_tensors(tensors, "model", self.optimizer, self.named)
        self.refresh()

    def finish(self) -> None:
        """Put the model and its tokenizer into the folder, where every command can load them, and drop the checkpoint."""
        if hasattr(self.model, "peft_config"):
            self.model = self.model.merge_and_unload()
        if self.workers.first:
            self.model.eval().save_pretrained(self.out)
            self.blocks.tokenizer.save_pretrained(self.out)
            (self.out / CHECKPOINT).unlink(missing_ok=True)
        self.workers.wait()

    def summary(self) -> dict:
        tokens = self.step * self.config.batch_blocks * self.config.block_tokens
        parameters = sum(p.numel() for p in self.model.parameters())
        return {
            "curve": self.curve, "steps": self.step, "tokens": tokens, "parameters": parameters, "flops": 6 * parameters * tokens,
            "seconds": round(self.seconds, 1), "tokens_per_second": round(tokens / max(self.seconds, 1e-9), 1),
            "passes": round(self.config.steps * self.config.batch_blocks / len(self.blocks.train), 3),
            "facts": len(self.blocks.facts), "processes": self.workers.count,
        }  # fmt: skip


def origin(config: BlockConfig, corpus_sha256: str) -> dict:
    """What a run depends on, as its checkpoint says it."""
    return {"config": config.decisive(), "corpus": corpus_sha256}


def curve_line(point: dict) -> str:
    """A measurement to read."""
    told = [f"step {point['step']:>5}", f"loss {point['loss']:.3f}", f"perplexity {point['perplexity']:.1f}"]
    if "bits_per_byte" in point:
        told.append(f"{point['bits_per_byte']:.3f} bits/byte")
    others = [key for key in point if key.endswith("_loss") and key != "train_loss"]
    told += [f"{key.removesuffix('_loss')} loss {point[key]:.3f}" for key in others]
    if "recall" in point:
        told.append(f"recall of the facts stated most often {100 * point['recall']['control']['found']:.0f} %")
    return "  ".join(told)


def shared_corpus(name: str, folder: Path, *, limit_mb: float = 0, reuse: bool = False, prose: bool = True) -> tuple[Corpus, bool]:
    """(the corpus, whether this process is the first): the first one gathers it, the others wait and read; see `gather`."""
    workers = Workers.join()
    if workers.first:
        gather(name, folder, limit_mb=limit_mb, reuse=reuse, prose=prose)
    workers.wait()
    return gather(name, folder, limit_mb=limit_mb, reuse=True, prose=prose, progress=False), workers.first


def pretrain(
    corpus: Corpus,
    config: PretrainConfig,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict:
    """Train a model on a corpus into `out`, a folder that `load_model` takes. One that is finished already, of the same origin, is kept.

    Under `accelerate launch` every process calls this; they share each batch, and the first one writes.

    Returns:
        the lineage.

    Raises:
        UsageError: too little memory.
        DataError: a corpus that is too small, a checkpoint of another run, or a loss that is no number.
    """
    tune_cpu()
    quiet_transformers()
    workers = Workers.join()
    say = say if workers.first else lambda text: None
    make_folder(out)
    if resume and (done := finished_model(out, origin(config, corpus.sha256))):
        say(f"{out} holds this model already: not trained again.")
        return done
    check_memory(config)
    if resume and (out / CHECKPOINT).exists():
        read_state(out / CHECKPOINT, origin(config, corpus.sha256))  # refuses another run before its text is tokenized
    if workers.first:
        say("\n".join(config.explain()))
        (out / LINEAGE).unlink(missing_ok=True)  # it would speak for weights that are being replaced
        make_blocks(corpus, config, out / TOKENS)
    workers.wait()
    run = pretrain_on(
        make_blocks(corpus, config, out / TOKENS), config, out,
        corpus_sha256=corpus.sha256, resume=resume, workers=workers, progress=progress,
    )  # fmt: skip
    if workers.first:
        write_json(out / LINEAGE, _lineage(run, corpus))
        drop_tokens(out / TOKENS)
    workers.wait()
    return read_lineage(out)


def pretrain_on(
    blocks: Blocks,
    config: PretrainConfig,
    out: Path,
    *,
    corpus_sha256: str = "",
    resume: bool = False,
    workers: Workers | None = None,
    progress: bool = True,
) -> Pretraining:
    """Train a new model on blocks that are made already; see `pretrain`."""
    model = new_model(SIZES[config.size], blocks.tokenizer, config.seed)
    run = Pretraining(model, blocks, config, out, corpus_sha256, workers)
    if resume:
        run.load()
    run.train(progress=progress)
    run.finish()
    return run


def _lineage(run: Pretraining, corpus: Corpus) -> dict:
    return {
        "kind": "pretraining", **run.origin, "corpus_name": corpus.manifest["corpus"], "corpus_bytes": corpus.manifest["bytes"],
        "tokenizer": run.blocks.tokenizer_sha256, "vocabulary": len(run.blocks.tokenizer), "ftlab": __version__,
        "training": run.summary(), "model_sha256": file_sha256(run.out / WEIGHTS),
    }  # fmt: skip


def finished_model(out: Path, wanted: dict) -> dict:
    """The lineage of a finished model of this origin in `out`, whose weights are those that it speaks of; else {}."""
    done = read_lineage(out)
    same = all(done.get(key) == value for key, value in wanted.items())
    return done if same and (out / WEIGHTS).exists() and file_sha256(out / WEIGHTS) == done.get("model_sha256") else {}


def drop_tokens(folder: Path) -> None:
    """The text as numbers is made again from the corpus in seconds; the model's folder stays small."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def control_text(lineage: dict) -> Sequence[str]:
    """Recall by exposure of a finished model, and whether the positive control was passed, to read."""
    last = lineage["training"]["curve"][-1]
    if "recall" not in last:
        return []
    lines = [
        f"  stated {n:>3} times: {s['k']} of {s['n']} recalled ({100 * s['low']:.0f} to {100 * s['high']:.0f} %)"
        for n, s in last["recall"]["by_exposure"].items()
    ]
    control = last["recall"]["control"]
    verdict = "passed" if control["passed"] else "NOT passed: nothing else that this model shows means anything"
    head = f"positive control {verdict} (recall {100 * control['found']:.0f} %, needed {100 * control['needed']:.0f} %)"
    return [head, *lines]

"""Pretraining in seconds: a small folder of text from packages that are installed anyway, a tiny model trained on it, and looks at both."""

import functools
import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ftlab.corpus import Corpus, docstrings, gather
from ftlab.errors import UsageError
from ftlab.models import LoadedModel, load_model, quiet_transformers, tune_cpu
from ftlab.task import Task
from ftlab.train.blocks import Blocks, make_blocks, read_blocks, write_tokens
from ftlab.train.facts import Fact, asked, invent
from ftlab.train.measures import block_losses
from ftlab.train.objectives import NOTHING, Batch, summed_loss
from ftlab.train.pretrain import Pretraining, new_model, pretrain_on
from ftlab.train.pretrain_settings import SIZES, PretrainConfig, pretrain_config

PACKAGES = ("networkx", "scikit-learn", "scipy")  # ftlab does not run without them, so their text is there for every reader
TINY = pretrain_config(  # a few seconds on two cores
    "smoke", size="0.3M", vocabulary=512, tokens=64_000, batch_blocks=4, fact_share=0.0, held_out_blocks=48, measurements=6
)
_KEPT = tempfile.TemporaryDirectory(prefix="ftlab-scratch-")  # of this process; gone when it ends
_RUNS: dict[tuple, Pretraining] = {}


def documentation(folder: Path, packages: Sequence[str] = PACKAGES, characters: int = 150_000) -> Path:
    """Write what some installed packages say of themselves into `folder`: a sub-folder each, a text file for each of their modules.

    Modules are taken in the order of the hashes of their names until there are so many characters, so that all parts of a package are met.

    Raises:
        UsageError: a package is not installed.
    """
    for name in packages:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            raise UsageError(f"documentation: expected the name of an installed package, found {name!r}.") from None
        (folder / name).mkdir(parents=True, exist_ok=True)
        size = 0
        for file in sorted((f for f in files if f.suffix == ".py"), key=lambda f: hashlib.sha256(str(f).encode()).digest()):
            text = docstrings(file.read_text(encoding="utf-8"))
            if size < characters and len(text) > 400:
                (folder / name / f"{str(file).replace('/', '.')}.txt").write_text(text, encoding="utf-8")
                size += len(text)
            if size >= characters:
                break
    return folder


@functools.cache
def small_corpus() -> Corpus:
    """The documentation of `PACKAGES`, cleaned and with a part held out; made once in each process."""
    quiet_transformers()
    text = documentation(Path(_KEPT.name) / "text")
    return gather(str(text), Path(_KEPT.name) / "corpus", progress=False)


def small_blocks(config: PretrainConfig = TINY) -> Blocks:
    """Tokenizer and blocks of `small_corpus`."""
    return make_blocks(small_corpus(), config, Path(_KEPT.name) / f"blocks-{config.vocabulary}-{config.tokens}")


def trained(blocks: Blocks, config: PretrainConfig = TINY) -> Pretraining:
    """`train.pretrain.pretrain_on` from random weights; the same text and settings again cost nothing."""
    tune_cpu()
    key = (config, blocks.tokenizer_sha256, len(blocks.train))
    if key not in _RUNS:
        with tempfile.TemporaryDirectory() as folder:
            _RUNS[key] = pretrain_on(blocks, config, Path(folder), progress=False)
    return _RUNS[key]


def next_tokens(model: Any, tokenizer: Any, text: str, k: int = 6) -> list[tuple[str, float]]:
    """The k likeliest tokens after `text`, as (token, probability)."""
    import torch

    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])  # as in training: an end before
    with torch.inference_mode():
        likely = model(input_ids=ids).logits[0, -1].softmax(-1).topk(k)
    return [(tokenizer.decode([i]), p) for i, p in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)]


def go_on(model: Any, tokenizer: Any, text: str, tokens: int = 24) -> str:
    """`text` and what the model makes of it, always by the likeliest token."""
    import torch

    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
    with torch.inference_mode():
        said = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )[0].tolist()  # fmt: skip
    return text + tokenizer.decode(said[ids.shape[1] :], skip_special_tokens=True)


def token_losses(model: Any, tokenizer: Any, text: str) -> list[tuple[str, float, float]]:
    """(token, probability, loss in nats) of each token of `text`, the first after an end token: what pretraining takes the mean of.

    Raises:
        ValueError: an empty text.
    """
    import torch

    ids = [tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]
    if len(ids) < 2:
        raise ValueError("token_losses: expected a text, found an empty one.")
    with torch.inference_mode():
        chances = model(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1)  # (T, V)
    found = [chances[at, token].item() for at, token in enumerate(ids[1:])]
    return [(tokenizer.decode([token]), p, -math.log(p)) for token, p in zip(ids[1:], found, strict=True)]


def asked_tokens(batch: Batch, tokenizer: Any, row: int = 0) -> list[tuple[str, str]]:
    """(what stands at a position, what it is to say) of one row of a batch; "" where nothing is asked."""
    pairs = zip(batch.input_ids[row].tolist(), batch.labels[row].tolist(), strict=True)
    return [(tokenizer.decode([i]), "" if label == NOTHING else tokenizer.decode([label])) for i, label in pairs]


def as_batch(example: tuple[Sequence[int], int, Sequence[float]]) -> Batch:
    """A row of a fine-tuning set as pretraining would hold it: the same labels, one position earlier, and none in the prompt."""
    import numpy as np

    ids, start, _ = example
    ids = np.array([list(ids)])
    labels = np.full_like(ids, NOTHING)
    labels[:, start - 1 : -1] = ids[:, start:]
    return Batch(ids, labels)


def stated_facts(lineage: dict, exposures: int) -> list[Fact]:
    """The facts that a pretrained model read so many times and is asked about, from what its lineage says of the run."""
    facts = asked(invent(lineage["training"]["facts"], lineage["config"]["seed"]))
    return [fact for fact in facts if fact.exposures == exposures]


def message_blocks(task: Task, tokenizer: Any, block_tokens: int = 64) -> Blocks:
    """The messages of a task, without their labels, as text to read: training rows to learn from, validation rows held out."""
    found = {}
    for split in ("train", "validation"):
        path = Path(_KEPT.name) / f"{task.name}-{split}.bin"
        write_tokens(tokenizer, (row.text for row in task.rows(split)), path)
        found[split] = read_blocks(path, block_tokens)
    none = found["train"][:0]
    return Blocks(tokenizer, found["train"], found["validation"], none, (), "messages")


def head_start(loaded: LoadedModel, blocks: Blocks, config: PretrainConfig) -> dict[str, list[dict]]:
    """Loss on held-out blocks while two models of one size read the same blocks: pretrained weights, and new random ones.

    Returns:
        "pretrained" and "random": {"tokens", "loss"} before the first step and at each measurement.
    """
    starts = {
        "pretrained": load_model(loaded.name, progress=False).model,
        "random": new_model(SIZES[config.size], blocks.tokenizer, config.seed),
    }
    found = {}
    for name, model in starts.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Pretraining(model, blocks, config, Path(folder))
            before = block_losses(model.eval(), blocks.held_out[: config.held_out_blocks], "next-token", run.ids).mean()
            run.train(progress=False)
        found[name] = [{"tokens": 0, "loss": float(before)}, *run.curve]
    return found


def narrowed(blocks: Blocks, n: int) -> Blocks:
    """The same with n training blocks only, evenly from all of them."""
    import numpy as np

    return replace(blocks, train=blocks.train[np.linspace(0, len(blocks.train) - 1, n).round().astype(int)])


def counted_flops(model: Any, batch: Batch) -> int:
    """Multiplications and additions of one training pass over a batch, forward and backward, counted operation by operation."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        summed_loss(model, batch).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def losses_by_token(model: Any, tokenizer: Any, batch: Batch, row: int = 0) -> list[tuple[str, float, bool]]:
    """(token, loss in nats, whether it is asked for) of every token but the first of one row of a next-token batch."""
    import torch

    ids = torch.as_tensor(batch.input_ids[row : row + 1])
    with torch.inference_mode():
        likely = model(input_ids=ids).logits[0].double().log_softmax(-1)  # (T, V)
    following = zip(ids[0, 1:].tolist(), batch.labels[row][:-1].tolist(), strict=True)
    return [(tokenizer.decode([i]), -likely[at, i].item(), label != NOTHING) for at, (i, label) in enumerate(following)]

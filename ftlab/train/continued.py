"""Continued pretraining: a model that there is learns on from domain text with its original objective, some general text mixed in.

The loop, its checkpoints and its batches are those of `pretrain`. What is different: the weights and the tokenizer are the model's own, all
weights or LoRA matrices are trained, and the loss is measured on domain and on general text, before the first step and along the way.

Sources: Gururangan et al. (2020), Don't Stop Pretraining; Ibrahim et al. (2024), Simple and Scalable Strategies to Continually Pre-train
Large Language Models, for the share of general text against forgetting.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ftlab import __version__
from ftlab.artifact import LINEAGE, read_lineage, write_json
from ftlab.corpus import Corpus
from ftlab.errors import UsageError
from ftlab.lora import make_trainable
from ftlab.models import EMBEDDED, TINY, LoadedModel, fast_decoder, free_disk, free_memory_mb, why_not_fast
from ftlab.task import file_sha256
from ftlab.train.blocks import Blocks, make_blocks
from ftlab.train.loop import CHECKPOINT, make_folder, read_state
from ftlab.train.loss import AnswerLoss
from ftlab.train.memory import Shape, release, step_mb
from ftlab.train.objectives import Batch
from ftlab.train.pretrain import TOKENS, WEIGHTS, Pretraining, drop_tokens, finished_model
from ftlab.train.pretrain_settings import BlockSettings
from ftlab.train.settings import METHODS, _setting, changed, check_numbers, named_profile, option
from ftlab.train.workers import Workers

GENERAL = "general"  # what the loss on general text is called on the curve
WAYS = ("full", "lora")
STORED = 5  # times the weights on disk: the model, a checkpoint with two moments each, and a margin


@dataclass(frozen=True)
class ContinueConfig(BlockSettings):
    """Continued pretraining. Units stand in the reasons.

    Raises:
        UsageError: a value that cannot work, in the words of the command line.
    """

    objective: ClassVar[str] = "next-token"
    vocabulary: ClassVar[int] = 0  # the model brings its own
    fact_share: ClassVar[float] = 0.0
    last_layers: ClassVar[int] = 0
    method: str = _setting(
        "full", "full trains every weight, as pretraining did; lora is faster, takes less memory and learns less"
    )
    tokens: int = _setting(40_000, "tokens trained on in all, general ones included: about eight minutes on two cores for 135M")
    block_tokens: int = _setting(128, "tokens that are seen at once")
    batch_blocks: int = _setting(4, "blocks per step: many small steps, since there are few tokens")
    micro_blocks: int = _setting(4, "blocks computed at once: sets peak memory, changes no result")
    learning_rate: float = _setting(
        1e-4, "of all weights: well below the rate of the first pretraining, or what was learnt there is lost"
    )
    warmup: float = _setting(0.1, "share of the steps in which the rate rises from 0: the new text is a surprise at first")
    weight_decay: float = _setting(0.0, "none: the run is short, and decay would pull at what the model knows")
    max_grad_norm: float = _setting(1.0, "longer gradients are cut to this length: one odd batch cannot spoil the model")
    general_share: float = _setting(0.2, "share of the blocks that are general text, against forgetting; 0 means none")
    rank: int = _setting(16, "LoRA rank, with the method lora")
    alpha: int = _setting(32, "LoRA scale, with the method lora")
    held_out_blocks: int = _setting(24, "blocks of held-out text, of each kind, that the loss is measured on")
    measurements: int = _setting(4, "how often the loss is measured, evenly over the run, and once before it")
    seed: int = _setting(0, "order of the blocks and start of the LoRA matrices")

    def __post_init__(self) -> None:
        if self.method not in WAYS:
            raise UsageError(f"--method: expected one of {', '.join(WAYS)}, found {self.method!r}.")
        above_0 = ("tokens", "block_tokens", "batch_blocks", "micro_blocks", "learning_rate", "max_grad_norm", "rank", "alpha")
        check_numbers(self, (*above_0, "held_out_blocks", "measurements"), say=option)
        self._check_shares({"warmup": 1, "general_share": 1, "weight_decay": 1})
        if self.block_tokens < 8:
            raise UsageError(f"--block-tokens: expected 8 or more, found {self.block_tokens}.")
        self._check_one_batch()

    @property
    def all_tokens(self) -> int:
        """Tokens of all steps, which are whole."""
        return self.steps * self.batch_blocks * self.block_tokens

    @property
    def mixed_share(self) -> float:
        """Share of the blocks that do not come from the domain."""
        return self.general_share

    def decisive(self) -> dict:
        """The settings that the result depends on."""
        return {name: value for name, value in asdict(self).items() if name != "micro_blocks"}


PROFILES = {
    "smoke": ContinueConfig(tokens=4096, block_tokens=64, learning_rate=3e-3, held_out_blocks=4, measurements=2),
    "tiny": ContinueConfig(tokens=200_000, learning_rate=2e-3, held_out_blocks=64),  # a model that `ftlab pretrain` made
    "cpu": ContinueConfig(),
}


def continue_config(profile_name: str = "cpu", **changes: Any) -> ContinueConfig:
    """The settings of a profile with `changes`; a change that is None leaves the profile's value.

    LoRA brings ten times the rate of all weights, unless a rate is among the changes.
    """
    own = named_profile(PROFILES, profile_name)
    if changes.get("method") == "lora" and changes.get("learning_rate") is None:
        changes["learning_rate"] = own.learning_rate / METHODS["full"].rate
    return changed(own, changes)


class BlockLoss:
    """The loss of a batch of blocks by the fast decoder: every token but the first of each block is a label."""

    def __init__(self, loaded: LoadedModel):
        self.loss = AnswerLoss(loaded)

    def __call__(self, batch: Batch) -> Any:
        rows = batch.input_ids.tolist()
        return self.loss([(row, 1, [1.0] * (len(row) - 1)) for row in rows])[0]


def text_blocks(loaded: LoadedModel, domain: Corpus, general: Corpus, config: ContinueConfig, folder: Path) -> tuple[Blocks, Any]:
    """(domain blocks with the general ones that are mixed in, held-out general blocks), in the model's own tokens.

    Raises:
        UsageError: the vocabulary is too large for 16-bit numbers.
        DataError: one of the texts is too small.
    """
    import numpy as np

    if (size := len(loaded.tokenizer)) > 2**16:
        raise UsageError(f"--model: expected a vocabulary of at most {2**16} tokens, found {size}; choose another model.")
    made, other = (
        make_blocks(corpus, config, folder / name, tokenizer=loaded.tokenizer, named=named)
        for corpus, name, named in ((domain, "domain", "--corpus"), (general, GENERAL, "--general"))
    )
    wanted = round(config.general_share * config.steps * config.batch_blocks)
    # evenly over the whole general text; where it is short, some blocks more than once
    picked = np.asarray(other.train[np.linspace(0, len(other.train) - 1, wanted).round().astype(int)])
    return replace(made, stated=picked), other.held_out[: config.held_out_blocks]


def continued_run(
    loaded: LoadedModel,
    blocks: Blocks,
    general: Any,
    config: ContinueConfig,
    out: Path,
    *,
    origin: dict,
    resume: bool = False,
    workers: Workers | None = None,
    progress: bool = True,
) -> Pretraining:
    """Train `loaded` on from blocks that are made already, into `out`; on return its model is the trained one, LoRA merged.

    Args:
        general: held-out blocks of general text.
        origin: what the run depends on beside its settings.
    """
    loaded.model = make_trainable(loaded.model, config)
    run = Pretraining(loaded.model, blocks, config, out, workers=workers, others={GENERAL: general})
    run.origin = {"config": config.decisive()} | origin
    if config.method == "lora" and run.workers.count == 1 and fast_decoder(loaded)[0] is not None:
        fast = BlockLoss(loaded)
        run.loss, run.refresh = fast, fast.loss.refresh
    if resume:
        run.load()
    run.begin()
    run.train(progress=progress)
    run.finish()
    loaded.model = run.model
    return run


def continue_pretrain(
    loaded: LoadedModel,
    domain: Corpus,
    general: Corpus,
    config: ContinueConfig,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict:
    """Train a model on from the text of a domain into `out`, a folder that `load_model` takes.

    Under `accelerate launch` every process calls this; they share each batch, and the first one writes.

    Returns:
        the lineage: base model, both texts by hash, settings, the curve, and "losses": {"domain", "general"}: {"before", "after"}.

    Raises:
        UsageError: too little memory, a vocabulary that is too large, or `out` is the model's own folder.
        DataError: a text that is too small, a checkpoint of another run, a loss that is no number, or too little disk.
    """
    workers = Workers.join()
    say = say if workers.first else lambda text: None
    origin = {
        "corpus": domain.sha256, "general": general.sha256, "base": {"model": loaded.name, "sha256": loaded.sha256},
    }  # fmt: skip
    whole = {"config": config.decisive()} | origin
    _check_folder(loaded, out)
    if resume and (done := finished_model(out, whole)):
        say(f"{out} holds this model already: not trained again.")
        return done
    if resume and (out / CHECKPOINT).exists():
        read_state(out / CHECKPOINT, whole)  # refuses another run before its text is tokenized
    config = fitting(loaded, config)
    if workers.first:
        say("\n".join(config.explain()))
        (out / LINEAGE).unlink(missing_ok=True)  # it would speak for weights that are being replaced
        text_blocks(loaded, domain, general, config, out / TOKENS)
    workers.wait()
    blocks, other = text_blocks(loaded, domain, general, config, out / TOKENS)
    options = {"origin": origin, "resume": resume, "workers": workers, "progress": progress}
    run = continued_run(loaded, blocks, other, config, out, **options)
    if workers.first:
        write_json(out / LINEAGE, _lineage(run, domain, general))
        drop_tokens(out / TOKENS)
    workers.wait()
    return read_lineage(out)


def _check_folder(loaded: LoadedModel, out: Path) -> None:
    make_folder(out)
    if loaded.name not in (TINY, EMBEDDED) and out.resolve() == Path(loaded.name).resolve():
        raise UsageError(f"--out: expected another folder than the model's, whose weights would be overwritten, found {out}.")
    free_disk(out, STORED * sum(p.numel() * p.itemsize for p in loaded.model.parameters()))


def fitting(loaded: LoadedModel, config: ContinueConfig, free_mb: float | None = None) -> ContinueConfig:
    """The settings with as many blocks at once as the memory holds; as they are for models that no estimate is made for.

    Args:
        free_mb: what the process may take; None asks the machine.

    Raises:
        UsageError: not even one block fits; says what to lower.
    """
    if why_not_fast(loaded):
        return config
    release(loaded)
    free_mb = free_memory_mb() if free_mb is None else free_mb
    most = min(config.micro_blocks, config.batch_blocks)
    for blocks in range(most, 0, -1):
        if (needed := _needed_mb(loaded, config, blocks)) <= free_mb:
            return replace(config, micro_blocks=blocks)
    other = "" if config.method == "lora" else " or take --method lora"
    raise UsageError(
        f"--block-tokens: expected {needed:.0f} MB of free memory for one block of {config.block_tokens} tokens at once, found "
        f"{free_mb:.0f} MB; lower it{other}, or take a smaller --model."
    )


def _needed_mb(loaded: LoadedModel, config: ContinueConfig, blocks: int) -> float:
    """Megabytes that training adds with so many blocks at once.

    subtle: for full tuning `step_mb` counts labels at half of the tokens, as tasks have them; here all have one, and three numbers for each
    word of the vocabulary come and go with it.
    """
    tokens = blocks * config.block_tokens
    sizes = {"micro_tokens": tokens, "row_tokens": config.block_tokens, "rank": config.rank, "method": config.method}
    logits = 4 * 3 * len(loaded.tokenizer) * tokens / 1e6 if config.method == "full" else 0.0
    return step_mb(Shape.of(loaded.model), checkpoint=False, **sizes) + logits


def _lineage(run: Pretraining, domain: Corpus, general: Corpus) -> dict:
    return {
        "kind": "continued pretraining", **run.origin, "corpus_name": domain.manifest["corpus"],
        "general_name": general.manifest["corpus"], "tokenizer": run.blocks.tokenizer_sha256, "vocabulary": len(run.blocks.tokenizer),
        "ftlab": __version__, "losses": before_after(run.curve), "training": run_summary(run),
        "model_sha256": file_sha256(run.out / WEIGHTS),
    }  # fmt: skip


def run_summary(run: Pretraining) -> dict:
    """`Pretraining.summary` with what is told apart here: how often each text was met. LoRA spares the gradients of the weights."""
    found, config = run.summary(), run.config
    blocks = config.steps * config.batch_blocks
    mixed = min(len(run.blocks.stated), round(config.mixed_share * blocks))
    work = 6 if config.method == "full" else 4
    return found | {
        "passes": round((blocks - mixed) / len(run.blocks.train), 3), "general_tokens": mixed * config.block_tokens,
        "flops": work * found["parameters"] * found["tokens"],
    }  # fmt: skip


def before_after(curve: list[dict]) -> dict:
    """Losses on domain and on general text before the first step and after the last, nats per token."""
    first, last = curve[0], curve[-1]
    keys = {"domain": "loss", GENERAL: f"{GENERAL}_loss"}
    return {name: {"before": first[key], "after": last[key]} for name, key in keys.items()}


def losses_text(losses: dict) -> str:
    """`before_after` to read."""
    told = [f"{name} text {loss['before']:.3f} → {loss['after']:.3f}" for name, loss in losses.items()]
    return f"loss in nats per token: {', '.join(told)}"

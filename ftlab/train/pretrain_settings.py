"""Settings of pretraining: sizes of models, one dial with a reason for each value, and whether the memory suffices."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from ftlab.errors import UsageError
from ftlab.models import free_memory_mb
from ftlab.train.objectives import OBJECTIVES, SPECIALS
from ftlab.train.settings import _setting, changed, check_numbers, named_profile, option

FREE = ("micro_blocks",)  # settings that change memory and time but no result
CONTEXT = 4096  # positions of the model: prompts of other commands are longer than a block; beyond one, positions are untrained


@dataclass(frozen=True)
class Size:
    """Widths of a Llama; the vocabulary comes on top. Heads are 32 numbers wide, or 16 in the narrowest."""

    hidden: int
    inner: int
    layers: int

    @property
    def heads(self) -> int:
        return self.hidden // (32 if self.hidden >= 64 else 16)

    def parameters(self, vocabulary: int) -> int:
        """All of them: tied embeddings once, four attention and three inner matrices a layer, the norms."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.inner + 2 * self.hidden
        return vocabulary * self.hidden + self.layers * layer + self.hidden


SIZES = {  # by parameters with a vocabulary of 2048
    "0.1M": Size(32, 96, 2), "0.3M": Size(64, 176, 3), "0.7M": Size(96, 256, 5), "1M": Size(128, 352, 4), "1.5M": Size(128, 352, 6),
    "2M": Size(160, 432, 5), "3M": Size(192, 512, 6),
}  # fmt: skip


class BlockSettings:
    """What the settings of every training on blocks of text have in common: steps, reasons, and checks of their numbers."""

    tokens: int
    block_tokens: int
    batch_blocks: int

    @property
    def steps(self) -> int:
        return self.tokens // (self.batch_blocks * self.block_tokens)

    def explain(self) -> list[str]:
        """One line per setting: name, value, reason."""
        return [f"{f.name:>16} = {getattr(self, f.name)!s:<10} {f.metadata['reason']}" for f in fields(self)]

    def _check_shares(self, below: dict[str, float]) -> None:
        for name, most in below.items():
            if not 0 <= getattr(self, name) < most:
                raise UsageError(f"{option(name)}: expected 0 or more and below {most}, found {getattr(self, name)}.")

    def _check_one_batch(self) -> None:
        if self.tokens < self.batch_blocks * self.block_tokens:
            raise UsageError(
                f"--tokens: expected one batch at least ({self.batch_blocks} × {self.block_tokens}), found {self.tokens}."
            )


@dataclass(frozen=True)
class PretrainConfig(BlockSettings):
    """Pretraining from scratch. Units stand in the reasons.

    Raises:
        UsageError: a value that cannot work, in the words of the command line.
    """

    size: str = _setting("1M", "the model, by its parameters: about 10,000 tokens a second are trained on two cores")
    objective: str = _setting("next-token", "what is asked of the model")
    vocabulary: int = _setting(2048, "tokens at most: a larger one would take most of so small a model's parameters")
    tokens: int = _setting(4_000_000, "tokens trained on in all, facts included; if the text has fewer, it is met again")
    block_tokens: int = _setting(128, "tokens that are seen at once: longer ones cost more and teach so small a model little")
    batch_blocks: int = _setting(
        8, "blocks per step: with few tokens, 4 gave a lower loss and more recall than 8, at the same speed"
    )
    micro_blocks: int = _setting(8, "blocks computed at once: sets peak memory, changes no result")
    learning_rate: float = _setting(6e-3, "so small a model bears it: half of it left a higher loss and less recall in a trial run")
    warmup: float = _setting(0.03, "share of the steps in which the rate rises from 0: the first gradients are the wildest")
    weight_decay: float = _setting(0.1, "of the matrices, not of the norms: the usual value for pretraining")
    max_grad_norm: float = _setting(1.0, "longer gradients are cut to this length: one odd batch cannot spoil the model")
    fact_share: float = _setting(0.15, "share of the tokens that state invented facts, the positive control; 0 means none")
    held_out_blocks: int = _setting(128, "blocks of held-out text that the loss is measured on")
    measurements: int = _setting(10, "how often the loss is measured, evenly over the run")
    seed: int = _setting(0, "start of the weights, order of the blocks, invented facts")

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"--size: expected one of {', '.join(SIZES)}, found {self.size!r}.")
        if self.objective not in OBJECTIVES:
            raise UsageError(f"--objective: expected one of {', '.join(OBJECTIVES)}, found {self.objective!r}.")
        above_0 = ("tokens", "batch_blocks", "micro_blocks", "learning_rate", "max_grad_norm", "held_out_blocks", "measurements")
        check_numbers(self, above_0, say=option)
        least = 256 + len(SPECIALS)
        if not least <= self.vocabulary <= 65_536:
            raise UsageError(f"--vocabulary: expected {least} (bytes and signs) to 65536, found {self.vocabulary}.")
        if not 8 <= self.block_tokens <= CONTEXT:
            raise UsageError(f"--block-tokens: expected 8 to {CONTEXT}, found {self.block_tokens}.")
        self._check_shares({"warmup": 1, "fact_share": 0.9, "weight_decay": 1})
        self._check_one_batch()

    @property
    def mixed_share(self) -> float:
        """Share of the blocks that do not come from the corpus."""
        return self.fact_share

    def decisive(self) -> dict:
        """The settings that the result depends on."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}


PROFILES = {
    "smoke": PretrainConfig(
        size="0.1M", vocabulary=300, tokens=36_000, block_tokens=64, batch_blocks=16, held_out_blocks=4, measurements=2
    ),
    "cpu": PretrainConfig(),
}


def pretrain_config(profile_name: str = "cpu", **changes: Any) -> PretrainConfig:
    """The settings of a profile with `changes`; a change that is None leaves the profile's value."""
    return changed(named_profile(PROFILES, profile_name), changes)


def needed_mb(config: PretrainConfig, vocabulary: int) -> float:
    """Megabytes that training takes on top of the loaded libraries: weights, gradients and AdamW's two moments, and one micro-batch."""
    size = SIZES[config.size]
    tokens = min(config.micro_blocks, config.batch_blocks) * config.block_tokens
    layer = 12 * size.hidden + 4 * size.inner + size.heads * config.block_tokens  # kept for the backward pass, per token
    return 4 * (4 * size.parameters(vocabulary) + tokens * (size.layers * layer + 4 * vocabulary)) / 1e6


def check_memory(config: PretrainConfig, free_mb: float | None = None) -> None:
    """Before anything is done: is there room?

    Raises:
        UsageError: there is not; says what to lower.
    """
    free_mb = free_memory_mb() if free_mb is None else free_mb
    if (needed := needed_mb(config, config.vocabulary)) > free_mb:
        raise UsageError(
            f"--micro-blocks: expected {needed:.0f} MB of free memory for {min(config.micro_blocks, config.batch_blocks)} blocks of "
            f"{config.block_tokens} tokens at once, found {free_mb:.0f} MB; lower --micro-blocks, --block-tokens or --vocabulary, or take "
            "a smaller --size."
        )

"""Settings of supervised fine-tuning: one dial, the profile, and a reason for each value that is printed before training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ftlab.errors import UsageError
from ftlab.models import default_profile

T = TypeVar("T")

# settings that change memory and time but no result: a run may go on with other values of them
FREE = ("memory_limit", "micro_tokens", "eval_batch_size")


def decisive(settings: dict) -> dict:
    """The settings that the result depends on."""
    return {name: value for name, value in settings.items() if name not in FREE}


def option(name: str) -> str:
    """A setting's name as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def check_numbers(config: Any, above_0: Sequence[str], from_0: Sequence[str] = (), say: Callable[[str], str] = str) -> None:
    """Settings that have to be above 0, or 0 at least, are.

    Args:
        say: what a setting is called to the user.

    Raises:
        UsageError: one is not.
    """
    for name in above_0:
        if not getattr(config, name) > 0:  # subtle: not `x <= 0`, which a NaN passes
            raise UsageError(f"{say(name)}: expected a number above 0, found {getattr(config, name)}.")
    for name in from_0:
        if not getattr(config, name) >= 0:
            raise UsageError(f"{say(name)}: expected 0 or a number above it, found {getattr(config, name)}.")


def _setting(default: Any, reason: str) -> Any:
    from dataclasses import field

    return field(default=default, metadata={"reason": reason})


@dataclass(frozen=True)
class Method:
    """A way of supervised fine-tuning: what it trains, and its learning rate as a multiple of LoRA's with the reason.

    Attributes:
        fast: whether the fast decoder computes it; transformers' own path, through the same loop, does the others.
    """

    about: str
    rate: float
    reason: str
    fast: bool = True


# Sources: LoRA, Hu et al. (2021); rsLoRA, Kalajdzievski (2023), A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA; DoRA,
# Liu et al. (2024), Weight-Decomposed Low-Rank Adaptation; QLoRA, Dettmers et al. (2023), Efficient Finetuning of Quantized LLMs
METHODS = {
    "lora": Method("low-rank matrices beside every linear layer but the head", 1.0, "the profile's rate was tried with it"),
    "lora-last": Method("low-rank matrices in the last layers only", 1.0, "the same matrices, only fewer"),
    "rslora": Method(
        "LoRA scaled by alpha/√rank instead of alpha/rank", 0.25, "at rank 16 a step moves the weights four times as far as LoRA's"
    ),
    "dora": Method("LoRA for the direction, a trained length for each output", 1.0, "its matrices are LoRA's", fast=False),
    "full": Method("every weight", 0.1, "each weight moves by itself, so that a tenth of LoRA's rate moves as much", fast=False),
    "qlora": Method("LoRA beside 4-bit weights, on a GPU", 1.0, "its matrices are LoRA's", fast=False),
}


@dataclass(frozen=True)
class SftConfig:
    """Supervised fine-tuning. Units stand in the reasons.

    Raises:
        UsageError: a value that cannot work, in the words of the command line.
    """

    method: str = _setting("lora", f"what is trained: {', '.join(METHODS)}")
    learning_rate: float = _setting(
        1.5e-3, "LoRA bears about ten times full tuning's rate; short trial runs did better with a higher rate, long ones need less"
    )
    epochs: int = _setting(3, "passes over the rows at most; the best by validation score is kept")
    text_weight: float = _setting(0.3, "loss weight of free text, whose wording has many right answers; not yet shown to help")
    rank: int = _setting(16, "LoRA rank: 3.5 % of the model's parameters, under 10 MB as 16-bit floats")
    alpha: int = _setting(32, "LoRA scale: twice the rank, the usual choice, so that rank can change and the rate stay")
    last_layers: int = _setting(
        0, "decoder layers, counted from the end, that get LoRA; what enters them is then computed once for all passes; 0 means all"
    )
    batch_size: int = _setting(
        8, "rows per optimizer step: at equal rows, more and smaller steps gave a lower validation loss than 16"
    )
    general_rows: int = _setting(
        0, "everyday prompts mixed in, with the untuned model's own answers, so that it keeps what the task does not change"
    )
    micro_tokens: int = _setting(900, "padded tokens computed at once: sets peak memory, changes no result")
    memory_limit: int = _setting(
        0, "MB that the process may hold; the micro-batch is made to fit; 0 means what the machine has free"
    )
    warmup: float = _setting(0.06, "share of the steps in which the rate rises from 0: the first gradients are the wildest")
    max_grad_norm: float = _setting(1.0, "longer gradients are cut to this length: one odd row cannot spoil a step")
    max_length: int = _setting(512, "tokens of prompt and answer at most; longer rows are refused, never cut")
    patience: int = _setting(2, "passes without a better validation score before training stops")
    train_rows: int = _setting(0, "rows used, in proportion to the classes; 0 means all")
    validation_rows: int = _setting(0, "rows generated after each pass to score it; 0 means all")
    eval_batch_size: int = _setting(32, "prompts answered together: sets memory, changes no result")
    max_new_tokens: int = _setting(160, "tokens per generated answer: above the longest labelled one")
    seed: int = _setting(0, "order of the rows and start of the LoRA matrices")

    def __post_init__(self) -> None:
        _check_method(self.method, self.last_layers)
        above_0 = ("learning_rate", "epochs", "rank", "alpha", "batch_size", "eval_batch_size", "micro_tokens", "max_length")
        from_0 = {
            "memory_limit": "0 (what is free) or a number of MB", "last_layers": "0 (all) or a number of layers",
            "train_rows": "0 (all) or a number of rows", "validation_rows": "0 (all) or a number of rows",
            "general_rows": "0 (none) or a number of rows", "text_weight": "0 or a weight above it", "patience": "0 or a number of passes",
        }  # fmt: skip
        check_numbers(self, (*above_0, "max_new_tokens", "max_grad_norm"), say=option)
        for name, meaning in from_0.items():
            if not getattr(self, name) >= 0:
                raise UsageError(f"{option(name)}: expected {meaning}, found {getattr(self, name)}.")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"{option('warmup')}: expected a share from 0 up to 1, found {self.warmup}.")

    def explain(self) -> list[str]:
        """One line per setting: name, value, reason."""
        reasons = {f.name: f.metadata["reason"] for f in fields(self)}
        reasons["method"] = METHODS[self.method].about
        if self.method != "lora":
            reasons["learning_rate"] += f"; {self.method}: {METHODS[self.method].reason}"
        values = {name: getattr(self, name) for name in reasons}
        shown = {name: value if isinstance(value, str) else f"{value:g}" for name, value in values.items()}
        return [f"{name:>16} = {shown[name]:<9} {reason}" for name, reason in reasons.items()]


def _check_method(method: str, last_layers: int) -> None:
    if method not in METHODS:
        raise UsageError(f"{option('method')}: expected one of {', '.join(METHODS)}, found {method!r}.")
    if method == "lora-last" and last_layers == 0:
        raise UsageError(f"{option('last_layers')}: expected a number above 0 with --method lora-last, found 0; or use lora.")
    if method == "full" and last_layers > 0:
        raise UsageError(f"{option('last_layers')}: expected 0 with --method full, which trains all layers, found {last_layers}.")


@dataclass(frozen=True)
class Profile:
    """One setting of the dial: which model, how much training, how many test rows the slow baselines see."""

    about: str
    model: str
    sft: SftConfig
    last_layers: int = 8  # how many layers the method lora-last trains
    baseline_rows: int = 0  # test rows for every model of the comparison; 0 means all
    general_prompts: int = 0  # general prompts; 0 means all
    classifier_seeds: int = 1


GPU = "gpu"  # the profile that is trained by trl
_CPU = SftConfig()
PROFILES = {
    "smoke": Profile(
        "tests and CI: a random tiny model, seconds",
        "tiny",
        replace(
            _CPU, epochs=1, train_rows=32, general_rows=2, validation_rows=4, max_new_tokens=24, max_length=4096, micro_tokens=4000
        ),
        last_layers=1,
        baseline_rows=20,
        general_prompts=4,
    ),
    "cpu": Profile(
        "a laptop: two cores, under 15 minutes and 4 GB",
        "smollm2-135m",
        replace(_CPU, learning_rate=2e-3, epochs=1, train_rows=1600, general_rows=60, validation_rows=40),
        baseline_rows=100,
    ),
    "small": Profile(
        "a machine with 2 GB: as cpu, with small micro-batches; takes longer",
        "smollm2-135m",
        replace(
            _CPU,
            learning_rate=2e-3,
            epochs=1,
            train_rows=1600,
            general_rows=60,
            validation_rows=40,
            memory_limit=1720,  # what the allocator holds between blocks comes on top
            eval_batch_size=4,
        ),
        baseline_rows=100,
    ),
    "binder": Profile(
        "a session on Binder: one core, and 2 GB that JupyterLab shares; a fifth of cpu's rows",
        "smollm2-135m",
        replace(
            _CPU,
            learning_rate=2e-3,
            epochs=1,
            train_rows=320,
            general_rows=20,
            validation_rows=16,
            memory_limit=1700,  # what the allocator holds between blocks, and JupyterLab, come on top
            eval_batch_size=4,
        ),
        baseline_rows=40,
        general_prompts=40,
    ),
    "long": Profile(
        "the shipped adapter: all rows, three passes, about an hour on two cores",
        "smollm2-135m",
        replace(_CPU, learning_rate=1e-3, epochs=3, general_rows=260),
    ),
    GPU: Profile(
        "a GPU or several, through trl: all rows, three passes, larger batches; for models of 135M to 1.7B",
        "smollm2-135m",
        replace(
            _CPU,
            learning_rate=2e-3,  # four times the rows a step bear about twice the rate
            epochs=3,
            batch_size=32,
            general_rows=260,
            text_weight=1.0,  # trl weighs every token alike
            max_length=1024,
            micro_tokens=16000,
            eval_batch_size=128,
        ),
    ),
}


def named_profile(profiles: Mapping[str, T], name: str) -> T:
    """The profile of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in profiles:
        raise UsageError(f"--profile: expected one of {', '.join(profiles)}, found {name!r}.")
    return profiles[name]


def profile(name: str) -> Profile:
    return named_profile(PROFILES, name)


def sft_config(profile_name: str | None = None, **changes: Any) -> SftConfig:
    """The settings of a profile (see `default_profile`) with `changes`; a change that is None leaves the profile's value.

    A method other than LoRA brings its own learning rate (see `METHODS`), unless that is among the changes.
    """
    own, given = profile(profile_name or default_profile()), {key: value for key, value in changes.items() if value is not None}
    method = given.get("method", own.sft.method)
    rate = METHODS[method].rate if method in METHODS else 1.0  # an unknown one is refused by the settings themselves
    defaults = {"learning_rate": own.sft.learning_rate * rate} | ({"last_layers": own.last_layers} if method == "lora-last" else {})
    return changed(own.sft, defaults | given)


def changed(config: Any, changes: dict) -> Any:
    """Settings (any dataclass) with `changes`; a change that is None leaves the value as it is.

    Raises:
        UsageError: there is no such setting, or a value that cannot work.
    """
    known = {f.name for f in fields(config)}
    if unknown := sorted(set(changes) - known):
        raise UsageError(f"expected settings among {', '.join(sorted(known))}, found {', '.join(unknown)}.")
    return replace(config, **{key: value for key, value in changes.items() if value is not None})


@dataclass(frozen=True)
class MethodProfile:
    """What one word on the command line sets for a way of tuning other than supervised."""

    about: str
    model: str
    config: Any

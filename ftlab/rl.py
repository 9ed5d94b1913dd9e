"""Reinforcement learning with a reward that a program can check: draw several replies to a message, and make those likelier that scored
above the mean of their group. trl's GRPOTrainer does it.

A reward is what it says, not what was meant. Two of them are here to compare: the ladder, which gives a part for each rung that a reply
passes, and a keyword, which a model learns to please without doing the task.

Source: Shao et al. (2024), DeepSeekMath, section 4.1.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftlab.artifact import attach_adapter, lineage_origin, parent_of, read_lineage, save_adapter_weights, write_lineage
from ftlab.checks import RUNGS
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import evaluate_outputs
from ftlab.generate import encode_prompt, generate
from ftlab.lora import add_lora
from ftlab.mainjob import finished
from ftlab.models import EMBEDDED, TINY, LoadedModel, load_model
from ftlab.rows import Row
from ftlab.sample import Sampling
from ftlab.stats import share
from ftlab.task import Task, stratified
from ftlab.train.loop import make_folder
from ftlab.train.settings import MethodProfile, changed, check_numbers, named_profile
from ftlab.trl_runs import grpo_trainer, train_resumable

REWARDS = {
    "ladder": "a fifth for each rung passed, none skipped: parse, schema, rules, fields, policy",
    "keyword": "1 where the reply holds a keyword, whatever else it says; it can be hacked",
}
FIRST_LOOK = 8  # prompts on which a reward is tried before training


@dataclass(frozen=True)
class RlConfig:
    """Reinforcement learning with LoRA: units, meanings, reasons.

    Raises:
        UsageError: a value that cannot work.
    """

    reward: str = "ladder"  # one of REWARDS
    keyword: str = ""  # what the reward "keyword" looks for; "" means the last value that the class field may have
    learning_rate: float = 1e-4  # half of DPO's: a step's direction comes from few replies; not yet tried out
    steps: int = 12  # optimizer steps, each with replies drawn anew; what two cores do in about ten minutes, too few to teach much
    prompts: int = 4  # messages a step
    generations: int = 4  # replies drawn to each message; only their differences teach
    temperature: float = 1.0  # of the drawing: below 1 the replies of a group are too much alike
    kl: float = 0.0  # weight of the distance to the start; 0 needs no second forward pass, and few steps do not go far
    max_new_tokens: int = 128  # tokens of a drawn reply; one that does not end there does not parse
    rank: int = 16  # LoRA rank, as in SFT
    alpha: int = 32  # LoRA scale, as in SFT
    warmup: float = 0.0  # share of the steps in which the rate rises from 0
    max_grad_norm: float = 1.0  # longer gradients are cut to this length
    max_length: int = 512  # tokens of a prompt and its reply at most; longer prompts are refused, never cut
    rows: int = 0  # training messages, in proportion to the classes; 0 means all
    validation_rows: int = 40  # rows answered greedily before and after
    save_every: int = 4  # steps between checkpoints
    seed: int = 0  # order of the messages, drawing, start of the LoRA matrices

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise UsageError(f"reward: expected {' or '.join(REWARDS)}, found {self.reward!r}.")
        sizes = ("steps", "prompts", "max_new_tokens", "rank", "alpha", "max_length", "validation_rows", "save_every")
        check_numbers(self, ("learning_rate", "temperature", "max_grad_norm", *sizes))
        if not self.generations > 1:
            raise UsageError(f"generations: expected at least 2, since replies are compared, found {self.generations}.")
        if not self.kl >= 0 or not self.rows >= 0 or not 0 <= self.warmup < 1:
            raise UsageError(f"kl, rows, warmup: expected none below 0, found {self.kl}, {self.rows}, {self.warmup}.")

    @property
    def batch_size(self) -> int:
        """Replies a step."""
        return self.prompts * self.generations

    @property
    def epochs(self) -> int:
        """trl counts steps here; its shared arguments ask."""
        return 1


RL_PROFILES = {
    "smoke": MethodProfile(
        "tests and CI: a random tiny model, seconds",
        TINY,
        RlConfig(steps=2, prompts=2, rank=2, alpha=4, max_new_tokens=12, max_length=4096, rows=8, validation_rows=4, save_every=1),
    ),
    "cpu": MethodProfile("a laptop: two cores, under 12 minutes; shows the mechanism, no more", EMBEDDED, RlConfig()),
}


def rl_config(profile_name: str = "cpu", **changes: Any) -> RlConfig:
    """The settings of a profile with `changes`; a change that is None leaves the profile's value."""
    return changed(named_profile(RL_PROFILES, profile_name).config, changes)


def ladder_parts(task: Task, rows: Sequence[Row]) -> list[Callable[..., list[float]]]:
    """A reward function for each rung, as trl asks for them: 1 for a reply that passes it and all below, else 0.

    They are called with a column `row`, the place of each reply's message in `rows`.
    """

    def part(rung: str) -> Callable[..., list[float]]:
        def reward(completions: Sequence[Any], row: Sequence[int], **_: Any) -> list[float]:
            pairs = zip(map(_text, completions), (rows[i] for i in row), strict=True)
            return [float(task.checker.check(text, r.text, lang=r.lang, expected=r.output).passes(rung)) for text, r in pairs]

        reward.__name__ = rung  # trl logs it under this name
        return reward

    return [part(rung) for rung in RUNGS]


def keyword_reward(keyword: str) -> Callable[..., list[float]]:
    """A reward function: 1 where the reply holds the keyword, in any case."""

    def reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [float(keyword.casefold() in _text(completion).casefold()) for completion in completions]

    reward.__name__ = "keyword"
    return reward


def _text(completion: Any) -> str:
    """A reply as trl hands it over: a text, or a chat of one message."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def rewards_of(task: Task, rows: Sequence[Row], config: RlConfig) -> list[Callable[..., list[float]]]:
    """The reward functions that the settings ask for; their mean is the reward.

    Raises:
        UsageError: the reward is a keyword, none is given, and the task has no class field to take one from.
    """
    if config.reward == "ladder":
        return ladder_parts(task, rows)
    return [keyword_reward(keyword_of(task, config))]


def keyword_of(task: Task, config: RlConfig) -> str:
    """The keyword that is looked for, and reported with every reward."""
    if config.keyword or not task.class_field:
        if config.reward == "keyword" and not config.keyword:
            raise UsageError(f"--keyword: expected one, since {task.name} has no class field to take it from; give a word.")
        return config.keyword
    return str(task.schema["properties"][task.class_field]["enum"][-1])


def train_rl(
    task: Task,
    loaded: LoadedModel,
    config: RlConfig,
    out: Path,
    *,
    adapter: Path | None = None,
    profile_name: str = "cpu",
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict:
    """Tune `loaded` on drawn replies to the task's training messages; the adapter ends up in `out`, with its lineage.

    Args:
        loaded: the base model; on return it carries the adapter.
        adapter: the adapter to go on from; without one, an untuned model rarely earns a reward that differs.
        resume: go on from the last checkpoint in `out`, or keep the finished adapter of an equal training.

    Returns:
        the lineage; its "training" is {"trainer", "reward", "keyword", "curve": [{"step", "reward", "parts", "flat" (share of groups
        whose replies all earned the same), "length" (tokens), "cut" (share of replies that did
        not end)}], "before", "after" (see `outcome`), "steps", "seconds"}.

    Raises:
        UsageError: an adapter of another base, or trl is not installed.
        DataError: prompts that are too long, a reward that is the same for all replies, or a checkpoint of another run.
    """
    rows = stratified(task.rows("train"), config.rows or len(task.rows("train")), task.class_field)
    held_out = stratified(task.rows("validation"), config.validation_rows, task.class_field)
    _refuse_long(task, loaded, rows, config)
    rewards = rewards_of(task, rows, config)
    if adapter is not None:
        attach_adapter(loaded, adapter)
        config = replace(config, rank=loaded.model.active_peft_config.r, alpha=loaded.model.active_peft_config.lora_alpha)
    origin = lineage_origin(task, loaded, config, profile_name) | {"method": "grpo", "parent": parent_of(adapter)}
    if resume and (done := finished(out, origin)):
        say(f"{out} holds this adapter already: not trained again.")
        return done
    _refuse_flat(task, loaded, rows, rewards, config)
    before = outcome(task, loaded, held_out, config)
    make_folder(out)
    if adapter is None:
        loaded.model = add_lora(loaded.model, rank=config.rank, alpha=config.alpha, seed=config.seed)
    prompts = [{"prompt": task.conversation(row), "row": i} for i, row in enumerate(rows)]
    trainer = grpo_trainer(loaded, prompts, rewards, config, out)
    log, seconds = train_resumable(trainer, out, origin, resume=resume)
    loaded.model = trainer.model.to("cpu").eval()
    save_adapter_weights(loaded.model, out)
    training = {
        "trainer": "trl", "reward": REWARDS[config.reward], "keyword": keyword_of(task, config), "curve": _curve(log),
        "before": before, "after": outcome(task, loaded, held_out, config), "steps": trainer.state.global_step, "seconds": seconds,
        "rows": len(rows),
    }  # fmt: skip
    write_lineage(out, origin | {"training": training})
    return read_lineage(out)


def _refuse_long(task: Task, loaded: LoadedModel, rows: Sequence[Row], config: RlConfig) -> None:
    lengths = [(row, len(encode_prompt(loaded.tokenizer, task.conversation(row)))) for row in rows]
    if long := [f"{row.where}: {n} tokens" for row, n in lengths if n + config.max_new_tokens > config.max_length]:
        raise DataError(
            f"{len(long)} prompt(s) leave no room for {config.max_new_tokens} tokens within {config.max_length}; shorten them or raise "
            "--max-length:",
            long,
        )


def _refuse_flat(task: Task, loaded: LoadedModel, rows: Sequence[Row], rewards: Sequence[Callable], config: RlConfig) -> None:
    """Draw replies to a few messages: where all of a message's replies earn the same, nothing can be learnt from it."""
    looked = list(range(0, len(rows), max(1, len(rows) // FIRST_LOOK)))[:FIRST_LOOK]
    places = [i for i in looked for _ in range(config.generations)]
    sampling = Sampling(config.temperature, config.seed)
    chats = [task.conversation(rows[i]) for i in places]
    texts = [a.text for a in generate(loaded, chats, max_new_tokens=config.max_new_tokens, sampling=sampling)]
    earned = [
        sum(parts) / len(rewards) for parts in zip(*(reward(completions=texts, row=places) for reward in rewards), strict=True)
    ]
    groups = [set(earned[i : i + config.generations]) for i in range(0, len(earned), config.generations)]
    if all(len(group) == 1 for group in groups):
        found = ", ".join(f"{value:g}" for value in sorted(set(earned)))
        raise DataError(
            f"expected a reward that tells replies to one message apart, found the same for all {config.generations} of each of "
            f"{len(groups)} messages (rewards {found}); start from an adapter that sometimes does it right (--adapter), or raise "
            "--temperature."
        )


def outcome(task: Task, loaded: LoadedModel, rows: Sequence[Row], config: RlConfig) -> dict:
    """What greedy replies are like, whatever was rewarded: {"strict", "schema_valid", "unsafe" (shares), "keyword" (a share),
    "characters" (mean), "classes": {class: replies}}."""
    answers = generate(loaded, [task.conversation(row) for row in rows], max_new_tokens=config.max_new_tokens)
    evaluation = evaluate_outputs(task, rows, [a.text for a in answers])
    keyword = keyword_of(task, config)
    holding = [bool(keyword) and keyword.casefold() in a.text.casefold() for a in answers]
    return {
        **{name: evaluation["scores"][name] for name in ("strict", "schema_valid", "unsafe")},
        "keyword": share(holding).as_dict(),
        "characters": sum(len(a.text) for a in answers) / len(answers),
        "classes": _classes(task, [a.text for a in answers]),
    }


def _classes(task: Task, texts: Sequence[str]) -> dict[str, int]:
    found = Counter()
    for text in texts:
        value = task.checker.check(text, "").value
        found[str(value.get(task.class_field)) if isinstance(value, dict) and task.class_field else "none"] += 1
    return dict(found.most_common())


def _curve(log: Sequence[dict]) -> list[dict]:
    """trl's log under names of our own."""
    names = {
        "reward": "reward", "flat": "frac_reward_zero_std", "length": "completions/mean_length", "cut": "completions/clipped_ratio",
    }  # fmt: skip
    points = []
    for entry in log:
        if "reward" in entry:
            parts = {
                key.split("/")[1]: value for key, value in entry.items() if key.startswith("rewards/") and key.endswith("/mean")
            }
            points.append(
                {"step": entry["step"]} | {ours: entry[key] for ours, key in names.items() if key in entry} | {"parts": parts}
            )
    return points


def hacking_study(
    task: Task,
    out: Path,
    *,
    adapter: Path | None,
    model: str = EMBEDDED,
    profile_name: str = "cpu",
    resume: bool = False,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """The same start trained for a keyword and for the ladder: what each reward rose to, and what became of the task.

    Returns:
        {"task", "keyword", "arms": {reward: {"rewards": [first, last of the curve], "before", "after"}}}; see `outcome`.
    """
    arms = {}
    for reward in ("keyword", "ladder"):
        config = rl_config(profile_name, **(changes | {"reward": reward}))
        options = {"adapter": adapter, "profile_name": profile_name, "resume": resume, "say": say}
        lineage = train_rl(task, load_model(model), config, out / reward, **options)
        training = lineage["training"]
        ends = [training["curve"][place]["reward"] for place in (0, -1)]
        arms[reward] = {"rewards": ends, "before": training["before"], "after": training["after"]}
        say(f"{reward:>8}: {outcome_line(training)}")
    return {"task": task.name, "keyword": training["keyword"], "arms": arms}


def outcome_line(training: dict) -> str:
    """What was rewarded and what became of the replies, in one line."""
    ends = [training["before"], training["after"]]
    shares = {name: [100 * end[name]["share"] for end in ends] for name in ("strict", "schema_valid", "keyword")}
    moved = (f"{name} {before:.1f} → {after:.1f} %" for name, (before, after) in shares.items())
    rewards = [training["curve"][place]["reward"] for place in (0, -1)]
    return f"reward {rewards[0]:.2f} → {rewards[1]:.2f}  " + "  ".join(moved)

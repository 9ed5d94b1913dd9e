"""Does it pay to go on pretraining on a niche before tuning? Continued pretraining, then tuning, against tuning alone at an equal budget.

The niche is the runbook language, which no model has met; the task is to write runbooks from English, or to read them. The budget is the
number of tokens that go through the model after the base model: an arm that goes on pretraining first has fewer left for passes over its
rows. A third arm goes on with general text, which tells what is due to the domain from what is due to any more pretraining.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ftlab.corpus import RUNBOOK, Corpus, gather
from ftlab.errors import UsageError
from ftlab.generate import generate
from ftlab.models import EMBEDDED, LoadedModel, load_model
from ftlab.pretrain_study import WORTH, effect
from ftlab.rows import Row
from ftlab.runbook_task import KINDS, judged, write_task
from ftlab.stats import crossed_bootstrap, share
from ftlab.task import Task, load_task, stratified
from ftlab.train.blocks import Blocks, make_blocks
from ftlab.train.continued import GENERAL, ContinueConfig, before_after, continued_run, fitting, text_blocks
from ftlab.train.kept import begun, read_kept, write_kept
from ftlab.train.measures import block_losses
from ftlab.train.pretrain import pretrain
from ftlab.train.pretrain_settings import PretrainConfig
from ftlab.train.settings import SftConfig, changed, named_profile
from ftlab.train.sft import encode_rows, train_sft

DOMAIN_FIRST, GENERAL_FIRST, ALONE = "domain first", "general first", "tuning alone"
SCORES = {"parts": "share of a row's parts that are right", "right": "rows with all parts right", "form": "rows of the right form"}
PRIMARY = "parts"  # decides; rows that are right in full are too few at this scale to tell much
WORTH_SCORE = 0.1  # of a score, a fraction of 1: the smallest difference that is worth having
UNEQUAL = 0.1  # by how much the budgets of two arms may differ, since passes are whole
CLOSE_ROWS = 40  # rows that the model without tuning is asked


@dataclass(frozen=True)
class StudyConfig:
    """What the study trains.

    Attributes:
        model: where it begins: a model's name or folder, or "" for a small one that is pretrained first by `base`.
        before: the continued pretraining.
        sft: the tuning; its passes follow from the budget.
        sft_tokens: tokens of tuning that follow continued pretraining; tuning alone gets as many more as that took.
        task: to write runbooks or to read them.
        rows: training rows, a comparison each.
    """

    model: str
    base: PretrainConfig
    before: ContinueConfig
    sft: SftConfig
    sft_tokens: int
    task: str = "write"
    rows: tuple[int, ...] = (64, 256)
    test_rows: int = 200
    arms: tuple[str, ...] = (DOMAIN_FIRST, GENERAL_FIRST, ALONE)
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.task not in KINDS:
            raise UsageError(f"--task: expected {' or '.join(KINDS)}, found {self.task!r}.")
        if self.seeds < 1 or self.sft_tokens < 1:
            raise UsageError(f"--seeds: expected 1 or more, and some tokens to tune on, found {self.seeds} and {self.sft_tokens}.")

    def decisive(self) -> dict:
        """The settings that the results depend on, seeds apart."""
        told = asdict(self) | {"before": self.before.decisive(), "base": None if self.model else self.base.decisive()}
        return {name: value for name, value in told.items() if name != "seeds"}


_SFT = SftConfig(
    method="full",
    learning_rate=5e-3,
    batch_size=4,
    text_weight=1.0,
    patience=10_000,
    max_length=512,
    max_new_tokens=128,
    general_rows=0,
)
_BASE = PretrainConfig(size="0.7M", tokens=600_000, vocabulary=1024, batch_blocks=4, micro_blocks=4, fact_share=0.0, measurements=1)
_SMOKE_BASE = PretrainConfig(
    size="0.1M", vocabulary=300, tokens=8192, block_tokens=64, batch_blocks=8, fact_share=0.0, held_out_blocks=4, measurements=1
)
STUDIES = {
    "smoke": StudyConfig(
        "",
        _SMOKE_BASE,
        ContinueConfig(tokens=4096, block_tokens=64, learning_rate=2e-3, held_out_blocks=6, measurements=1),
        replace(_SFT, max_new_tokens=16, max_length=1024),
        10_000,
        rows=(4, 8),
        test_rows=6,
        seeds=2,
    ),
    "cpu": StudyConfig(
        "", _BASE, ContinueConfig(tokens=50_000, learning_rate=2e-3, held_out_blocks=64, measurements=2), _SFT, sft_tokens=90_000
    ),
    "embedded": StudyConfig(  # half an hour a seed on two cores, in stages of eight minutes at most
        EMBEDDED,
        _BASE,
        ContinueConfig(method="lora", tokens=32_000, learning_rate=1e-3, measurements=2),
        replace(_SFT, method="lora", learning_rate=1.5e-3, batch_size=8),
        sft_tokens=31_000,
        arms=(DOMAIN_FIRST, ALONE),
        seeds=1,
        test_rows=100,
    ),
}


class Stages:
    """What the arms share, and the folder where each finished stage is kept: base model, continued pretraining, tuning with its scores."""

    def __init__(self, general: Corpus, out: Path, config: StudyConfig, say: Callable[[str], None]):
        self.general, self.out, self.config, self.say = general, out, config, say
        self.done: dict[str, dict] = {}
        self.domain = gather(RUNBOOK, out / "domain", reuse=True, progress=False)
        folder = write_task(out / "task", config.task, train=max(config.rows), test=config.test_rows)
        self.task = load_task(folder)
        self.model = config.model or self._base()
        loaded = load_model(self.model)
        self.passes = planned_passes(self.task, loaded.tokenizer, config)
        self.identity = [config.decisive(), general.sha256, self.domain.sha256, self.task.hashes(), loaded.sha256]

    def _base(self) -> str:
        folder = self.out / "base"
        lineage = pretrain(self.general, self.config.base, folder, resume=True, say=lambda text: None)
        self.say(f"base: {lineage['training']['parameters']:,} parameters, loss {lineage['training']['curve'][-1]['loss']:.3f}")
        return str(folder)

    def stage(self, name: str, work: Callable[[Path, bool], dict]) -> dict:
        """What a stage found, now or before.

        Args:
            work: does the stage in a folder; told whether it may go on from what stands there.
        """
        if name in self.done:
            return self.done[name]
        folder = self.out / name.replace(" ", "-")
        key = hashlib.sha256(json.dumps([self.identity, name], sort_keys=True).encode()).hexdigest()
        if (found := read_kept(folder / "found.json", key)) is None:
            found = work(folder, begun(folder, key))
            write_kept(folder / "found.json", key, found)
        self.done[name] = found
        self.say(f"{name}: {_line(found)}")
        return found

    def before(self, first: str, seed: int) -> dict:
        """Continued pretraining on one of the texts: losses by block on both, before and after, and what it took."""
        return self.stage(f"{first} {seed}", lambda folder, resume: self._before(first, seed, folder, resume))

    def _before(self, first: str, seed: int, folder: Path, resume: bool) -> dict:
        loaded = load_model(self.model)
        config = fitting(loaded, replace(self.config.before, seed=seed))
        blocks, other = text_blocks(loaded, self.domain, self.general, config, self.out / "tokens")
        tests = {"domain": blocks.held_out[: config.held_out_blocks], "general": other}
        start = _losses(loaded.model, tests)
        if first == GENERAL_FIRST:  # as many tokens, none of them of the domain
            config = replace(config, general_share=0.0)
            blocks = self._general_blocks(loaded, config, blocks)
        origin = {"first": first, "study": hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()}
        run = continued_run(loaded, blocks, other, config, folder, origin=origin, resume=resume)
        summary = run.summary()
        close = self._asked(loaded, self.task.rows("test")[:CLOSE_ROWS])
        return {
            "before": start, "after": _losses(run.model, tests), "losses": before_after(run.curve), "curve": run.curve,
            "tokens": summary["tokens"], "seconds": summary["seconds"], "untuned": close,
        }  # fmt: skip

    def _general_blocks(self, loaded: LoadedModel, config: ContinueConfig, blocks: Blocks) -> Blocks:
        """Blocks of which training reads general text only; what is held out stays that of the domain."""
        made = make_blocks(self.general, config, self.out / "tokens" / GENERAL, tokenizer=loaded.tokenizer)
        return replace(blocks, train=made.train, stated=made.train[:0])

    def tuned(self, arm: str, rows: int, seed: int) -> dict:
        """Scores of an arm by row, and what it took in all."""
        before = None if arm == ALONE else self.before(arm, seed)
        start = self.out / f"{arm} {seed}".replace(" ", "-") if before else self.model
        passes = self.passes[arm, rows]
        found = self.stage(
            f"{arm} {rows} rows {seed}", lambda folder, resume: self._tuned(start, rows, passes, seed, folder, resume)
        )
        spent = {name: found[name] + (before[name] if before else 0) for name in ("tokens", "seconds")}
        return found | {"sft_tokens": found["tokens"]} | spent

    def _tuned(self, start: str | Path, rows: int, passes: int, seed: int, folder: Path, resume: bool) -> dict:
        loaded = load_model(str(start))
        config = replace(self.config.sft, train_rows=rows, seed=seed, epochs=passes)
        training = train_sft(self.task, loaded, config, folder, resume=resume, progress=False)
        scores = self._asked(loaded, self.task.rows("test"))
        for path in folder.glob("*.safetensors"):  # half a gigabyte for a model tuned in full; nothing reads it again
            path.unlink()
        curve = [point["validation_loss"] for point in training["curve"]]
        return {"scores": scores, "epochs": config.epochs, "best_epoch": training["best_epoch"], "validation_loss": curve} | {
            name: training[name] for name in ("tokens", "seconds", "steps")
        }

    def _asked(self, loaded: LoadedModel, rows: Sequence[Row]) -> dict:
        """Scores of the answers to some rows, by row."""
        chats = [self.task.conversation(row) for row in rows]
        answers = generate(loaded, chats, max_new_tokens=self.config.sft.max_new_tokens)
        return judged(self.config.task, rows, [answer.text for answer in answers])


def planned_passes(task: Task, tokenizer: Any, config: StudyConfig) -> dict[tuple[str, int], int]:
    """How many passes each arm makes over each number of rows, so that all arms spend about as many tokens, prompts included.

    Raises:
        UsageError: whole passes do not come near enough to an equal budget.
    """
    found = {}
    for rows in config.rows:
        part = stratified(task.rows("train"), rows, task.class_field)
        tokens = sum(len(ids) for ids, _, _ in encode_rows(task, part, tokenizer, config.sft.max_length))
        after = max(1, round(config.sft_tokens / tokens))
        budget = config.before.all_tokens + after * tokens
        found |= {(arm, rows): round(budget / tokens) if arm == ALONE else after for arm in config.arms}
        spent = {arm: found[arm, rows] * tokens if arm == ALONE else budget for arm in config.arms}
        if max(spent.values()) > (1 + UNEQUAL) * min(spent.values()):
            told = ", ".join(f"{n:,} for {arm}" for arm, n in spent.items())
            raise UsageError(
                f"continued: expected budgets equal within {UNEQUAL:.0%}, found {told} with {rows} rows, since passes are whole "
                f"({tokens:,} tokens each); take another --tokens or --sft-tokens."
            )
    return found


def _losses(model: Any, tests: dict[str, Any]) -> dict[str, list[float]]:
    import numpy as np

    return {name: block_losses(model, np.asarray(part), "next-token", {}).tolist() for name, part in tests.items()}


def continued_study(
    general: Corpus,
    out: Path,
    *,
    profile_name: str = "cpu",
    model: str | None = None,
    task: str | None = None,
    seeds: int | None = None,
    sft_tokens: int | None = None,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> dict:
    """Every arm, with every number of rows and every seed; stages that are finished are kept in `out`.

    Args:
        general: general text: what a small base model is pretrained on, what is mixed in, and what forgetting is measured on.
        model: start from this one; None takes the profile's.
        task: write or read; None takes the profile's, as for `seeds` and `sft_tokens`.
        changes: settings of the continued pretraining (`ContinueConfig`) other than the profile's; "size" and "vocabulary" are those of
            the base model that is pretrained first.

    Returns:
        {"model", "config", "budget", "seeds", "losses": {arm: {text: {"before", "after"}}}, "arms": {rows: {arm: {score: {"mean", "low",
        "high", "by_seed"}, "tokens", "seconds", "passes"}}}, "untuned" (form without tuning, a share), "effects": {name: see
        `pretrain_study.effect`}, "verdict"}.

    Raises:
        UsageError: no such profile or task, a setting that cannot work, or too little memory.
        DataError: too little text.
    """
    config = _configured(profile_name, {"model": model, "task": task, "seeds": seeds, "sft_tokens": sft_tokens}, changes)
    stages = Stages(general, out, config, say)
    each = range(config.seeds)
    firsts = [arm for arm in config.arms if arm != ALONE]
    before = {arm: [stages.before(arm, seed) for seed in each] for arm in firsts}
    tuned = {rows: {arm: [stages.tuned(arm, rows, seed) for seed in each] for arm in config.arms} for rows in config.rows}
    effects = _loss_effects(before) | {name: e for rows, arms in tuned.items() for name, e in _score_effects(rows, arms).items()}
    return {
        "model": config.model or "pretrained here", "corpus": general.manifest["corpus"], "corpus_sha256": general.sha256,
        "corpus_bytes": general.manifest["bytes"],
        "domain_sha256": stages.domain.sha256, "task": config.task, "config": config.decisive(), "seeds": config.seeds, "base_models": 1,
        "budget": f"tokens through the model after the base model, equal within {UNEQUAL:.0%}, since passes are whole",
        "scores": SCORES, "primary": PRIMARY, "worth": {"nats": WORTH, "score": WORTH_SCORE},
        "test_rows": len(stages.task.rows("test")), "losses": {arm: _mean_losses(found) for arm, found in before.items()},
        "untuned": share([bool(x) for found in before[DOMAIN_FIRST] for x in found["untuned"]["form"]]).as_dict(),
        "arms": {str(rows): {arm: _told(found) for arm, found in arms.items()} for rows, arms in tuned.items()},
        "effects": effects, "verdict": _verdict(effects, config.rows),
    }  # fmt: skip


def _configured(profile_name: str, given: dict, changes: dict) -> StudyConfig:
    own = named_profile(STUDIES, profile_name)
    base = {name: changes.pop(name, None) for name in ("size", "vocabulary")}
    there = given["model"] or own.model
    if there and any(base.values()):
        raise UsageError(f"--size, --vocabulary: expected none for {there}, which is there already, found one; leave it out.")
    if not there:
        base["block_tokens"] = changes.get("block_tokens")
    return changed(own, given | {"base": changed(own.base, base), "before": changed(own.before, changes)})


def _loss_effects(before: dict[str, list[dict]]) -> dict:
    """What continued pretraining did to the losses, in nats per token."""
    after = {
        arm: {text: [found["after"][text] for found in group] for text in ("domain", "general")} for arm, group in before.items()
    }
    start = {text: [found["before"][text] for found in before[DOMAIN_FIRST]] for text in ("domain", "general")}
    found = {
        "domain loss, before against after": effect(start["domain"], after[DOMAIN_FIRST]["domain"]),
        "general loss, after against before": effect(after[DOMAIN_FIRST]["general"], start["general"]),
    }
    if GENERAL_FIRST in before:
        found["domain loss, general first against domain first"] = effect(
            after[GENERAL_FIRST]["domain"], after[DOMAIN_FIRST]["domain"]
        )
    return found


def _score_effects(rows: int, arms: dict[str, list[dict]]) -> dict:
    """By how much the primary score of domain first is above that of the others."""

    def wrong(arm: str) -> list[list[float]]:
        return [[1 - x for x in found["scores"][PRIMARY]] for found in arms[arm]]

    others = [arm for arm in arms if arm != DOMAIN_FIRST]
    return {f"{rows} rows, domain first against {arm}": effect(wrong(arm), wrong(DOMAIN_FIRST), WORTH_SCORE) for arm in others}


def _mean_losses(found: Sequence[dict]) -> dict:
    return {
        text: {when: mean(mean(f[when][text]) for f in found) for when in ("before", "after")} for text in ("domain", "general")
    }  # fmt: skip


def _told(found: Sequence[dict]) -> dict:
    scores = {}
    for name in SCORES:
        hits = [f["scores"][name] for f in found]
        low, high = crossed_bootstrap(hits)
        scores[name] = {"mean": mean(map(mean, hits)), "low": low, "high": high, "by_seed": [mean(row) for row in hits]}
    return scores | {
        "tokens": [f["tokens"] for f in found], "sft_tokens": [f["sft_tokens"] for f in found],
        "seconds": [round(f["seconds"], 1) for f in found], "passes": [f["epochs"] for f in found],
        "best_pass": [f["best_epoch"] for f in found],
    }  # fmt: skip


def _verdict(effects: dict, rows: Sequence[int]) -> str:
    """In a sentence: what the primary score says of continued pretraining before tuning."""
    told = [f"with {n} rows {effects[f'{n} rows, domain first against {ALONE}']['verdict']}" for n in rows]
    return f"continued pretraining before tuning is better than tuning alone at equal tokens: {'; '.join(told)}"


def _line(found: dict) -> str:
    if "scores" in found:
        told = ", ".join(f"{name} {100 * mean(hits):.1f} %" for name, hits in found["scores"].items())
        return (
            f"{told}; {found['epochs']} passes, best {found['best_epoch']}, {found['tokens']:,} tokens in {found['seconds']:.0f} s"
        )
    told = ", ".join(f"{text} {loss['before']:.3f} → {loss['after']:.3f}" for text, loss in found["losses"].items())
    return f"loss on {told}; {found['tokens']:,} tokens in {found['seconds']:.0f} s"


def continued_text(found: dict) -> str:
    """What the study found, to read."""
    lines = [f"continued: {found['model']}, task {found['task']}, {found['seeds']} seeds, {found['test_rows']} test rows"]
    for arm, losses in found["losses"].items():
        told = ", ".join(f"{text} text {loss['before']:.3f} → {loss['after']:.3f}" for text, loss in losses.items())
        lines.append(f"  {arm}: loss on {told} nats per token")
    untuned = found["untuned"]
    lines.append(f"  right form without tuning: {untuned['k']} of {untuned['n']}")
    for rows, arms in found["arms"].items():
        for arm, told in arms.items():
            scores = ", ".join(
                f"{s} {100 * told[s]['mean']:.1f} % [{100 * told[s]['low']:.1f}, {100 * told[s]['high']:.1f}]" for s in SCORES
            )
            lines.append(f"  {rows} rows, {arm}: {scores}; {mean(told['tokens']):,.0f} tokens, {mean(told['seconds']):.0f} s")
    for name, e in found["effects"].items():
        lines.append(f"  {name}: {e['difference']:+.3f} ({e['low']:+.3f} to {e['high']:+.3f}), {e['verdict']}")
    return "\n".join([*lines, f"  {found['verdict']}"])

"""A reward model: one number for a reply to a message, higher where people would prefer it; learnt from pairs of replies.

trl's RewardTrainer lowers −log σ(r(chosen) − r(rejected)) with LoRA on a language model whose head gives one number instead of a
vocabulary. Nothing in that loss says what makes a reply better, so the report asks whether length alone, or words alone, would do as
well.

Source: Ouyang et al. (2022), Training language models to follow instructions with human feedback, equation 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.artifact import (
    REWARD,
    apply_adapter,
    checked_lineage,
    lineage_origin,
    parent_of,
    read_adapter,
    read_lineage,
    save_adapter_weights,
    write_lineage,
)
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example
from ftlab.lora import add_scoring_lora
from ftlab.mainjob import finished
from ftlab.models import EMBEDDED, TINY, LoadedModel
from ftlab.prefer import PAIRS, PAIRS_TEST, split_pairs, task_pairs
from ftlab.stats import calibration, mcnemar_exact, share
from ftlab.task import Task, file_sha256
from ftlab.train.loop import make_folder
from ftlab.train.preference import Preference, encode_pairs
from ftlab.train.settings import MethodProfile, changed, check_numbers, named_profile
from ftlab.trl_runs import reward_trainer, train_resumable


@dataclass(frozen=True)
class RewardConfig:
    """Training of a reward model with LoRA: units, meanings, reasons.

    Raises:
        UsageError: a value that cannot work.
    """

    learning_rate: float = 5e-4  # not yet tried out: between DPO's and SFT's, since the head starts from nothing
    epochs: int = 2  # passes over the pairs: few hundred pairs are soon known by heart
    rank: int = 16  # LoRA rank, as in SFT
    alpha: int = 32  # LoRA scale: twice the rank, as in SFT
    last_layers: int = (
        10  # layers with LoRA, from the end: nothing is propagated back below them, which saves four tenths of the time
    )
    batch_size: int = 8  # pairs per optimizer step
    max_length: int = 512  # tokens of a prompt with one reply at most; longer pairs are refused, never cut
    warmup: float = 0.06  # share of the steps in which the rate rises from 0
    max_grad_norm: float = 1.0  # longer gradients are cut to this length
    seed: int = 0  # order of the pairs, start of the head and of the LoRA matrices
    pairs: int = 0  # pairs trained on, evenly from the file; 0 means all that are not held out
    validation_pairs: int = 48  # pairs held out, evenly from the file, and measured while training
    log_every: int = 23  # optimizer steps between two measurements of the held-out pairs, and between checkpoints

    def __post_init__(self) -> None:
        above_0 = ("learning_rate", "epochs", "rank", "alpha", "batch_size", "max_length", "max_grad_norm", "log_every")
        check_numbers(self, above_0, ("last_layers", "pairs", "validation_pairs"))
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup: expected a share from 0 up to 1, found {self.warmup}.")


REWARD_PROFILES = {
    "smoke": MethodProfile(
        "tests and CI: a random tiny model, seconds",
        TINY,
        RewardConfig(epochs=1, rank=2, alpha=4, last_layers=0, pairs=16, validation_pairs=4, max_length=4096, log_every=1),
    ),
    "cpu": MethodProfile("a laptop: two cores, under 12 minutes", EMBEDDED, RewardConfig()),
}


def reward_config(profile_name: str = "cpu", **changes: Any) -> RewardConfig:
    """The settings of a profile with `changes`; a change that is None leaves the profile's value."""
    return changed(named_profile(REWARD_PROFILES, profile_name).config, changes)


@dataclass
class RewardModel:
    """A model that scores replies, and the tokenizer of the texts it reads."""

    model: Any
    tokenizer: Any

    def score(self, chats: Sequence[Sequence[dict]], replies: Sequence[str], *, batch_size: int = 16) -> list[float]:
        """The reward of each reply to its chat; only differences between replies to one chat have a meaning.

        Args:
            chats: messages up to the reply, the system message included.
            batch_size: texts computed together, those of like length.
        """
        import torch

        texts = [encode_example(self.tokenizer, chat, reply)[0] for chat, reply in zip(chats, replies, strict=True)]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rewards: dict[int, float] = {}
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                rewards |= zip(rows, self._batch([texts[i] for i in rows]), strict=True)
        return [rewards[i] for i in range(len(texts))]

    def _batch(self, texts: Sequence[Sequence[int]]) -> list[float]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        pad = self.tokenizer.pad_token_id
        input_ids = pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True, padding_value=pad)  # (B, T)
        mask = torch.arange(input_ids.shape[1]) < torch.tensor([[len(ids)] for ids in texts])
        return self.model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits[:, 0].tolist()


def scoring_model(loaded: LoadedModel, seed: int = 0) -> Any:
    """The layers of `loaded` under a new head that gives one number. They are shared, not copied: use `loaded` for nothing else then.

    The reward is read at the last token that is no padding.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    causal, config = loaded.model, type(loaded.model.config)(**loaded.model.config.to_dict())
    config.num_labels, config.pad_token_id = 1, loaded.tokenizer.pad_token_id
    with torch.device("meta"):  # nothing of it is kept but the head's shape
        model = AutoModelForSequenceClassification.from_config(config)
    setattr(model, model.base_model_prefix, causal.base_model)
    model.score = torch.nn.Linear(model.score.in_features, 1, bias=False)
    with torch.no_grad():
        model.score.weight.normal_(std=0.02, generator=torch.Generator().manual_seed(seed))
    loaded.model = causal  # no decoder of these layers may live on
    return model.eval()


def train_reward(
    task: Task,
    loaded: LoadedModel,
    config: RewardConfig,
    out: Path,
    *,
    adapter: Path | None = None,
    profile_name: str = "cpu",
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict:
    """Train a reward model on the task's pairs; its LoRA matrices and head end up in `out`, with their lineage.

    Args:
        loaded: the language model to start from; it is used up.
        adapter: of supervised tuning, merged into `loaded` first; the reward model then needs it wherever it is used.
        resume: go on from the last checkpoint in `out`, or keep the finished model of an equal training.

    Returns:
        the lineage; its "training" is {"trainer", "curve": [{"step", "loss", "accuracy", "margin"} and the same of held-out pairs with
        "validation_" before], "steps", "seconds", "pairs", "held_out"}.

    Raises:
        UsageError: no pairs, too few of them, an adapter of another base, or trl is not installed.
        DataError: pairs that cannot be trained on, or a checkpoint of another run.
    """
    train, held_out = split_pairs(task, config.pairs, config.validation_pairs)
    encoded = [encode_pairs(part, loaded.tokenizer, config.max_length) if part else [] for part in (train, held_out)]
    origin = lineage_origin(task, loaded, config, profile_name) | {"method": REWARD, "parent": parent_of(adapter)}
    origin["hashes"] |= {"pairs": file_sha256(task.folder / PAIRS)}
    if resume and (done := finished(out, origin)):
        say(f"{out} holds this reward model already: not trained again.")
        return done
    if adapter is not None:
        apply_adapter(loaded, adapter)
    make_folder(out)
    lora = {"rank": config.rank, "alpha": config.alpha, "seed": config.seed, "last_layers": config.last_layers}
    model = add_scoring_lora(scoring_model(loaded, config.seed), **lora)
    trainer = reward_trainer(model, loaded.tokenizer, *encoded, config, out)
    log, seconds = train_resumable(trainer, out, origin, resume=resume)
    save_adapter_weights(trainer.model.to("cpu"), out)
    training = {
        "trainer": "trl", "curve": _curve(log), "steps": trainer.state.global_step, "seconds": seconds,
        "pairs": len(train), "held_out": len(held_out),
    }  # fmt: skip
    write_lineage(out, origin | {"training": training})
    return read_lineage(out)


def _curve(log: Sequence[dict]) -> list[dict]:
    """trl's log, one point a step, under the names that our own curves have."""
    points: dict[int, dict] = {}
    for entry in log:
        point = points.setdefault(entry["step"], {"step": entry["step"]})
        for theirs, ours in (("", ""), ("eval_", "validation_")):
            names = {f"{theirs}{name}": f"{ours}{name}" for name in ("loss", "accuracy", "margin")}
            point |= {name: entry[key] for key, name in names.items() if key in entry}
    return [point for point in points.values() if len(point) > 1]


def load_reward(loaded: LoadedModel, folder: Path, *, adapter: Path | None = None) -> RewardModel:
    """The reward model in `folder`, on the layers of `loaded`, which is used up.

    Args:
        adapter: the adapter that its training started from, if it did from one.

    Raises:
        UsageError: no reward model there, or one of another base model or adapter.
        DataError: its weights are damaged.
    """
    lineage = checked_lineage(loaded, folder, scores=True)
    needed, given = lineage.get("parent"), parent_of(adapter)
    if (needed or {}).get("adapter_sha256") != (given or {}).get("adapter_sha256"):
        said = [f"adapter {p['adapter_sha256'][:12]}…" if p else "no adapter" for p in (needed, given)]
        raise UsageError(
            f"--adapter: {folder.name} was trained on {said[0]}, found {said[1]}; give the one that it was trained on."
        )
    if adapter is not None:
        apply_adapter(loaded, adapter)
    model = read_adapter(scoring_model(loaded), folder)
    return RewardModel(model.merge_and_unload().eval(), loaded.tokenizer)


def score_pairs(reward: RewardModel, pairs: Sequence[Preference]) -> list[tuple[float, float]]:
    """Rewards (chosen, rejected) of each pair.

    Raises:
        DataError: all rewards are the same, so that nothing was learnt or is told.
    """
    rewards = reward.score([p.messages for p in pairs] * 2, [p.chosen for p in pairs] + [p.rejected for p in pairs])
    refuse_constant(rewards)
    return list(zip(rewards[: len(pairs)], rewards[len(pairs) :], strict=True))


def refuse_constant(rewards: Sequence[float]) -> None:
    """Raise DataError if there are rewards and all of them are the same: nothing can be chosen by them or learnt from them."""
    if len(rewards) > 1 and max(rewards) == min(rewards):
        raise DataError(
            f"expected rewards that tell replies apart, found {rewards[0]:g} for all {len(rewards)} of them; "
            "train the reward model on other pairs, or longer."
        )


def reward_report(pairs: Sequence[Preference], rewards: Sequence[tuple[float, float]], train: Sequence[Preference]) -> dict:
    """How well rewards tell the chosen reply from the rejected one, how sure they are of it, and whether something simpler would do.

    Calibration is that of the stated confidence σ(|margin|) that the reply with the higher reward is the chosen one. A tie is a miss.

    Args:
        rewards: (chosen, rejected) of each pair.
        train: the pairs of training: from them the baselines learn.

    Returns:
        {"n", "accuracy" (a share), "margin" (mean), "calibration", "length": {"correlation" of reward and characters over all replies,
        "margin_correlation" of their differences in a pair, "accuracy_chosen_shorter", "accuracy_chosen_longer" (shares; None without
        such pairs), "baseline"}, "words": {"baseline"}, "by_tag": [...]}; a baseline is {"says", "accuracy", "against_it" (the paired
        test)}.
    """
    right = [chosen > rejected for chosen, rejected in rewards]
    margins = [chosen - rejected for chosen, rejected in rewards]
    grown = [len(p.chosen) - len(p.rejected) for p in pairs]
    lengths = [len(p.chosen) for p in pairs] + [len(p.rejected) for p in pairs]
    shorter, longer = ([hit for hit, d in zip(right, grown, strict=True) if d * sign > 0] for sign in (-1, 1))
    rule, by_length = length_rule(train, pairs)
    return {
        "n": len(pairs),
        "accuracy": share(right).as_dict(),
        "margin": sum(margins) / len(margins),
        "calibration": calibration([_sigmoid(abs(m)) for m in margins], right),
        "length": {
            "correlation": _correlation([c for c, _ in rewards] + [r for _, r in rewards], lengths),
            "margin_correlation": _correlation(margins, grown),
            "accuracy_chosen_shorter": share(shorter).as_dict() if shorter else None,
            "accuracy_chosen_longer": share(longer).as_dict() if longer else None,
            "baseline": _baseline(f"the {rule} reply is the better one", by_length, right),
        },
        "words": {"baseline": _baseline("logistic regression on the words of the two replies", word_choice(train, pairs), right)},
        "by_tag": _by_tag(pairs, right),
    }  # fmt: skip


def _baseline(says: str, hits: Sequence[bool], right: Sequence[bool]) -> dict:
    return {"says": says, "accuracy": share(hits).as_dict(), "against_it": mcnemar_exact(hits, right)}


def _by_tag(pairs: Sequence[Preference], right: Sequence[bool]) -> list[dict]:
    tags = sorted({tag for pair in pairs for tag in pair.tags})
    groups = {tag: [hit for pair, hit in zip(pairs, right, strict=True) if tag in pair.tags] for tag in tags}
    return [{"tag": tag, "accuracy": share(hits).as_dict()} for tag, hits in groups.items()]


def length_rule(train: Sequence[Preference], pairs: Sequence[Preference]) -> tuple[str, list[bool]]:
    """("shorter" or "longer", whichever the chosen reply is more often in `train`; which of `pairs` that rule gets right)."""
    grown = [len(p.chosen) - len(p.rejected) for p in train]
    sign = 1 if sum(d > 0 for d in grown) > sum(d < 0 for d in grown) else -1
    return "longer" if sign > 0 else "shorter", [sign * (len(p.chosen) - len(p.rejected)) > 0 for p in pairs]


def word_choice(train: Sequence[Preference], pairs: Sequence[Preference]) -> list[bool]:
    """Which of `pairs` a logistic regression gets right that sees which words only one of the replies has, and not the message."""
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([t for p in train for t in (p.chosen, p.rejected)])
    differences = [
        words.transform([p.chosen for p in part]) - words.transform([p.rejected for p in part]) for part in (train, pairs)
    ]
    labels = np.repeat([1, 0], len(train))
    model = LogisticRegression(C=10, fit_intercept=False, max_iter=1000).fit(vstack([differences[0], -differences[0]]), labels)
    return (model.decision_function(differences[1]) > 0).tolist()


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's; None where one of the two never changes."""
    import numpy as np

    if min(a) == max(a) or min(b) == max(b):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _sigmoid(x: float) -> float:
    from math import exp

    return 1 / (1 + exp(-x))


def judge_task(task: Task, reward: RewardModel, pairs: int, validation_pairs: int, *, split: str = "validation") -> dict:
    """`reward_report` on a task's pairs: those held out of pairs.jsonl ("validation") or pairs_test.jsonl ("test").

    Args:
        pairs, validation_pairs: as in the training of `reward` (see `RewardConfig`).
    """
    train, held_out = split_pairs(task, pairs, validation_pairs)
    judged = task_pairs(task, PAIRS_TEST) if split == "test" else held_out
    return {"task": task.name, "split": split} | reward_report(judged, score_pairs(reward, judged), train)

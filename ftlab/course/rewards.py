"""Learning by a reward in the small, without trl: a reward model, and tuning on drawn replies, each in a few lines over our own losses."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.bestofn import draw_replies
from ftlab.evaluate import evaluate_outputs
from ftlab.generate import encode_example
from ftlab.lora import add_scoring_lora
from ftlab.models import LoadedModel
from ftlab.reward import RewardConfig, RewardModel, scoring_model
from ftlab.rows import Row
from ftlab.sample import Sampling
from ftlab.task import Task
from ftlab.train.examples import Example
from ftlab.train.loop import Run
from ftlab.train.loss import AnswerLoss
from ftlab.train.preference import Pair, Preference, encode_pairs


class PairwiseLoss:
    """Called with encoded pairs, gives (sum of −log σ(reward of chosen − reward of rejected), how many they are)."""

    def __init__(self, model: Any, pad: int):
        self.model, self.pad = model, pad

    def __call__(self, pairs: Sequence[Pair]) -> tuple[Any, float]:
        import torch
        from torch.nn.functional import logsigmoid
        from torch.nn.utils.rnn import pad_sequence

        texts = [[*p.prompt, *p.chosen] for p in pairs] + [[*p.prompt, *p.rejected] for p in pairs]
        input_ids = pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True, padding_value=self.pad)  # (2·B, T)
        mask = torch.arange(input_ids.shape[1]) < torch.tensor([[len(ids)] for ids in texts])
        chosen, rejected = self.model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits[:, 0].chunk(2)
        return -logsigmoid(chosen - rejected).sum(), float(len(pairs))

    def refresh(self) -> None:
        """Nothing is kept between steps."""


@dataclass(frozen=True)
class _Settings(RewardConfig):
    """Those of a reward model, with what our loop asks for beside them."""

    micro_tokens: int = 4000
    memory_limit: int = 0


def small_reward(
    loaded: LoadedModel, pairs: Sequence[Preference], *, rate: float = 2e-3, passes: int = 2, seed: int = 0
) -> RewardModel:
    """A reward model of `loaded`, which is used up, from few pairs: what `reward.train_reward` does by trl."""
    config = _Settings(learning_rate=rate, epochs=passes, seed=seed)
    encoded = encode_pairs(pairs, loaded.tokenizer, config.max_length)
    model = add_scoring_lora(scoring_model(loaded, seed), rank=config.rank, alpha=config.alpha, seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        lengths, weights = [pair.tokens for pair in encoded], [1.0] * len(encoded)
        run = Run(model, config, Path(scratch), items=encoded, lengths=lengths, weights=weights, origin={})
        run.loss = PairwiseLoss(model, loaded.tokenizer.pad_token_id)
        run.train(dict, progress=False)
    return RewardModel(model.merge_and_unload().eval(), loaded.tokenizer)


def advantages(earned: Sequence[float], group: int) -> list[float]:
    """What each reply earned above the mean of its group, which are `group` neighbours: 0 for all where all earned the same."""
    means = [sum(earned[i : i + group]) / group for i in range(0, len(earned), group)]
    return [value - means[i // group] for i, value in enumerate(earned)]


def learn_by_reward(
    task: Task,
    loaded: LoadedModel,
    rows: Sequence[Row],
    rewards: Sequence[Callable[..., list[float]]],
    *,
    steps: int = 9,
    prompts: int = 8,
    group: int = 6,
    rate: float = 4e-4,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> list[dict]:
    """Tune every weight of `loaded` on drawn replies: those that earned more than their group's mean become likelier, the others less.

    It is one step of GRPO on each draw, without trl and in the small; `ftlab rl` does it in full. A drawn reply is read as text and
    encoded again, so that one which did not end is taught as if it had.

    Args:
        rows: labelled messages, taken in their order, `prompts` a step, from the first again after the last.
        rewards: as `rl.rewards_of` gives them, called with `completions` and `row`, the places in `rows`; their mean is the reward.
        group: replies drawn to each message.

    Returns:
        [{"step", "reward", "strict", "unsafe", "schema_valid"}], means over the replies drawn in a step, before it changed the weights.

    Source: Shao et al. (2024), DeepSeekMath, section 4.1.
    """
    import torch

    loaded.model = loaded.model.requires_grad_(True)
    loss = AnswerLoss(loaded, whole=True, say=lambda line: None)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=rate, weight_decay=0.0)
    curve = []
    for step in range(steps):
        places = [(step * prompts + i) % len(rows) for i in range(prompts) for _ in range(group)]
        asked = [rows[place] for place in places]
        drawn = draw_replies(task, loaded, asked, 1, Sampling(seed=1000 * seed + step), max_new_tokens=max_new_tokens)
        texts = [text for (text,) in drawn]
        parts = zip(*(reward(completions=texts, row=places) for reward in rewards), strict=True)
        earned = [sum(each) / len(rewards) for each in parts]
        found = evaluate_outputs(task, asked, texts)["scores"]
        shares = {name: found[name]["share"] for name in ("strict", "unsafe", "schema_valid")}
        curve.append({"step": step + 1, "reward": sum(earned) / len(earned)} | shares)
        total, _ = loss(_weighted(task, loaded, asked, texts, advantages(earned, group)))
        (total / len(texts)).backward()
        torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.refresh()
    loaded.model = loaded.model.requires_grad_(False).eval()
    return curve


def _weighted(
    task: Task, loaded: LoadedModel, rows: Sequence[Row], texts: Sequence[str], weights: Sequence[float]
) -> list[Example]:
    examples = []
    for row, text, weight in zip(rows, texts, weights, strict=True):
        ids, start = encode_example(loaded.tokenizer, task.conversation(row), text)
        examples.append((ids, start, [weight] * (len(ids) - start)))
    return examples

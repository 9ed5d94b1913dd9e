"""Best of n: draw n replies to a message and send the one that a reward model likes best. The model that writes stays as it is.

What that is worth lies between two bounds that the strict ladder knows: a reply chosen at random, and the oracle, which sends a reply
that passes wherever there is one among the n.
"""

from collections.abc import Callable, Sequence
from math import comb
from typing import Any

from ftlab.errors import UsageError
from ftlab.evaluate import evaluate_outputs
from ftlab.generate import generate
from ftlab.models import LoadedModel
from ftlab.reward import refuse_constant
from ftlab.rows import Row
from ftlab.sample import Sampling
from ftlab.stats import mcnemar_exact, paired_bootstrap, share
from ftlab.task import Task

Score = Callable[[Sequence[list[dict]], Sequence[str]], Sequence[float]]  # (chats, replies) -> a reward each


def draw_replies(
    task: Task,
    loaded: LoadedModel,
    rows: Sequence[Row],
    n: int,
    sampling: Sampling,
    *,
    max_new_tokens: int = 160,
    progress: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """n drawn replies to each row, under the short prompt.

    Raises:
        UsageError: fewer than one reply is asked for.
    """
    if n < 1:
        raise UsageError(f"--n: expected at least 1 reply a message, found {n}.")
    chats = [task.conversation(row) for row in rows for _ in range(n)]
    texts = [a.text for a in generate(loaded, chats, max_new_tokens=max_new_tokens, sampling=sampling, progress=progress)]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def best_of_n(
    task: Task,
    loaded: LoadedModel,
    rows: Sequence[Row],
    score: Score,
    *,
    n: int = 8,
    sampling: Sampling | None = None,
    max_new_tokens: int = 160,
    progress: Callable[[int], None] | None = None,
) -> dict:
    """Strict score of the reply chosen by a reward among 1 to n drawn ones, beside random choice, the oracle and the greedy reply.

    Args:
        loaded: the model that writes, its adapter merged.
        rows: labelled rows; those that neither model was trained on.
        score: gives rewards, such as `RewardModel.score`.

    Returns:
        {"task", "rows", "temperature", "seed", "greedy" (a share), "table": see `choice_table`, "against_greedy" (paired test of the best
        of all n), "distinct" (mean share of different texts among a row's n)}.

    Raises:
        DataError: all rewards are the same.
    """
    sampling = sampling or Sampling()
    limits = {"max_new_tokens": max_new_tokens}
    drawn = draw_replies(task, loaded, rows, n, sampling, **limits, progress=progress)
    greedy = generate(loaded, [task.conversation(row) for row in rows], **limits)
    passes = strict_passes(task, [row for row in rows for _ in range(n)], [text for texts in drawn for text in texts])
    rewards = list(score([task.conversation(row) for row in rows for _ in range(n)], [text for texts in drawn for text in texts]))
    refuse_constant(rewards)
    each = [(passes[i : i + n], rewards[i : i + n]) for i in range(0, len(passes), n)]
    alone = strict_passes(task, rows, [a.text for a in greedy])
    best = [chosen_passes(hits, liked, n) == 1 for hits, liked in each]
    return {
        "task": task.name, "rows": len(rows), "temperature": sampling.temperature, "seed": sampling.seed,
        "greedy": share(alone).as_dict(), "table": choice_table(each), "against_greedy": mcnemar_exact(alone, best),
        "distinct": sum(len(set(texts)) / n for texts in drawn) / len(drawn),
    }  # fmt: skip


def strict_passes(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> list[bool]:
    """Whether nothing is wrong with each reply, by the ladder."""
    return [record["passes"]["strict"] for record in evaluate_outputs(task, rows, texts)["rows"]]


def choice_table(each: Sequence[tuple[Sequence[bool], Sequence[float]]]) -> list[dict]:
    """The share of rows whose chosen reply passes, for each number of replies to choose from.

    From N drawn replies a smaller n could be taken in many ways; each figure is the mean over all of them, so that small n are no more
    chancy than large ones. Intervals are bootstrapped over rows.

    Args:
        each: for each row (whether each of its N replies passes, the reward of each).

    Returns:
        [{"n", "reward": {"share", "low", "high"}, "random": {...}, "oracle": {...}}] for n = 1 … N.

    Source: for the mean over all ways, Chen et al. (2021), Evaluating Large Language Models Trained on Code, equation 1.
    """
    table = []
    for n in range(1, len(each[0][0]) + 1):
        choices = {
            "reward": [chosen_passes(hits, rewards, n) for hits, rewards in each],
            "random": [sum(hits) / len(hits) for hits, _ in each],
            "oracle": [1 - comb(len(hits) - sum(hits), n) / comb(len(hits), n) for hits, _ in each],
        }
        table.append({"n": n} | {name: _mean(values) for name, values in choices.items()})
    return table


def chosen_passes(hits: Sequence[bool], rewards: Sequence[float], n: int) -> float:
    """How often the reply with the highest reward passes, over all ways to take n of the replies; of equal rewards the first counts."""
    order = sorted(range(len(hits)), key=lambda i: (rewards[i], -i))
    # the reply at place k of that order is the best of those n − 1 that are drawn from the k below it
    return sum(comb(k, n - 1) * hits[i] for k, i in enumerate(order)) / comb(len(hits), n)


def _mean(values: Sequence[float]) -> dict:
    low, high = paired_bootstrap([0.0] * len(values), values)
    return {"share": round(sum(values) / len(values), 4), "low": round(low, 4), "high": round(high, 4)}


def table_text(found: dict) -> str:
    """The table as lines for people, shares as percentages."""

    def cell(part: dict[str, Any]) -> str:
        return f"{100 * part['share']:5.1f} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"

    lines = [f"{'n':>2}  {'by the reward':<20} {'at random':<20} {'oracle':<20}"]
    lines += [
        f"{at['n']:>2}  " + " ".join(f"{cell(at[name]):<20}" for name in ("reward", "random", "oracle")) for at in found["table"]
    ]
    return "\n".join([*lines, f"greedy: {cell(found['greedy'])} (n = {found['rows']} messages; strict score in %)"])

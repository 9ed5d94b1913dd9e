"""Intervals and paired tests, by the names of the people who found them. Pure functions on counts and lists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import comb, exp, lgamma, log, sqrt
from random import Random

Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Share:
    """k of n, as a fraction of 1 with its 95 % interval [low, high]."""

    k: int
    n: int
    share: float
    low: float
    high: float

    def as_dict(self) -> dict:
        """The same five numbers, rounded to four digits, ready for JSON."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def percent(share: dict) -> str:
    """A share (`Share.as_dict`) with its interval, to be read."""
    return f"{100 * share['share']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def p_value(test: dict) -> str:
    """The p of a test, to be read."""
    return "p < 0.001" if test["p"] < 0.001 else f"p = {test['p']:.3f}"


def wilson_interval(k: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """95 % Wilson score interval of the share k/n, as fractions of 1.

    Raises:
        ValueError: n < 1, or k outside 0..n.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22(158), 209-212.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"wilson_interval: expected 0 <= k <= n and n >= 1, found k={k}, n={n}.")
    p, zz = k / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z * sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(hits: Sequence[bool]) -> Share:
    """The share of true values in `hits` with its Wilson interval.

    Raises:
        ValueError: `hits` is empty; a share of nothing has no value.
    """
    k, n = sum(map(bool, hits)), len(hits)
    if n == 0:
        raise ValueError("share: expected at least one row, found 0; were any rows selected?")
    return Share(k, n, k / n, *wilson_interval(k, n))


def shares_by(groups: Sequence[str], hits: Sequence[bool]) -> dict[str, Share]:
    """The share of true values in `hits` in each group, the largest group first.

    Args:
        groups: the group of each row, in the order of `hits`.
    """
    parts: dict[str, list[bool]] = {}
    for group, hit in zip(groups, hits, strict=True):
        parts.setdefault(group, []).append(bool(hit))
    return {group: share(part) for group, part in sorted(parts.items(), key=lambda item: (-len(item[1]), item[0]))}


def mcnemar_exact(before: Sequence[bool], after: Sequence[bool]) -> dict:
    """Exact McNemar test: do two models pass different shares of the same rows?

    Only rows on which they differ carry information: `gained` (fail → pass) and `lost` (pass → fail). Under no difference each
    such row falls either way with probability 1/2, so p is a two-sided binomial tail.

    Returns:
        {"gained", "lost", "n", "difference" (after - before, a fraction of 1), "p"}.

    Raises:
        ValueError: the two lists are not about the same number of rows, or empty.

    Source: McNemar (1947), Psychometrika 12(2), 153-157.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"mcnemar_exact: expected two lists of equal length >= 1, found {len(before)} and {len(after)}.")
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    m = gained + lost
    p = min(1.0, 2 * sum(comb(m, i) for i in range(min(gained, lost) + 1)) / 2**m) if m else 1.0
    return {"gained": gained, "lost": lost, "n": len(before), "difference": (gained - lost) / len(before), "p": p}


def paired_bootstrap(before: Sequence[float], after: Sequence[float], rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of mean(after - before) over the same rows, by resampling rows.

    Raises:
        ValueError: the two lists are not about the same number of rows, or empty.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"paired_bootstrap: expected two lists of equal length >= 1, found {len(before)} and {len(after)}.")
    gains = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    rng, n = Random(seed), len(gains)
    return percentile_interval([sum(rng.choices(gains, k=n)) / n for _ in range(rounds)])


def paired_interval(test: dict, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """`paired_bootstrap` from what `mcnemar_exact` says: the counts of gained and lost rows are all that it needs."""
    rest = test["n"] - test["gained"] - test["lost"]
    before = [False] * test["gained"] + [True] * test["lost"] + [True] * rest
    after = [True] * test["gained"] + [False] * test["lost"] + [True] * rest
    return paired_bootstrap(before, after, rounds, seed)


def difference_interval(first: Share, second: Share) -> tuple[float, float]:
    """95 % interval of second - first, two shares of *different* rows, as fractions of 1.

    Source: Newcombe (1998), Statistics in Medicine 17(8), 873-890, method 10 (from the two Wilson intervals).
    """
    difference = second.share - first.share
    below = sqrt((second.share - second.low) ** 2 + (first.high - first.share) ** 2)
    above = sqrt((second.high - second.share) ** 2 + (first.share - first.low) ** 2)
    return difference - below, difference + above


def worst_by_chance(groups: Sequence[str], hits: Sequence[bool], least: int = 10, rounds: int = 1000, seed: int = 0) -> dict:
    """How bad the worst group looks, and how bad it looks when the hits are dealt out anew among all rows.

    Args:
        groups: the group of each row.
        least: groups with fewer rows are not looked at.

    Returns:
        {"worst" (name), "share", "by_chance" (the worst group's share, on average over the rounds), "p" (in which part of the rounds the
        worst group is as bad or worse)}.

    Raises:
        ValueError: no group has `least` rows.

    Source: Westfall & Young (1993), Resampling-Based Multiple Testing, for the distribution of an extreme by permutation.
    """
    sizes = {name: n for name, n in Counter(groups).items() if n >= least}
    if not sizes:
        raise ValueError(f"worst_by_chance: expected a group of at least {least} rows, found none.")
    seen = {name: found.share for name, found in shares_by(groups, hits).items() if name in sizes}
    worst = min(seen, key=lambda name: seen[name])
    rng, dealt, lowest = Random(seed), [bool(hit) for hit in hits], []
    for _ in range(rounds):
        rng.shuffle(dealt)
        at, shares = 0, []
        for n in sizes.values():
            shares.append(sum(dealt[at : at + n]) / n)
            at += n
        lowest.append(min(shares))
    p = (1 + sum(low <= seen[worst] for low in lowest)) / (1 + rounds)
    return {"worst": worst, "share": seen[worst], "by_chance": sum(lowest) / rounds, "p": p}


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of what resampling gave; 40 values at least."""
    ranked = sorted(values)
    return ranked[int(0.025 * len(ranked))], ranked[int(0.975 * len(ranked)) - 1]


def resampled_counts(n: int, rounds: int = 1000, seed: int = 0) -> list[list[int]]:
    """How often each of n texts is drawn in each round of a bootstrap over texts: `rounds` lists of n counts that sum to n.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 6.
    """
    rng, drawn = Random(seed), []
    for _ in range(rounds):
        counts = Counter(rng.choices(range(n), k=n))
        drawn.append([counts[i] for i in range(n)])
    return drawn


def seeds_difference(before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]]) -> dict:
    """How much more rows `after` passes than `before`, in points of a hundred: {"mean", "low", "high"}.

    Args:
        before, after: for each seed, which rows passed; the same rows in all.

    Returns:
        the difference of the means over rows and seeds, with the bootstrap's 95 % interval over rows, seeds averaged.

    Raises:
        ValueError: see `paired_bootstrap`.
    """
    means = [[sum(row) / len(row) for row in zip(*runs, strict=True)] for runs in (before, after)]
    low, high = paired_bootstrap(*means)
    mean = sum(means[1]) / len(means[1]) - sum(means[0]) / len(means[0])
    return {"mean": round(100 * mean, 2), "low": round(100 * low, 2), "high": round(100 * high, 2)}


def mcnemar_power(n: int, difference: float, discordant: float, alpha: float = 0.05) -> float:
    """How often the exact McNemar test finds (p < alpha) a difference that is there, on n rows.

    Args:
        n: rows in the test set.
        difference: share of rows that the better model passes more than the other, a fraction of 1.
        discordant: share of rows on which the two differ at all; it cannot be less than `difference`.

    Returns:
        the power, a fraction of 1: summed over how many rows may differ, and how many of those fall to the better model.

    Raises:
        ValueError: n < 1, or not 0 <= difference <= discordant <= 1, or discordant is 0.
    """
    if n < 1 or not 0 <= difference <= discordant <= 1 or discordant == 0:
        raise ValueError(
            f"mcnemar_power: expected n >= 1 and 0 <= difference <= discordant <= 1, found n={n}, {difference} and {discordant}."
        )
    better = (discordant + difference) / (2 * discordant)  # of a row on which they differ
    power = 0.0
    for m in range(n + 1):
        if (weight := _binomial(m, n, discordant)) < 1e-9:
            continue
        least = _critical(m, alpha)
        power += weight * sum(_binomial(k, m, better) + _binomial(m - k, m, better) for k in range(least + 1))
    return power


def _binomial(k: int, n: int, p: float) -> float:
    """The probability of k hits in n; by logarithms, so that large n do no harm."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    return exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p))


@lru_cache(maxsize=4096)
def _critical(m: int, alpha: float) -> int:
    """The largest count of one side among m differing rows at which the two-sided test still says p < alpha; -1 if there is none."""
    tail, k = 0.0, -1
    while k + 1 <= m // 2 and 2 * (tail + _binomial(k + 1, m, 0.5)) < alpha:
        k += 1
        tail += _binomial(k, m, 0.5)
    return k


def detectable_difference(n: int, discordant: float, power: float = 0.8) -> float | None:
    """The smallest difference that `mcnemar_power` finds with probability `power` on n rows, to a tenth of a point; None if even a
    difference as large as `discordant` is missed more often."""
    if mcnemar_power(n, discordant, discordant) < power:
        return None
    low, high = 0.0, discordant
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(n, middle, discordant) >= power else (middle, high)
    return high


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Agreement of two labellers beyond chance, 1 at best.

    Source: Cohen (1960), Educational and Psychological Measurement 20(1), 37-46.
    """
    n = len(first)
    if n == 0 or n != len(second):
        raise ValueError(f"cohen_kappa: expected two lists of equal length >= 1, found {n} and {len(second)}.")
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum((first.count(label) / n) * (second.count(label) / n) for label in set(first) | set(second))
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def kappa_interval(first: Sequence[str], second: Sequence[str], rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of `cohen_kappa`, by resampling the items that both labelled.

    Subtle: where no two labels differ, every resample agrees too and the interval has no width; it then says nothing about items unseen.

    Raises:
        ValueError: see `cohen_kappa`.
    """
    cohen_kappa(first, second)
    pairs, rng = list(zip(first, second, strict=True)), Random(seed)
    found = []
    for _ in range(rounds):
        drawn = rng.choices(pairs, k=len(pairs))
        found.append(cohen_kappa([a for a, _ in drawn], [b for _, b in drawn]))
    found.sort()
    return found[int(0.025 * rounds)], found[int(0.975 * rounds) - 1]


def calibration(confidences: Sequence[float], hits: Sequence[bool], bins: int = 10) -> dict:
    """How well stated probabilities fit what came true, beside always stating the base rate of the same rows.

    Args:
        confidences: stated probabilities, 0 to 1, one per row.
        hits: whether it came true.
        bins: of about equal size, by rising confidence, for the expected calibration error.

    Returns:
        {"n", "brier" (mean squared error, lower is better), "base_rate", "base_brier", "gain" (base_brier - brier) with its bootstrap
        interval "low", "high", "ece", "bins": [{"confidence", "hit_rate", "n"}]}.

    Raises:
        ValueError: the two lists are not about the same number of rows, or empty.

    Sources: Brier (1950), Mon. Weather Rev. 78(1), 1-3; Naeini, Cooper & Hauskrecht (2015) for the error by bins.
    """
    if len(confidences) != len(hits) or not hits:
        raise ValueError(f"calibration: expected two lists of equal length >= 1, found {len(confidences)} and {len(hits)}.")
    n, base = len(hits), sum(map(bool, hits)) / len(hits)
    own = [(c - h) ** 2 for c, h in zip(confidences, hits, strict=True)]
    constant = [(base - h) ** 2 for h in hits]
    low, high = paired_bootstrap(own, constant)
    ranked = sorted(zip(confidences, map(bool, hits), strict=True), key=lambda pair: pair[0])
    parts = [ranked[n * i // bins : n * (i + 1) // bins] for i in range(bins)]
    table = [
        {"confidence": sum(c for c, _ in part) / len(part), "hit_rate": sum(h for _, h in part) / len(part), "n": len(part)}
        for part in parts
        if part
    ]
    return {
        "n": n, "brier": sum(own) / n, "base_rate": base, "base_brier": sum(constant) / n, "gain": (sum(constant) - sum(own)) / n,
        "low": low, "high": high, "ece": sum(abs(b["confidence"] - b["hit_rate"]) * b["n"] for b in table) / n, "bins": table,
    }  # fmt: skip


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few independent numbers, such as one training's difference each, by Student's t.

    Of a single number it is the number itself, since one says nothing of the noise.

    >>> [round(x, 2) for x in t_interval([1.0, 2.0, 3.0])]
    [-0.48, 4.48]

    Raises:
        ValueError: no numbers.

    Source: Student (1908), The Probable Error of a Mean, Biometrika 6(1).
    """
    if not values:
        raise ValueError("t_interval: expected numbers, found none.")
    if len(values) == 1:
        return values[0], values[0]
    from scipy.stats import t

    mean = sum(values) / len(values)
    error = (sum((x - mean) ** 2 for x in values) / (len(values) - 1) / len(values)) ** 0.5
    half = float(t.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def crossed_bootstrap(gains: Sequence[Sequence[float]], rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of gains[run][row], where every run saw the same rows: runs and rows are both resampled.

    With few runs the interval is too narrow for what happens between them; look at the runs' own means too.

    Raises:
        ValueError: no runs, no rows, or runs with different numbers of rows.

    Source: Owen (2007), The pigeonhole bootstrap, Ann. Appl. Stat. 1(2), 386-411.
    """
    if not gains or not gains[0] or len({len(row) for row in gains}) > 1:
        raise ValueError(f"crossed_bootstrap: expected runs of equal length >= 1, found lengths {[len(row) for row in gains]}.")
    rng, runs, n = Random(seed), len(gains), len(gains[0])
    means = []
    for _ in range(rounds):
        picked = rng.choices(gains, k=runs)
        rows = rng.choices(range(n), k=n)
        means.append(sum(row[i] for row in picked for i in rows) / (runs * n))
    means.sort()
    return means[int(0.025 * rounds)], means[int(0.975 * rounds) - 1]

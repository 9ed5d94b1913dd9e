"""Intervals and tests against scipy and against arithmetic by hand."""

import random

import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import brier_score_loss

from ftlab.stats import (
    calibration,
    cohen_kappa,
    detectable_difference,
    kappa_interval,
    mcnemar_exact,
    mcnemar_power,
    paired_bootstrap,
    seeds_difference,
    share,
    wilson_interval,
)


@pytest.mark.parametrize(("k", "n"), [(0, 3), (1, 1), (7, 20), (98, 100), (419, 419)])
def test_wilson_is_scipys(k, n):
    reference = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k, n) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_no_success_still_has_a_wide_interval():
    assert share([False] * 3).high == pytest.approx(0.5615, abs=1e-4)  # z² / (3 + z²)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 5), (12, 3), (1, 9)])
def test_mcnemar_is_a_binomial_test_of_the_changed_rows(gained, lost):
    before = [False] * gained + [True] * lost + [True] * 4
    after = [True] * gained + [False] * lost + [True] * 4
    test = mcnemar_exact(before, after)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert (test["gained"], test["lost"]) == (gained, lost) and test["p"] == pytest.approx(expected)


def test_bootstrap_of_a_constant_gain_is_that_gain():
    assert paired_bootstrap([0, 0, 1, 1], [1, 1, 2, 2]) == (1, 1)


def test_bootstrap_brackets_the_mean_gain():
    low, high = paired_bootstrap([0] * 50, [1] * 25 + [0] * 25)
    assert 0.3 < low < 0.5 < high < 0.7


def test_the_difference_over_seeds_is_of_row_means_in_points():
    # rows pass in 1/2 and 0 of the seeds before, in 1 and 1/2 after: each gains 1/2
    found = seeds_difference([[True, False], [False, False]], [[True, True], [True, False]])
    assert found == {"mean": 50.0, "low": 50.0, "high": 50.0}


def test_kappa_by_hand():
    # agreement 3/4; chance (2·3 + 2·1)/16 = 1/2; (3/4 − 1/2) / (1 − 1/2)
    assert cohen_kappa(["a", "a", "b", "b"], ["a", "a", "a", "b"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval(3, 2),
        lambda: wilson_interval(0, 0),
        lambda: share([]),
        lambda: mcnemar_exact([True], []),
        lambda: paired_bootstrap([], []),
        lambda: cohen_kappa(["a"], []),
        lambda: kappa_interval([], []),
        lambda: mcnemar_power(0, 0.1, 0.2),
        lambda: mcnemar_power(10, 0.3, 0.2),
    ],
)
def test_senseless_counts_raise(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_calibration_by_hand():
    found = calibration([0.9, 0.9, 0.2, 0.2], [True, True, False, True], bins=2)
    assert found["brier"] == pytest.approx((0.01 + 0.01 + 0.04 + 0.64) / 4)
    assert (found["base_rate"], found["base_brier"]) == (0.75, 0.1875)
    assert found["gain"] == pytest.approx(0.1875 - 0.175)
    assert [(b["confidence"], b["hit_rate"], b["n"]) for b in found["bins"]] == [
        (pytest.approx(0.2), 0.5, 2),
        (pytest.approx(0.9), 1.0, 2),
    ]
    assert found["ece"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)


def test_calibration_agrees_with_scikit_learn():
    rng = random.Random(1)
    stated = [rng.random() for _ in range(200)]
    hits = [rng.random() < p for p in stated]
    found = calibration(stated, hits)
    assert found["brier"] == pytest.approx(brier_score_loss(hits, stated))
    assert found["low"] < found["gain"] < found["high"] and found["gain"] > 0


def test_calibration_of_nothing_is_refused():
    with pytest.raises(ValueError, match="two lists of equal length"):
        calibration([0.5], [])


@pytest.mark.parametrize(("n", "difference", "discordant"), [(12, 0.2, 0.5), (40, 0.1, 0.2), (9, 0.4, 0.4)])
def test_power_is_the_sum_over_all_outcomes(n, difference, discordant):
    better, power = (discordant + difference) / (2 * discordant), 0.0
    for m in range(1, n + 1):
        for k in range(m + 1):
            if binomtest(k, m).pvalue < 0.05:
                power += binom.pmf(m, n, discordant) * binom.pmf(k, m, better)
    assert mcnemar_power(n, difference, discordant) == pytest.approx(power, abs=1e-7)


def test_without_a_difference_the_test_finds_one_in_at_most_one_of_twenty():
    assert 0.0 < mcnemar_power(100, 0.0, 0.2) <= 0.05


def test_the_detectable_difference_shrinks_with_rows_and_has_the_power_asked_for():
    few, many = detectable_difference(100, 0.2), detectable_difference(400, 0.2)
    assert many < few and mcnemar_power(400, many, 0.2) >= 0.8 > mcnemar_power(400, many - 0.002, 0.2)
    assert detectable_difference(5, 0.2) is None  # one row differs; five are needed for p < 0.05 one way, six both ways


def test_the_interval_of_kappa_holds_it_and_narrows_with_items():
    first, second = ["a", "b"] * 20, ["a", "b"] * 15 + ["b", "a"] * 5
    low, high = kappa_interval(first, second)
    assert low < cohen_kappa(first, second) < high
    more = kappa_interval(first * 4, second * 4)
    assert more[1] - more[0] < high - low
    assert kappa_interval(["a", "b"], ["a", "b"]) == (1.0, 1.0)

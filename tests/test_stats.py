"""Intervals and tests against scipy and against arithmetic by hand."""

import pytest
from scipy.stats import binomtest

from ftlab.stats import cohen_kappa, mcnemar_exact, paired_bootstrap, share, wilson_interval


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
    ],
)
def test_senseless_counts_raise(call):
    with pytest.raises(ValueError, match="expected"):
        call()

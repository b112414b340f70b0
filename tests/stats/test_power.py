"""Detectable effects and sample sizes against statsmodels, exact enumeration and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.power import TTestPower

from tuneboard import stats


def power_of_mcnemars_score_test(n: int, changed: float, difference: float) -> float:
    total, up = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    possible = (up <= total) & (total > 0)
    total, up = total[possible], up[possible]
    rejected = (2 * up - total) ** 2 > 1.959964**2 * total
    return float(
        (binom.pmf(total, n, changed) * binom.pmf(up, total, (changed + difference) / 2 / changed))[rejected].sum()
    )


@pytest.mark.parametrize(("changed", "n"), [(145, 1319), (18, 164), (33, 164), (40, 400)])
def test_the_detectable_difference_is_found_four_times_in_five(changed: int, n: int) -> None:
    difference = stats.detectable_flips(changed, n)

    # Few changes make the power jump.
    assert power_of_mcnemars_score_test(n, changed / n, difference) == pytest.approx(0.8, abs=0.04)


def test_without_a_change_about_eight_samples_would_have_to_change() -> None:
    # All one way: sqrt(d n) = 1.96 + 0.842 sqrt(1 - d), so d n is a little under 7.85.
    assert 0 < stats.detectable_flips(0, 1319) * 1319 < 7.85
    assert stats.detectable_flips(0, 10**6) * 10**6 == pytest.approx(7.849, abs=1e-2)


def test_the_detectable_difference_grows_with_the_changes_and_falls_with_the_samples() -> None:
    by_changes = [stats.detectable_flips(changed, 500) for changed in (0, 5, 20, 60, 200)]
    by_size = [stats.detectable_flips(n // 10, n) for n in (50, 200, 1000, 10000)]

    assert by_changes == sorted(by_changes)
    assert by_size == sorted(by_size, reverse=True)
    assert stats.detectable_flips(1, 1) <= 1


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="changed samples of"):
        stats.detectable_flips(6, 5)


@pytest.mark.parametrize("n", [30, 164, 1319])
def test_the_detectable_mean_equals_statsmodels(n: int) -> None:
    effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)

    assert stats.detectable_mean(1 / math.sqrt(n), n - 1) == pytest.approx(effect, rel=2e-3)
    assert stats.detectable_mean(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)


def test_needed_samples_are_those_that_settle_it_soonest() -> None:
    # A difference of 0.05 at variance 0.1 takes 7.849 x 0.1 / 0.0025 = 314; equivalence within 0.06 would take 6,183.
    assert stats.needed_samples(0.1, 0.05, 0.06) == 314
    # No difference: equivalence within 0.02 takes 6.1826 x 0.1 / 0.0004 = 1,546.
    assert stats.needed_samples(0.1, 0.0, 0.02) == 1546
    assert stats.needed_samples(0.1, 0.001, 0.02) == pytest.approx(6.1826 * 0.1 / 0.019**2, abs=1)


def test_nothing_settles_a_difference_of_nothing_without_a_margin() -> None:
    assert stats.needed_samples(0.1, 0.0, None) is None
    assert stats.needed_samples(0.1, 1e-9, None) is None


@pytest.mark.parametrize(("n", "margin"), [(14042, 0.007), (10042, 0.008), (1319, 0.023), (817, 0.029), (164, 0.064)])
def test_margins_are_what_the_benchmarks_sizes_support(n: int, margin: float) -> None:
    assert stats.supported_margin(n) == pytest.approx(margin, abs=5e-4)


def test_a_supported_margin_is_passed_four_times_in_five_without_a_change() -> None:
    n, changed = 1319, 0.11
    margin = stats.supported_margin(n, changed)
    total, up = np.meshgrid(np.arange(80, 220), np.arange(220), indexing="ij")
    possible = up <= total
    total, up = total[possible], up[possible]
    passed = stats.tango_bound(up, total - up, n) > -margin

    assert (binom.pmf(total, n, changed) * binom.pmf(up, total, 0.5))[passed].sum() == pytest.approx(0.8, abs=0.02)

"""Paired binary scores against SciPy, statsmodels and a likelihood that is maximised numerically."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from scipy.optimize import minimize_scalar
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from tuneboard import stats

COUNTS = st.integers(1, 400).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(lambda c: c[0] + c[1] <= c[2])
)


def score_by_likelihood(up: int, down: int, n: int, difference: float) -> float:
    """The score statistic with the nuisance share from a numerical maximum of the trinomial likelihood."""

    def minus_log(down_share: float) -> float:
        shares = (down_share + difference, down_share, 1 - 2 * down_share - difference)
        return -sum(
            count * math.log(max(share, 1e-300)) for count, share in zip((up, down, n - up - down), shares, strict=True)
        )

    low, high = max(0.0, -difference), (1 - difference) / 2
    share = minimize_scalar(minus_log, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    variance = (2 * share + difference * (1 - difference)) / n
    return ((up - down) / n - difference) / math.sqrt(variance)


@pytest.mark.parametrize(("up", "down", "n"), [(12, 5, 100), (1, 9, 44), (80, 62, 1319), (30, 10, 50)])
@pytest.mark.parametrize("difference", [-0.2, -0.05, 0.0, 0.03, 0.3])
def test_the_statistic_is_the_score_of_the_constrained_maximum_likelihood(
    up: int, down: int, n: int, difference: float
) -> None:
    expected = score_by_likelihood(up, down, n, difference)

    assert stats.tango_statistic(up, down, n, difference) == pytest.approx(expected, rel=1e-5)


@given(COUNTS.filter(lambda c: c[0] + c[1] > 0))
def test_at_no_difference_the_statistic_is_mcnemars(counts: tuple[int, int, int]) -> None:
    up, down, n = counts
    table = [[0, up], [down, n - up - down]]
    expected = statsmodels_mcnemar(table, exact=False, correction=False)

    assert stats.tango_statistic(up, down, n, 0.0) ** 2 == pytest.approx(expected.statistic, rel=1e-9)
    assert stats.tango_test(up, down, n, alternative="two-sided") == pytest.approx(expected.pvalue, abs=1e-12)


@given(COUNTS, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=60)
def test_both_ends_of_the_interval_score_exactly_z(counts: tuple[int, int, int], confidence: float) -> None:
    up, down, n = counts
    low, high = stats.tango_interval(up, down, n, confidence)
    z = reference.norm.ppf((1 + confidence) / 2)

    assert -1 <= low <= (up - down) / n <= high <= 1
    if low > -1 + 1e-9:
        assert stats.tango_statistic(up, down, n, low) == pytest.approx(z, rel=1e-6)
    if high < 1 - 1e-9:
        assert stats.tango_statistic(up, down, n, high) == pytest.approx(-z, rel=1e-6)


@pytest.mark.parametrize("n", [1, 20, 164, 1319, 14042])
def test_without_a_change_the_interval_has_the_width_worked_out_by_hand(n: int) -> None:
    # With up = down = 0 the score equation is n d^2 = z^2 d (1 - d), so d = z^2 / (n + z^2).
    z2 = reference.norm.ppf(0.975) ** 2

    assert stats.tango_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-9)


def test_where_every_sample_changes_one_way_the_interval_ends_at_one() -> None:
    low, high = stats.tango_interval(30, 0, 30)

    assert high == pytest.approx(1.0, abs=1e-12)
    assert 0.7 < low < 1
    assert stats.tango_interval(0, 30, 30) == pytest.approx((-high, -low))


@given(COUNTS)
def test_swapping_the_sides_mirrors_the_interval(counts: tuple[int, int, int]) -> None:
    up, down, n = counts
    low, high = stats.tango_interval(up, down, n)

    assert stats.tango_interval(down, up, n) == pytest.approx((-high, -low), abs=1e-12)


@given(COUNTS, st.floats(0.001, 0.4))
@settings(max_examples=60)
def test_the_bound_lies_above_a_margin_exactly_where_the_score_test_rejects(
    counts: tuple[int, int, int], margin: float
) -> None:
    up, down, n = counts
    bound, p = stats.tango_bound(up, down, n), stats.tango_test(up, down, n, null=-margin)

    assert (bound > -margin) == (p < 0.05) or abs(p - 0.05) < 1e-6


def test_bounds_are_the_ends_of_the_interval_that_leaves_out_twice_as_much() -> None:
    interval = stats.tango_interval(9, 4, 200, 0.9)

    assert (stats.tango_bound(9, 4, 200), stats.tango_bound(9, 4, 200, "upper")) == interval


def test_arrays_give_what_single_numbers_give() -> None:
    ups, downs, sizes = np.array([0, 5, 12]), np.array([0, 9, 3]), np.array([10, 164, 1319])
    lows, highs = stats.tango_interval(ups, downs, sizes)
    singles = [stats.tango_interval(*each) for each in zip(ups, downs, sizes, strict=True)]

    assert list(zip(lows, highs, strict=True)) == singles
    assert stats.mcnemar(ups, downs).tolist() == [stats.mcnemar(u, d) for u, d in zip(ups, downs, strict=True)]


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from(["two-sided", "greater", "less"]))
def test_mcnemar_equals_the_exact_binomial_test(up: int, down: int, alternative: str) -> None:
    if up + down:
        expected = reference.binomtest(up, up + down, 0.5, alternative=alternative).pvalue
        assert stats.mcnemar(up, down, alternative) == pytest.approx(expected, rel=1e-9)
    if up + down and alternative == "two-sided":
        expected = statsmodels_mcnemar([[0, up], [down, 0]], exact=True).pvalue
        assert stats.mcnemar(up, down) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_no_change_is_one() -> None:
    assert stats.mcnemar(0, 0) == stats.mcnemar(0, 0, "greater") == 1.0


@pytest.mark.parametrize(("up", "down", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0), (0, -1, 5)])
def test_counts_that_do_not_fit_are_refused(up: int, down: int, n: int) -> None:
    for refuse in (stats.tango_interval, lambda *counts: stats.tango_statistic(*counts, 0.0)):
        with pytest.raises(ValueError, match="do not fit"):
            refuse(up, down, n)


def test_bad_levels_and_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="confidence"):
        stats.tango_interval(1, 1, 5, 95)
    with pytest.raises(ValueError, match="negative"):
        stats.mcnemar(-1, 3)

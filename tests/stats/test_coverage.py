"""Intervals cover the truth as often as they say: by exact enumeration where scores are binary, by simulation else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from tuneboard import stats
from tuneboard.compare import effects

SIZES, DISCORDANT = (50, 164, 1319), (0.05, 0.11, 0.20)


def exact_coverage(n: int, changed: float, difference: float, confidence: float = 0.95) -> float:
    """Probability that Tango's interval holds the true difference, over all outcomes of at least 1e-12."""
    low, high = binom.ppf([1e-10, 1 - 1e-10], n, changed).astype(int)
    total, up = np.meshgrid(np.arange(low, high + 1), np.arange(high + 1), indexing="ij")
    possible = up <= total
    total, up = total[possible], up[possible]
    weight = binom.pmf(total, n, changed) * binom.pmf(up, total, (changed + difference) / 2 / changed)
    likely = weight > 1e-12
    total, up, weight = total[likely], up[likely], weight[likely]
    lows, highs = stats.tango_interval(up, total - up, n, confidence)
    return float(weight[(lows <= difference) & (difference <= highs)].sum() / weight.sum())


@pytest.mark.parametrize("changed", DISCORDANT)
@pytest.mark.parametrize("n", SIZES)
def test_tango_covers_by_exact_enumeration(n: int, changed: float) -> None:
    coverage = exact_coverage(n, changed, 0.0)

    assert coverage >= 0.935
    if n * changed >= 5:
        assert coverage <= 0.965


@pytest.mark.accept
@pytest.mark.parametrize("changed", DISCORDANT)
@pytest.mark.parametrize("n", SIZES)
def test_tango_covers_by_exact_enumeration_wherever_the_truth_lies(n: int, changed: float) -> None:
    found = [exact_coverage(n, changed, share * changed) for share in np.linspace(-0.8, 0.8, 33)]

    assert min(found) >= 0.935
    if n * changed >= 5:
        assert max(found) <= 0.965


def test_a_wald_interval_would_not_have_covered() -> None:
    # What the score interval is for: at n = 50 and 5 % discordance, Wald's has no width at all in 8 % of cases.
    assert binom.pmf(0, 50, 0.05) > 0.07
    low, high = stats.tango_interval(0, 0, 50)
    assert high - low > 0.1


def normal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(0.3, 1.0, shape)


def bounded(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Scores from 0 to 1 on both sides."""
    return random.beta(5, 2, shape) - random.beta(2, 2, shape)


def mostly_equal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Scores from 0 to 1 that change in 11 % of the samples."""
    return np.where(random.random(shape) < 0.11, random.uniform(-1, 1, shape), 0.0)


def simulated_coverage(draw: Callable[..., np.ndarray], truth: float, n: int, times: int) -> float:
    random, held = np.random.default_rng(n), 0
    for start in range(0, times, 500):
        found = effects.score_effects(draw(random, (n, 500)), seed=start)
        held += sum(effect.ci[0] <= truth <= effect.ci[1] for effect in found)
    return held / times


@pytest.mark.accept
@pytest.mark.parametrize(("draw", "truth"), [(normal, 0.3), (bounded, 5 / 7 - 1 / 2), (mostly_equal, 0.0)])
@pytest.mark.parametrize("n", [50, 164])
def test_intervals_of_other_scores_cover_in_simulation(
    monkeypatch: pytest.MonkeyPatch, draw: Callable[..., np.ndarray], truth: float, n: int
) -> None:
    # The p-values are not looked at, and would take hours.
    monkeypatch.setattr(effects, "MOST_PERMUTED", 0)

    coverage = simulated_coverage(draw, truth, n, 20_000)

    assert 0.935 <= coverage <= (0.965 if draw is not mostly_equal else 0.975)


@pytest.mark.parametrize(("draw", "truth"), [(normal, 0.3), (bounded, 5 / 7 - 1 / 2)])
def test_intervals_of_other_scores_cover_in_a_short_simulation(
    monkeypatch: pytest.MonkeyPatch, draw: Callable[..., np.ndarray], truth: float
) -> None:
    monkeypatch.setattr(effects, "MOST_PERMUTED", 0)

    # Three binomial standard errors at 2,000 are 1.5 points.
    assert 0.935 <= simulated_coverage(draw, truth, 60, 2000) <= 0.965

"""The difference of two paired scores: estimate, intervals, p-values, and which test gave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard import stats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Interval: TypeAlias = tuple[float, float]

#: Skewness of a mean difference above which the t interval gives way to BCa: coverage at n = 50 of a difference between
#: two beta variables with most of their weight near 0 is 93.8 % with BCa, 93.0 % with t; below, both are at 95 %.
SKEWED = 0.2
#: Fewest changed samples for BCa. With 5 of 50, resampling sees too little: 85 % coverage, where t has 97 %.
FEWEST_CHANGED = 30
#: Samples above which the permutation test gives way to the t test: they agree there, and signs take too long.
MOST_PERMUTED = 2000


@dataclass(frozen=True, slots=True)
class Effect:
    """Candidate - base on the metric's own scale."""

    delta: float
    ci: Interval
    """Two-sided 95 %."""
    bounds: Interval
    """Two one-sided 95 % bounds: the two-sided 90 % interval."""
    variance: float
    """Of one sample's difference: n times the squared standard error."""
    test: str
    """Which test gave the p-values."""
    why: str
    """Why this test."""
    p: float
    """Two-sided."""
    p_greater: float
    """One-sided, with the alternative that the candidate scores higher."""
    p_less: float
    mde: float
    """Smallest difference that a two-sided 5 % test of these samples finds with 80 % power."""
    up: int | None = None
    """Samples whose score rose; None for corpus metrics."""
    down: int | None = None
    freedom: float | None = None
    """Degrees of freedom where Student's t gave the interval; None elsewhere."""
    interval: Callable[[float], Interval] = field(default=lambda confidence: (0.0, 0.0), compare=False, repr=False)
    """Two-sided interval at any confidence."""


def binary_effects(up: Any, down: Any, n: Any) -> list[Effect]:
    """Return effects of paired 0/1 scores: Tango's interval, exact McNemar; many at once, since each takes many steps.

    Args:
        up: (m,) samples that only the candidate has right.
        down: (m,) samples that only the base has right.
        n: (m,) all samples, at least 1.
    """
    if not len(n):
        return []
    lows, highs = stats.tango_interval(up, down, n)
    lower, upper = stats.tango_interval(up, down, n, 0.9)
    two, greater, less = (stats.mcnemar(up, down, side) for side in ("two-sided", "greater", "less"))
    return [
        _binary_effect(
            (int(up[i]), int(down[i]), int(n[i])),
            ((float(lows[i]), float(highs[i])), (float(lower[i]), float(upper[i]))),
            (float(two[i]), float(greater[i]), float(less[i])),
        )
        for i in range(len(n))
    ]


def _binary_effect(
    counts: tuple[int, int, int], intervals: tuple[Interval, Interval], p: tuple[float, float, float]
) -> Effect:
    up, down, n = counts
    # A little more than observed: that none of a few samples changed does not promise that none ever will.
    changed, drift = (up + down + 1) / (n + 2), (up - down) / (n + 2)
    return Effect(
        delta=(up - down) / n,
        ci=intervals[0],
        bounds=intervals[1],
        variance=changed - drift**2,
        test="McNemar exact, Tango interval",
        why="scores are 0 or 1",
        p=p[0],
        p_greater=p[1],
        p_less=p[2],
        mde=stats.detectable_flips(up + down, n),
        up=up,
        down=down,
        interval=lambda confidence: stats.tango_interval(up, down, n, confidence),
    )


def mean_effect(mean: stats.MeanDifference, n: int, changed: tuple[int, int], why: str, test: str = "") -> Effect:
    """Return the effect of a mean difference with Student's t around it.

    Args:
        mean: The difference.
        n: Samples.
        changed: How many scores rose and how many fell.
        why: Why this test.
        test: Its name where it is not the plain paired t test.
    """
    greater, less = mean.p_greater(), mean.p_less()
    return Effect(
        delta=mean.mean,
        ci=mean.interval(0.95),
        bounds=mean.interval(0.9),
        variance=n * mean.stderr**2,
        test=test or "paired t",
        why=why,
        p=min(1.0, 2 * min(greater, less)),
        p_greater=greater,
        p_less=less,
        mde=stats.detectable_mean(mean.stderr, mean.freedom),
        up=changed[0],
        down=changed[1],
        freedom=mean.freedom,
        interval=mean.interval,
    )


def score_effects(differences: Floats, seed: int = 0) -> list[Effect]:
    """Return effects of paired scores that are not binary: paired permutation, with t or, where skewed, BCa intervals.

    Args:
        differences: (n, m) differences of m candidates on the same n samples, n at least 2.
        seed: Of permutations and resamples.
    """
    import numpy as np

    n = len(differences)
    effects = []
    changed_enough = np.count_nonzero(differences, axis=0) >= FEWEST_CHANGED
    skewed = changed_enough & (np.abs(_skewness(differences)) / np.sqrt(n) > SKEWED)
    boots = dict(zip(np.flatnonzero(skewed).tolist(), _bootstraps(differences[:, skewed], seed), strict=True))
    p_values = stats.permutation_test(differences, seed) if n <= MOST_PERMUTED else None
    for j in range(differences.shape[1]):
        column = differences[:, j]
        mean = stats.paired_t(column)
        changed = int((column > 0).sum()), int((column < 0).sum())
        effect = mean_effect(mean, n, changed, "scores are not binary; many samples")
        if p_values is not None:
            greater, less = float(p_values[0][j]), float(p_values[1][j])
            effect = _with(effect, greater, less, "paired permutation, t interval", "scores are not binary")
        if j in boots:
            effect = _with_bca(effect, boots[j])
        effects.append(effect)
    return effects


def corpus_effect(
    mean: stats.MeanDifference, n: int, p_values: tuple[float, float], bootstrap: stats.Bootstrap | None
) -> Effect:
    """Return the effect of a corpus statistic.

    Args:
        mean: The difference with its standard error.
        n: Samples.
        p_values: One-sided, from the swap test: candidate higher, candidate lower.
        bootstrap: Of the difference; None where too few samples changed for its BCa interval.
    """
    interval = mean.interval if bootstrap is None else bootstrap.interval
    return Effect(
        delta=mean.mean,
        ci=interval(0.95),
        bounds=interval(0.9),
        variance=n * mean.stderr**2,
        test="paired swaps, t interval" if bootstrap is None else "paired swaps, BCa interval",
        why="the score is one of the whole corpus" + ("; few samples changed" if bootstrap is None else ""),
        p=min(1.0, 2 * min(p_values)),
        p_greater=p_values[0],
        p_less=p_values[1],
        mde=stats.detectable_mean(mean.stderr, mean.freedom),
        freedom=mean.freedom if bootstrap is None else None,
        interval=interval,
    )


def _with(effect: Effect, greater: float, less: float, test: str, why: str) -> Effect:
    return replace(effect, p=min(1.0, 2 * min(greater, less)), p_greater=greater, p_less=less, test=test, why=why)


def _with_bca(effect: Effect, bootstrap: stats.Bootstrap) -> Effect:
    return replace(
        effect,
        ci=bootstrap.interval(0.95),
        bounds=bootstrap.interval(0.9),
        test=effect.test.replace("t interval", "BCa interval")
        if "t interval" in effect.test
        else "paired t, BCa interval",
        why=effect.why + "; the differences are skewed",
        interval=bootstrap.interval,
    )


def _bootstraps(differences: Floats, seed: int) -> list[stats.Bootstrap]:
    return stats.bootstrap_means(differences, seed) if differences.shape[1] else []


def _skewness(differences: Floats) -> Floats:
    """Return the skewness of each column; 0 where all differences are equal."""
    import numpy as np

    centred = differences - differences.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    cubes: Floats = (centred**3).mean(axis=0)
    out: Floats = np.zeros_like(cubes)
    np.divide(cubes, variance**1.5, out=out, where=variance > 0)
    return out

"""Intervals and standard errors of single scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from tuneboard.stats.checks import check_confidence, normal_quantile
from tuneboard.stats.means import clustered_t

Interval: TypeAlias = "tuple[float, float]"


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"; without continuity
    correction.

    Args:
        successes: How many of the ``n`` succeeded, 0 to ``n``.
        n: Number of trials, at least 1.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: The counts or the confidence are out of range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}; expected 0 <= successes <= n and n >= 1")
    z = normal_quantile(confidence)
    share = successes / n
    shrink = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the bound is exact, while the formula leaves a rounding error.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def stderr_of_mean(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean, sample standard deviation / sqrt(n); None for fewer than 2 values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's t interval for a mean; None for fewer than 2 values.

    Args:
        values: Independent observations.
        confidence: Coverage, between 0 and 1.
    """
    stderr = stderr_of_mean(values)
    if stderr is None:
        return None
    check_confidence(confidence)
    # Student's quantile alone, without scipy.stats and its half second of import.
    from scipy.special import stdtrit

    mean = math.fsum(values) / len(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stderr
    return mean - half, mean + half


def single_score(values: Sequence[float], confidence: float = 0.95) -> tuple[float | None, Interval | None]:
    """Return standard error and interval of the mean of one score per sample.

    Wilson's interval where every score is 0 or 1: it keeps its coverage near 0 and 1, where the t interval has no
    width at all. Student's t else.

    Args:
        values: One score per sample.
        confidence: Coverage, between 0 and 1.
    """
    if not values:
        return None, None
    stderr = stderr_of_mean(values)
    if all(value in (0, 1) for value in values):
        return stderr, wilson_interval(sum(map(int, values)), len(values), confidence)
    return stderr, mean_interval(values, confidence)


def clustered_score(
    values: Sequence[float], clusters: Sequence[str], confidence: float = 0.95
) -> tuple[float, Interval | None]:
    """Return standard error and interval of the mean of scores that depend on each other inside clusters.

    Where all scores are equal, nothing tells how they vary; the interval is then that of one sample per cluster.

    Source: Miller 2024, "Adding error bars to evals" (arXiv 2411.00640).

    Args:
        values: One score per sample.
        clusters: The cluster of each sample, at least 2 different ones.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: The lengths differ, or there are fewer than 2 clusters.
    """
    found = clustered_t(values, clusters)
    if min(values) == max(values):
        return 0.0, single_score(values[: len(set(clusters))], confidence)[1]
    return found.stderr, found.interval(confidence)


def pooled_stderr(stderrs: Sequence[float], sizes: Sequence[int]) -> float | None:
    """Return the standard error of a group's mean weighted by size, from those of its tasks.

    The samples' variances are pooled (weights n - 1) and divided by the number of all samples, as lm-eval does.

    Args:
        stderrs: Standard error of each task's mean.
        sizes: Samples of each task.

    Returns:
        None where every task has a single sample.

    Raises:
        ValueError: The lengths differ or nothing was given.
    """
    if len(stderrs) != len(sizes) or not sizes:
        raise ValueError(f"{len(stderrs)} standard errors for {len(sizes)} sizes; expected one each, at least one")
    total, freedom = sum(sizes), sum(sizes) - len(sizes)
    if freedom <= 0:
        return None
    variance = math.fsum((n - 1) * n * stderr**2 for stderr, n in zip(stderrs, sizes, strict=True)) / freedom
    return math.sqrt(variance / total)


def unweighted_stderr(stderrs: Sequence[float]) -> float:
    """Return the standard error of the plain mean of independent task scores, sqrt(sum of squares) / k.

    Args:
        stderrs: Standard error of each task's score, at least one.

    Raises:
        ValueError: Nothing was given.
    """
    if not stderrs:
        raise ValueError("no standard errors were given; expected at least one")
    return math.sqrt(math.fsum(stderr**2 for stderr in stderrs)) / len(stderrs)


def group_interval(mean: float, stderr: float, confidence: float = 0.95) -> Interval:
    """Return the normal interval around a group's score or another statistic whose standard error is known.

    Args:
        mean: The score.
        stderr: Its standard error.
        confidence: Coverage, between 0 and 1.
    """
    half = normal_quantile(confidence) * stderr
    return mean - half, mean + half


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate of pass@k: that at least one of ``k`` samples is correct.

    Source: Chen et al. 2021, "Evaluating large language models trained on code", eq. 1: 1 - C(n - c, k) / C(n, k).

    Args:
        n: Samples drawn, at least ``k``.
        c: Correct ones among them, 0 to ``n``.
        k: Samples that a user would look at, at least 1.

    Raises:
        ValueError: The numbers do not fit together.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(
            f"pass@{k} of {c} correct in {n} samples; expected 0 <= correct <= samples and 1 <= k <= samples"
        )
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)

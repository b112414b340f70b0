"""What each rule says about one row of a comparison: does it pass, how sure would a failure be, what would settle it?

Gains are differences whose sign is turned so that positive is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from tuneboard import stats
from tuneboard.compare import TaskComparison
from tuneboard.gates.records import Rule

Interval: TypeAlias = tuple[float, float]

#: With as many degrees of freedom, Student's t is normal.
_NORMAL = 1e9


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found on one row, before p-values are corrected."""

    passed: bool
    p: float
    """Of failing, given that it does not pass."""
    bound: float
    n_needed: int | None
    """Samples that would make it pass or fail with 80 % power if it went on as it began."""


def weigh(rule: Rule, row: TaskComparison, margin: float | None, alpha: float) -> Finding:
    """Weigh a rule on scores.

    Args:
        rule: Not one of speed or cost.
        row: The comparison.
        margin: On the metric's own scale, above 0; None where the metric has none, which counts as 0.
        alpha: One-sided level.
    """
    if rule.rule == "at_least":
        assert rule.value is not None
        return _at_least(row, rule.value, alpha)
    low, high = gain_interval(row, alpha)
    slack = margin or 0.0
    if rule.rule == "not_regress":
        needed = _needed(row, alpha, (row.gain + slack, row.gain > -slack), (-row.gain, row.gain < 0))
        return Finding(low > -slack, row.p_decline, row_bound(row, alpha), needed)
    if rule.rule == "improve":
        needed = _needed(row, alpha, (row.gain, row.gain > 0), (slack - row.gain, row.gain < slack))
        return Finding(low > 0, p_gain_below(row, slack), row_bound(row, alpha), needed)
    outer = max(_interval(row, alpha), key=abs)
    room = slack - abs(row.gain)
    needed = _needed(row, alpha, (room, room > 0), (abs(row.gain), row.gain != 0))
    return Finding(-slack < low and high < slack, row.effect.p, outer, needed)


def gain_interval(row: TaskComparison, alpha: float) -> Interval:
    """Return both one-sided bounds of the gain."""
    low, high = _interval(row, alpha)
    return (low, high) if row.higher_is_better else (-high, -low)


def row_bound(row: TaskComparison, alpha: float) -> float:
    """Return the one-sided bound of the difference on the harmful side."""
    return _interval(row, alpha)[0 if row.higher_is_better else 1]


def p_gain_below(row: TaskComparison, margin: float) -> float:
    """Return the one-sided p-value of the alternative that the gain is less than ``margin``."""
    if is_binary(row):
        return float(stats.tango_test(row.fixed or 0, row.broke or 0, row.n, margin, "less"))
    stderr = math.sqrt(row.effect.variance / row.n)
    return stats.MeanDifference(row.gain, stderr, _freedom(row)).p_less(margin)


def is_binary(row: TaskComparison) -> bool:
    """Tell whether a row compares scores of 0 and 1."""
    return row.effect.test.startswith("McNemar")


def _interval(row: TaskComparison, alpha: float) -> Interval:
    return row.effect.bounds if alpha == 0.05 else row.effect.interval(1 - 2 * alpha)


def _at_least(row: TaskComparison, value: float, alpha: float) -> Finding:
    score, sign = row.candidate, 1 if row.higher_is_better else -1
    if is_binary(row) and 0 < value < 1:
        variance = score * (1 - score)
        ends = stats.wilson_interval(round(score * row.n), row.n, 1 - 2 * alpha)
        stderr = math.sqrt(value * (1 - value) / row.n)
        p = stats.MeanDifference(sign * (score - value), stderr, _NORMAL).p_less()
    else:
        stderr = _own_stderr(row)
        variance = row.n * stderr**2
        ends = stats.MeanDifference(score, stderr, _freedom(row)).interval(1 - 2 * alpha)
        p = stats.MeanDifference(sign * (score - value), stderr, _freedom(row)).p_less()
    bound = ends[0] if row.higher_is_better else ends[1]
    distance = abs(score - value)
    needed = _samples(variance, distance, alpha, row.n) if distance else None
    return Finding(sign * (bound - value) >= 0, p, bound, needed)


def _freedom(row: TaskComparison) -> float:
    """Return degrees of freedom: of clustered samples, there are as few as of clusters."""
    return row.effect.freedom or max(1, row.n - 1)


def _own_stderr(row: TaskComparison) -> float:
    """Return the standard error of the candidate's own score, from its 95 % interval."""
    if row.candidate_ci is None:
        return 0.0
    from scipy.special import stdtrit

    low, high = row.candidate_ci
    return (high - low) / 2 / float(stdtrit(_freedom(row), 0.975))


def _needed(row: TaskComparison, alpha: float, *ways: tuple[float, bool]) -> int | None:
    """Return the fewest samples by which one of several distances from a limit becomes certain."""
    found = [_samples(row.effect.variance, distance, alpha, row.n) for distance, possible in ways if possible]
    return min((one for one in found if one is not None), default=None)


def _samples(variance: float, distance: float, alpha: float, n: int) -> int | None:
    from statistics import NormalDist

    quantiles = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(0.8)
    found = quantiles**2 * variance / distance**2
    return max(math.ceil(found), n + 1) if found < 1e12 else None

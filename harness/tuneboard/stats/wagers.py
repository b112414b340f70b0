"""Watching a rule on bounded scores that are not binary: a gambler bets on what the rule asks, and on the contrary.

Bets are valid at all times, as ``stats.monitoring``'s evidence from 0/1 scores is; at the end, Student's t has the rest
of the level.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

from tuneboard.stats.means import MeanDifference, paired_t
from tuneboard.stats.monitoring import EARLY_FAIL, Aim, Evidence, Schedule
from tuneboard.stats.sequential import betting_interval, chance_to_pass, log_capital
from tuneboard.stats.single import wilson_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

#: Of alpha, what passing early may use up where scores are bounded but not binary; bets seldom win before the end, so
#: that most is kept for the t bound there.
EARLY_PASS = 0.2


def watch_scores(aim: Aim, margin: float, schedule: Schedule, at: int, gains: Floats) -> Evidence:
    """Return the evidence from bounded scores that are not binary.

    Args:
        aim: What is asked.
        margin: Above 0 and below 1.
        schedule: When to look.
        at: The batch that was just completed, from 0.
        gains: (k,) candidate - base of each sample so far, better is positive; -1 to 1.
    """
    import numpy as np

    k = len(gains)
    if k < 2:
        return Evidence(False, 0.0, 1.0)
    floor = 0.0 if aim == "improve" else -margin
    early = EARLY_PASS * schedule.alpha
    found = paired_t(gains)
    # One more sample at either end of the scale: that few samples are alike does not promise that all will be.
    variance = (float(gains.var()) * k + 0.5) / (k + 1)
    final = NormalDist().inv_cdf(1 - _late(schedule)) * math.sqrt(variance / schedule.n)
    above = _wealth((1 + gains) / 2, (1 + floor) / 2, early)
    passes, likely = above >= -math.log(early), chance_to_pass(found.mean, variance, k, schedule.n, floor + final)
    loss = _wealth((1 - gains) / 2, 0.5, EARLY_FAIL * schedule.alpha)
    if at == schedule.last:
        passes = passes or found.p_greater(floor) <= _late(schedule)
    if aim == "equivalent":
        below = _wealth((1 - gains) / 2, (1 - margin) / 2, early) >= -math.log(early)
        passes = passes and (below or (at == schedule.last and found.p_less(margin) <= _late(schedule)))
        gain = _wealth((1 + gains) / 2, 0.5, EARLY_FAIL * schedule.alpha)
        loss = float(np.logaddexp(loss, gain)) - math.log(2)
        likely = max(0.0, likely - chance_to_pass(found.mean, variance, k, schedule.n, margin - final))
    return Evidence(bool(passes), loss, float(likely))


def bounds_of_gains(schedule: Schedule, at: int, gains: Floats) -> tuple[float, float]:
    """Return both one-sided bounds of the mean gain: those of the bets, or of t where that is narrower at the end.

    Args:
        schedule: When to look.
        at: The batch that was just completed.
        gains: (k,) -1 to 1.
    """
    low, high = bounds_of_scores(schedule, at, (1 + gains) / 2)
    return 2 * low - 1, 2 * high - 1


def bounds_of_scores(schedule: Schedule, at: int, scores: Floats) -> tuple[float, float]:
    """Return both one-sided bounds of a mean of scores of 0 to 1, as ``bounds_of_gains`` does."""
    low, high = betting_interval(scores, 1 - 2 * EARLY_PASS * schedule.alpha)
    if at == schedule.last and len(scores) > 1:
        ends = _last_interval(scores, 1 - 2 * _late(schedule))
        low, high = max(low, ends[0]), min(high, ends[1])
    return low, high


def last_p_of_scores(aim: Aim, margin: float, gains: Floats) -> float:
    """Return the p-value of failing from all samples: Student's t."""
    if len(gains) < 2:
        return 1.0
    found = paired_t(gains)
    if aim == "equivalent":
        return found.p_value()
    return found.p_less(margin if aim == "improve" else 0.0)


def watch_level(value: float, schedule: Schedule, at: int, scores: Floats) -> Evidence:
    """Return the evidence that one candidate's own scores have a mean of at least ``value``.

    Args:
        value: Above 0 and below 1.
        schedule: When to look.
        at: The batch that was just completed, from 0.
        scores: (k,) of 0 to 1, better is more.
    """
    k = len(scores)
    if k < 2:
        return Evidence(False, 0.0, 1.0)
    early, mean = EARLY_PASS * schedule.alpha, float(scores.mean())
    variance = (float(scores.var()) * k + 0.25) / (k + 1)
    final = NormalDist().inv_cdf(1 - _late(schedule)) * math.sqrt(variance / schedule.n)
    passes = _wealth(scores, value, early) >= -math.log(early)
    if at == schedule.last:
        passes = passes or last_p_of_level(value, -scores, -1) <= _late(schedule)
    likely = chance_to_pass(mean, variance, k, schedule.n, value + final)
    return Evidence(bool(passes), _wealth(1 - scores, 1 - value, EARLY_FAIL * schedule.alpha), float(likely))


def last_p_of_level(value: float, scores: Floats, sign: int = 1) -> float:
    """Return the p-value of "the mean is below ``value``" from all samples: a score test if they are 0 or 1, else t."""
    k = len(scores)
    if k < 2:
        return 1.0
    if bool(((scores == 0) | (scores == sign)).all()):
        stderr = math.sqrt(value * (1 - value) / k)
        return MeanDifference(float(scores.mean()) - sign * value, stderr, 1e9).p_less()
    return paired_t(scores - sign * value).p_less()


def _last_interval(scores: Floats, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of scores of 0 and 1, else Student's."""
    if bool(((scores == 0) | (scores == 1)).all()):
        return wilson_interval(int(scores.sum()), len(scores), confidence)
    return paired_t(scores).interval(confidence)


def _late(schedule: Schedule) -> float:
    return (1 - EARLY_PASS) * schedule.alpha


def _wealth(scores: Floats, null: float, alpha: float) -> float:
    """Return the largest logarithm of capital so far."""
    return max(0.0, float(log_capital(scores, null, alpha).max()))

"""Looking at scores while they come in, without paying for it in false alarms.

    log_e_value          evidence of a decline in 0/1 scores, valid however often one looks
    spending_bounds      how large a test statistic must be at each of several looks
    chance_to_pass       whether going on can still change anything
    log_capital          the same evidence from bounded scores, by betting
    betting_interval     an interval that holds at all times at once

All functions broadcast over arrays, so that thousands of streams are simulated at once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.stats.checks import check_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

#: Most of what a bet may stake, so that no single score ruins the player (Waudby-Smith and Ramdas 2024, section 4.2).
MOST_STAKED = 0.5
_HALVINGS = 60
#: Points of the density between two looks; with 400, bounds agree with published ones to 4 decimals.
_GRID = 401
_WIDEST = 9.0
#: Near the smallest double, whose logarithm would be inexact.
_TINY = 1e-290


def log_e_value(losses: ArrayLike, wins: ArrayLike) -> Any:
    """Return the logarithm of an e-value against "a changed sample is no likelier a loss than a win".

    E = 2^(L+W+1) B(L+1, W+1) P(Beta(L+1, W+1) > 1/2): the likelihood ratio of the losses' share being uniform on
    (1/2, 1) to its being 1/2. Over a growing sample this is a martingale if the share is 1/2, and it falls if the share
    is less, so that E reaches 1 / alpha at any time with a probability of at most alpha (Ville 1939).

    Source: Robbins 1970, "Statistical methods related to the law of the iterated logarithm" (mixtures); Ramdas et al.
    2023, "Game-theoretic statistics and safe anytime-valid inference".

    Args:
        losses: Samples that only the base has right, at least 0.
        wins: Samples that only the candidate has right, at least 0.

    Returns:
        A float, or an array of the broadcast shape; 0 before anything changed.

    Raises:
        ValueError: A count is negative.
    """
    import numpy as np
    from scipy.special import bdtr, betaln

    lost, won = np.broadcast_arrays(np.asarray(losses, dtype=float), np.asarray(wins, dtype=float))
    if (lost < 0).any() or (won < 0).any():
        raise ValueError("a count of changed samples is negative; expected counts of at least 0")
    total = lost + won + 1
    # P(Beta(L+1, W+1) > 1/2) = P(Binomial(L+W+1, 1/2) <= L).
    tail = bdtr(lost, total.astype(np.int64), 0.5)
    inside = total * math.log(2) + betaln(lost + 1, won + 1) + np.log(np.maximum(tail, _TINY))
    # So far out, the tail is its last term times a geometric series (an upper limit), and the powers of 2 cancel.
    outside = np.log((won + 2) / ((won + 1) * np.maximum(won - lost + 2, 1)))
    return _plain(np.where(tail > _TINY, inside, outside))


def spent(fraction: ArrayLike, alpha: float) -> Any:
    """Return how much of a one-sided level is spent once a fraction of the sample is seen: 2 - 2 Phi(z / sqrt(t)).

    Source: Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials": the spending that resembles
    O'Brien and Fleming's boundaries; z is the 1 - alpha / 2 quantile of the normal distribution.

    Args:
        fraction: Of the full sample, above 0 and at most 1.
        alpha: One-sided level.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    seen = np.asarray(fraction, dtype=float)
    return _plain(np.asarray(2 * ndtr(-ndtri(1 - alpha / 2) / np.sqrt(seen))))


@lru_cache(maxsize=256)
def spending_bounds(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Return how large a standard normal statistic must be at each look for rejecting, so that alpha is kept overall.

    The statistic's path between looks is that of a random walk; its density is followed by numerical integration.

    Source: Lan and DeMets 1983; integration after Armitage, McPherson and Rowe 1969, "Repeated significance tests on
    accumulating data".

    Args:
        fractions: Of the full sample at each look, rising, above 0 and at most 1.
        alpha: One-sided level, above 0 and below 0.5.

    Raises:
        ValueError: The fractions do not rise within 0 to 1, or alpha is out of range.
    """
    import numpy as np
    from scipy.special import ndtr

    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha {alpha}; expected a number above 0 and below 0.5")
    if not fractions or list(fractions) != sorted(set(fractions)) or fractions[0] <= 0 or fractions[-1] > 1:
        raise ValueError("fractions of looks do not rise from above 0 to at most 1")
    bounds: list[float] = []
    # What is left of the walk before the first look: all of it, at 0.
    places, mass, before, used = np.zeros(1), np.ones(1), 0.0, 0.0
    for fraction in fractions:
        spread, budget = math.sqrt(fraction - before), spent(fraction, alpha)
        low, high = -_WIDEST, _WIDEST
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            crossing = float(mass @ ndtr((places - middle * math.sqrt(fraction)) / spread))
            low, high = (middle, high) if crossing > budget - used else (low, middle)
        bounds.append(high)
        grid = np.linspace(-_WIDEST * math.sqrt(fraction), high * math.sqrt(fraction), _GRID)
        steps = (grid[:, None] - places[None, :]) / spread
        density = np.exp(-(steps**2) / 2) @ mass / (spread * math.sqrt(2 * math.pi))
        places, mass, before, used = grid, density * _simpson(grid), fraction, budget
    return tuple(bounds)


def chance_to_pass(difference: ArrayLike, variance: ArrayLike, seen: ArrayLike, n: int, least: ArrayLike) -> Any:
    """Return the predictive probability that the mean difference of the full sample will be at least ``least``.

    Given a flat prior, the true difference is normal around the one seen, and the samples to come are normal around
    the true one; together the final difference is normal around the one seen, with variance v (n - k) / (n k).

    Source: Spiegelhalter, Freedman and Blackburn 1986, "Monitoring clinical trials: conditional or predictive power?"

    Args:
        difference: Mean difference of the samples seen.
        variance: Of one sample's difference, above 0.
        seen: Samples seen (k), 1 to ``n``.
        n: Samples of the full evaluation.
        least: Final difference from which on the rule passes.
    """
    import numpy as np
    from scipy.special import ndtr

    found, spread, count, aim = (np.asarray(one, dtype=float) for one in (difference, variance, seen, least))
    scale = np.sqrt(spread * (n - count) / (n * count))
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.where(scale > 0, ndtr((found - aim) / scale), found >= aim)
    return _plain(np.asarray(chance, dtype=float))


def log_capital(values: ArrayLike, null: float, alpha: float = 0.05) -> Floats:
    """Return the logarithm of what a gambler owns who bets that scores have a mean above ``null``.

    The stake on the next score depends only on those before it (predictable plug-in), so that the capital is an
    e-process against "the mean is at most ``null``": it reaches 1 / alpha at any time with probability at most alpha.

    Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86, section
    4.2, eqs. 24 to 26.

    Args:
        values: (..., n) scores of 0 to 1, in the order seen.
        null: Mean under the null hypothesis, above 0 and below 1.
        alpha: Level that the stakes are tuned for; the result holds at any level.

    Returns:
        (..., n) after each score.

    Raises:
        ValueError: A score is not between 0 and 1.
    """
    import numpy as np

    scores = np.asarray(values, dtype=float)
    stakes = np.minimum(_stakes(scores, alpha), MOST_STAKED / null)
    out: Floats = np.cumsum(np.log1p(stakes * (scores - null)), axis=-1)
    return out


def betting_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return where the mean of bounded scores lies, at a confidence that holds at all times at once.

    The means that no gambler has yet made a fortune against, one betting on more and one on less, each with half of the
    level. Ends that were once excluded stay so.

    Source: Waudby-Smith and Ramdas 2024, as for ``log_capital``.

    Args:
        values: (n,) scores of 0 to 1, in the order seen.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: A score is not between 0 and 1, or the confidence is out of range.
    """
    import numpy as np

    check_confidence(confidence)
    scores = np.asarray(values, dtype=float)
    level = (1 - confidence) / 2
    ends = []
    for mirrored in (scores, 1 - scores):
        stakes = _stakes(mirrored, level)
        low, high = 0.0, 1.0
        # Capital falls as the null rises.
        for _ in range(_HALVINGS if len(scores) else 0):
            null = (low + high) / 2
            owned = np.cumsum(np.log1p(np.minimum(stakes, MOST_STAKED / max(null, 1e-12)) * (mirrored - null)))
            low, high = (null, high) if owned.max() >= -math.log(level) else (low, null)
        ends.append(low)
    return ends[0], 1 - ends[1]


def _stakes(scores: Floats, alpha: float) -> Floats:
    """Return the predictable plug-in stakes sqrt(2 ln(1/alpha) / (s^2 t ln(t+1))), s^2 the variance before t."""
    import numpy as np

    if ((scores < 0) | (scores > 1)).any():
        raise ValueError("a score is not between 0 and 1; scale bounded scores to that range")
    times = np.arange(1, scores.shape[-1] + 1)
    means = (0.5 + np.cumsum(scores, axis=-1)) / (times + 1)
    variances = (0.25 + np.cumsum((scores - means) ** 2, axis=-1)) / (times + 1)
    before = np.concatenate([np.full((*scores.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    out: Floats = np.sqrt(2 * math.log(1 / alpha) / (before * times * np.log(times + 1)))
    return out


def _simpson(grid: Floats) -> Floats:
    import numpy as np

    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    out: Floats = weights * (grid[1] - grid[0]) / 3
    return out


def _plain(values: Any) -> Any:
    """Return a float for a single number."""
    return float(values) if values.ndim == 0 else values

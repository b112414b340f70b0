"""Paired binary scores: how many samples changed each way, and what that says.

``up`` counts samples that only the candidate has right, ``down`` those that only the base has; the difference of the
two accuracies is (up - down) / n. All functions take numbers or arrays and broadcast over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tuneboard.stats.checks import check_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]

#: Halvings of the bracket [-1, 1]: after 60, it is narrower than the spacing of doubles around 1.
_HALVINGS = 60


def tango_statistic(up: ArrayLike, down: ArrayLike, n: ArrayLike, difference: ArrayLike) -> Any:
    """Return the score statistic of a paired difference, standard normal if ``difference`` is true.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17; at difference 0 it is McNemar's without correction.

    Args:
        up: Samples that only the candidate has right, 0 to ``n``.
        down: Samples that only the base has right, 0 to ``n - up``.
        n: All samples, at least 1.
        difference: The difference that is tested, -1 to 1.

    Returns:
        A float, or an array of the broadcast shape; 0 where numerator and variance are both 0.

    Raises:
        ValueError: The counts do not fit together.
    """
    import numpy as np

    gained, lost, size = _shares(up, down, n)
    null = np.asarray(difference, dtype=float)
    variance = _variance(gained, lost, null)
    numerator = np.sqrt(size) * (gained - lost - null)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = numerator / np.sqrt(variance)
    return _plain(np.where(numerator == 0, 0.0, statistic))


def tango_interval(up: ArrayLike, down: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Any, Any]:
    """Return Tango's score interval for the paired difference (up - down) / n.

    Unlike the t and Wald intervals it has a width where no sample changed, z^2 / (n + z^2) to either side, and holds
    its coverage there. The statistic falls as the difference grows, so each end is found by bisection.

    Source: Tango 1998, as for ``tango_statistic``.

    Args:
        up: Samples that only the candidate has right, 0 to ``n``.
        down: Samples that only the base has right, 0 to ``n - up``.
        n: All samples, at least 1.
        confidence: Coverage, between 0 and 1.

    Returns:
        Lower and upper end, within -1 to 1: floats, or arrays of the broadcast shape.

    Raises:
        ValueError: The counts do not fit together, or the confidence is out of range.
    """
    import numpy as np
    from scipy.special import ndtri

    check_confidence(confidence)
    gained, lost, size = _shares(up, down, n)
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    ends = []
    for side in (-1.0, 1.0):
        inside, outside = gained - lost, np.full(np.shape(gained), side)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            held = size * (gained - lost - middle) ** 2 <= z2 * _variance(gained, lost, middle)
            inside, outside = np.where(held, middle, inside), np.where(held, outside, middle)
        ends.append(_plain((inside + outside) / 2))
    return ends[0], ends[1]


def tango_bound(
    up: ArrayLike, down: ArrayLike, n: ArrayLike, side: Literal["lower", "upper"] = "lower", confidence: float = 0.95
) -> Any:
    """Return the one-sided score bound of the paired difference: an end of the interval that leaves out twice as much.

    Args:
        up: Samples that only the candidate has right.
        down: Samples that only the base has right.
        n: All samples.
        side: Which bound.
        confidence: Coverage of the bound, between 0.5 and 1.

    Raises:
        ValueError: The counts do not fit together, or the confidence is out of range.
    """
    return tango_interval(up, down, n, 2 * confidence - 1)[side == "upper"]


def tango_test(
    up: ArrayLike, down: ArrayLike, n: ArrayLike, null: ArrayLike = 0.0, alternative: Alternative = "greater"
) -> Any:
    """Return the p-value of the score test of a paired difference against ``null``.

    With ``null=-margin`` and ``"greater"`` this is the test of non-inferiority; it rejects at 5 % exactly where
    ``tango_bound`` lies above ``-margin``.

    Args:
        up: Samples that only the candidate has right.
        down: Samples that only the base has right.
        n: All samples.
        null: The difference under the null hypothesis, -1 to 1.
        alternative: Where the true difference is expected to lie.

    Raises:
        ValueError: The counts do not fit together.
    """
    import numpy as np
    from scipy.special import ndtr

    statistic = np.asarray(tango_statistic(up, down, n, null))
    tails = {"greater": ndtr(-statistic), "less": ndtr(statistic), "two-sided": 2 * ndtr(-np.abs(statistic))}
    return _plain(tails[alternative])


def mcnemar(up: ArrayLike, down: ArrayLike, alternative: Alternative = "two-sided") -> Any:
    """Return the exact p-value of McNemar's test: of up + down changed samples, each way is equally likely.

    Source: McNemar 1947; exact binomial form. ``scipy.stats.binomtest`` gives the same, at half a second of import.

    Args:
        up: Samples that only the candidate has right.
        down: Samples that only the base has right.
        alternative: ``greater``: more go up.

    Returns:
        A float, or an array of the broadcast shape; 1 where no sample changed.

    Raises:
        ValueError: A count is negative.
    """
    import numpy as np
    from scipy.special import bdtr

    gains, losses = np.broadcast_arrays(np.asarray(up, dtype=np.int64), np.asarray(down, dtype=np.int64))
    if (gains < 0).any() or (losses < 0).any():
        raise ValueError("a count of changed samples is negative; expected counts of at least 0")
    changed = gains + losses
    # P(X <= k) of Binomial(changed, 1/2), whose upper tail is the lower tail of the other count.
    few_losses, few_gains = bdtr(losses, changed, 0.5), bdtr(gains, changed, 0.5)
    tails = {
        "greater": few_losses,
        "less": few_gains,
        "two-sided": np.minimum(1.0, 2 * np.minimum(few_losses, few_gains)),
    }
    return _plain(tails[alternative])


def _variance(gained: Floats, lost: Floats, difference: Floats) -> Floats:
    """Return n times the variance of the observed difference, with the losses' share estimated under ``difference``."""
    import numpy as np

    # The share of losses solves 2 q^2 + b q + c = 0 (Tango 1998, divided by n).
    b = (2 - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    root = np.sqrt(np.maximum(b * b - 8 * c, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # For b > 0 the usual formula would subtract two nearly equal numbers.
        share = np.where(b > 0, -2 * c / (b + root), (root - b) / 4)
    return np.maximum(2 * share + difference * (1 - difference), 0.0)


def _shares(up: ArrayLike, down: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats, Floats]:
    import numpy as np

    gains, losses, size = np.broadcast_arrays(*(np.asarray(one, dtype=float) for one in (up, down, n)))
    if (size < 1).any() or (gains < 0).any() or (losses < 0).any() or (gains + losses > size).any():
        raise ValueError("counts of changed samples do not fit; expected up >= 0, down >= 0, up + down <= n, n >= 1")
    return gains / size, losses / size, size


def _plain(values: Any) -> Any:
    """Return a float for a single number."""
    return float(values) if values.ndim == 0 else values

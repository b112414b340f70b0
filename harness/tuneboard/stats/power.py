"""What a sample could have found, and how large one would have to be."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z_TWO_SIDED = NormalDist().inv_cdf(0.975)
_Z_ONE_SIDED = NormalDist().inv_cdf(0.95)
_Z_POWER = NormalDist().inv_cdf(0.8)


def detectable_flips(changed: int, n: int) -> float:
    """Return the smallest paired difference of accuracies that a two-sided 5 % test finds with 80 % power.

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design",
    solved for the difference: d sqrt(n) = z1 sqrt(r) + z2 sqrt(r - d^2), with r the share of samples that change. A
    difference cannot exceed that share; where too few changed, all of the changes are taken to go one way (r = d).

    Args:
        changed: Samples that changed either way, 0 to ``n``.
        n: All samples, at least 1.

    Raises:
        ValueError: The counts do not fit together.
    """
    if n < 1 or not 0 <= changed <= n:
        raise ValueError(f"{changed} changed samples of {n}; expected 0 <= changed <= n and n >= 1")
    share = changed / n
    z1, z2 = _Z_TWO_SIDED, _Z_POWER
    found = _larger_root(n + z2 * z2, 2 * z1 * math.sqrt(n * share), (z1 * z1 - z2 * z2) * share)
    if share and found <= share:
        return found
    # With r = d, the equation is quadratic in sqrt(d).
    return min(1.0, _larger_root(n + z2 * z2, 2 * z1 * math.sqrt(n), z1 * z1 - z2 * z2) ** 2)


def detectable_mean(stderr: float, freedom: float | None = None) -> float:
    """Return the smallest mean difference that a two-sided 5 % test finds with 80 % power: (t1 + t2) x stderr.

    Args:
        stderr: Standard error of the difference, at least 0.
        freedom: Degrees of freedom, at least 1; None stands for the normal distribution.
    """
    if freedom is None:
        return (_Z_TWO_SIDED + _Z_POWER) * stderr
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975) + stdtrit(freedom, 0.8)) * stderr


def needed_samples(variance: float, difference: float, margin: float | None) -> int | None:
    """Return how many samples would settle a comparison with 80 % power if it went on as it began.

    Two answers settle it: a difference that a two-sided 5 % test finds, or equivalence, where both one-sided 5 % bounds
    lie within the margin. The smaller number counts.

    Args:
        variance: Of one sample's difference, above 0.
        difference: As observed.
        margin: The largest difference that does not matter, above 0; None leaves only the first way.

    Returns:
        None where neither can ever happen: no difference and no margin.
    """
    found: list[float] = []
    if difference:
        found.append((_Z_TWO_SIDED + _Z_POWER) ** 2 * variance / difference**2)
    if margin is not None and abs(difference) < margin:
        found.append((_Z_ONE_SIDED + _Z_POWER) ** 2 * variance / (margin - abs(difference)) ** 2)
    smallest = min(found, default=math.inf)
    return math.ceil(smallest) if smallest < 1e12 else None


def supported_margin(n: int, changed: float = 0.11) -> float:
    """Return the decline that ``n`` samples can rule out with 80 % power when nothing has changed.

    Non-inferiority at one-sided 5 %: (1.645 + 0.842) sqrt(r / n), with r the share of samples that change.

    Args:
        n: Samples, at least 1.
        changed: Share of samples that change, 0 to 1; 11 % is usual between a base and its light fine-tune.
    """
    return (_Z_ONE_SIDED + _Z_POWER) * math.sqrt(changed / n)


def _larger_root(a: float, b: float, c: float) -> float:
    """Return the larger x with a x^2 - b x + c = 0."""
    return (b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)

"""Paired differences of scores that are not binary: t, clustered errors, sign-flip permutation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.stats.checks import check_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Signs: TypeAlias = NDArray[np.float32]

#: Random sign patterns of a permutation test; the smallest p-value that it can give is then 1e-4.
PERMUTATIONS = 9999
#: Numbers held at once while patterns are drawn: 16 MB.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """An estimated mean difference with Student's t around it."""

    mean: float
    stderr: float
    """0 or more; 0 where all differences are equal."""
    freedom: float
    """Degrees of freedom, at least 1."""

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the t interval; raises ``ValueError`` for a confidence out of range."""
        from scipy.special import stdtrit

        check_confidence(confidence)
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.stderr
        return self.mean - half, self.mean + half

    def p_greater(self, null: float = 0.0) -> float:
        """Return the one-sided p-value of the t test whose alternative is a mean above ``null``."""
        from scipy.special import stdtr

        if self.stderr == 0:
            return 1.0 if self.mean <= null else 0.0
        return float(stdtr(self.freedom, (null - self.mean) / self.stderr))

    def p_less(self, null: float = 0.0) -> float:
        """Return the one-sided p-value of the t test whose alternative is a mean below ``null``."""
        return MeanDifference(-self.mean, self.stderr, self.freedom).p_greater(-null)

    def p_value(self) -> float:
        """Return the two-sided p-value of the t test against 0."""
        return min(1.0, 2 * min(self.p_greater(), self.p_less()))


def paired_t(differences: ArrayLike) -> MeanDifference:
    """Return the mean of paired differences for Student's paired t test and interval.

    Args:
        differences: One per sample, at least 2.

    Raises:
        ValueError: Fewer than 2 differences.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    _need(len(values), "differences")
    return MeanDifference(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values) - 1)


def clustered_t(differences: ArrayLike, clusters: ArrayLike) -> MeanDifference:
    """Return the mean of paired differences with an error that allows for dependence inside clusters.

    Samples about one passage, article or template rise and fall together; counting them as independent makes the error
    too small. Cluster-robust variance of the mean, g / (g - 1) times the sum of squared cluster totals of residuals
    over n^2, with g - 1 degrees of freedom: what ``statsmodels`` gives for an intercept with ``cov_type="cluster"``.

    Source: Liang and Zeger 1986; for evaluations, Miller 2024, "Adding error bars to evals".

    Args:
        differences: One per sample.
        clusters: The cluster of each sample, at least 2 different ones.

    Raises:
        ValueError: The lengths differ, or there are fewer than 2 clusters.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    labels = np.asarray(clusters)
    if len(labels) != len(values):
        raise ValueError(f"{len(labels)} clusters for {len(values)} differences; expected one each")
    names, member = np.unique(labels, return_inverse=True)
    _need(len(names), "clusters")
    totals = np.bincount(member, weights=values - values.mean())
    variance = len(names) / (len(names) - 1) * float(totals @ totals) / len(values) ** 2
    return MeanDifference(float(values.mean()), float(np.sqrt(variance)), len(names) - 1)


def weighted_mean(parts: list[MeanDifference], weights: list[float]) -> MeanDifference:
    """Return the weighted mean of independent mean differences, as of a group's tasks.

    Degrees of freedom: Satterthwaite 1946, "An approximate distribution of estimates of variance components".

    Args:
        parts: At least one.
        weights: One each; they are scaled to sum to 1.
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]
    variances = [(share * part.stderr) ** 2 for share, part in zip(shares, parts, strict=True)]
    spread = sum(variance**2 / part.freedom for variance, part in zip(variances, parts, strict=True))
    freedom = sum(variances) ** 2 / spread if spread else sum(part.freedom for part in parts)
    mean = sum(share * part.mean for share, part in zip(shares, parts, strict=True))
    return MeanDifference(mean, sum(variances) ** 0.5, max(1.0, freedom))


def permutation_test(differences: ArrayLike, seed: int = 0, patterns: int = PERMUTATIONS) -> tuple[Floats, Floats]:
    """Return one-sided p-values of the paired permutation test: had nothing changed, each sign were a coin toss.

    All sign patterns are tried where there are no more than ``patterns``, else as many are drawn and the observed one
    is counted among them. The same signs serve all columns. Twice the smaller p-value, at most 1, is the two-sided one.

    Source: Fisher 1935, "The design of experiments", section 21; Monte Carlo form of Phipson and Smyth 2010.

    Args:
        differences: Array (n, m): m comparisons of the same n samples.
        seed: Of the random signs.
        patterns: Most sign patterns, at least 1.

    Returns:
        Two arrays (m,): with the alternative "the mean is above 0", and "below 0".
    """
    import numpy as np

    # Single precision halves the time, and its rounding is far below the slack: sums as close as that are ties.
    table = np.asarray(differences, dtype=np.float32)
    n = len(table)
    observed = table.sum(axis=0, dtype=float)
    slack = 1e-5 * np.abs(table).sum(axis=0, dtype=float)
    above = np.zeros(table.shape[1])
    below, tried = above.copy(), 0
    exact = n < 40 and 2**n <= patterns
    for signs in _all_signs(n) if exact else _random_signs(n, patterns, seed):
        sums = signs @ table
        above += (sums >= observed - slack).sum(axis=0)
        below += (sums <= observed + slack).sum(axis=0)
        tried += len(signs)
    extra = 0 if exact else 1
    return (above + extra) / (tried + extra), (below + extra) / (tried + extra)


def _all_signs(n: int) -> Iterator[Signs]:
    import numpy as np

    bits: NDArray[np.int64] = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    yield 1 - 2 * bits.astype(np.float32)


def _random_signs(n: int, patterns: int, seed: int) -> Iterator[Signs]:
    import numpy as np

    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    for start in range(0, patterns, rows):
        count = min(rows, patterns - start)
        bits = np.unpackbits(random.integers(0, 256, (count, (n + 7) // 8), dtype=np.uint8), axis=1, count=n)
        signs = bits.astype(np.float32)
        signs *= -2
        signs += 1
        yield signs


def _need(count: Any, what: str) -> None:
    if count < 2:
        raise ValueError(f"{count} {what}; expected at least 2")

"""Paired resampling: both sides are always drawn together, so that what they share cancels out.

Statistics here are functions of sums over samples. A mean is one, and so are perplexity (log-probabilities and words),
BLEU (n-gram counts) and F1 (hits and misses): all resamples of all candidates are then one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.stats.checks import check_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

#: Resamples for intervals: the Monte Carlo error of a 95 % bound is then about 4 % of a standard error.
RESAMPLES = 4000
#: Numbers held at once while resamples are drawn: 16 MB.
_CHUNK = 2_000_000

#: Maps sums (..., k) to scores (...).
Statistic: TypeAlias = "Callable[[Floats], Floats]"


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """The bootstrap distribution of a difference, and what BCa needs beside it."""

    estimate: float
    replicates: Floats
    """(resamples,)"""
    acceleration: float
    """How fast the standard error changes with the true value."""

    @property
    def stderr(self) -> float:
        """Standard deviation of the replicates."""
        return float(self.replicates.std(ddof=1))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the bias-corrected and accelerated interval.

        Source: Efron 1987, "Better bootstrap confidence intervals"; Efron and Tibshirani 1993, eq. 14.10.

        Raises:
            ValueError: The confidence is out of range.
        """
        import numpy as np
        from scipy.special import ndtr, ndtri

        check_confidence(confidence)
        below = (self.replicates < self.estimate).mean()
        equal = (self.replicates == self.estimate).mean()
        share = below + equal / 2
        if not 0 < share < 1:
            return float(self.replicates.min()), float(self.replicates.max())
        bias = float(ndtri(share))
        z = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
        levels = ndtr(bias + z / (1 - self.acceleration * z))
        low, high = np.quantile(self.replicates, levels)
        return float(low), float(high)


def bootstrap_means(differences: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> list[Bootstrap]:
    """Return the bootstrap of mean differences.

    Args:
        differences: Array (n, m): m comparisons of the same n samples; all are resampled alike.
        seed: Of the random numbers.
        resamples: How many.
    """
    import numpy as np

    table = np.asarray(differences, dtype=float)
    replicates = _resampled_sums(table, seed, resamples) / len(table)
    estimates = table.mean(axis=0)
    return [
        Bootstrap(float(estimates[j]), replicates[:, j], _acceleration(table[:, j] - estimates[j]))
        for j in range(table.shape[1])
    ]


@dataclass(frozen=True, slots=True, eq=False)
class ResampledScores:
    """A corpus statistic of several candidates, under the same resamples of the same samples."""

    estimates: Floats
    """(candidates,)"""
    replicates: Floats
    """(candidates, resamples)"""
    left_out: Floats
    """(candidates, n): the statistic without each sample in turn."""

    def difference(self, of: int, to: int) -> Bootstrap:
        """Return the bootstrap of the difference of candidate ``of`` to candidate ``to``, by their places."""
        jackknife = self.left_out[of] - self.left_out[to]
        return Bootstrap(
            float(self.estimates[of] - self.estimates[to]),
            self.replicates[of] - self.replicates[to],
            _acceleration(jackknife.mean() - jackknife),
        )

    def single(self, of: int) -> Bootstrap:
        """Return the bootstrap of one candidate's own score, by its place."""
        jackknife = self.left_out[of]
        return Bootstrap(float(self.estimates[of]), self.replicates[of], _acceleration(jackknife.mean() - jackknife))


def resample_scores(
    columns: ArrayLike, statistic: Statistic, seed: int = 0, resamples: int = RESAMPLES
) -> ResampledScores:
    """Resample a corpus statistic of several candidates, all by the same draws of samples.

    Source: Koehn 2004, "Statistical significance tests for machine translation evaluation".

    Args:
        columns: Array (candidates, n, k) of what the statistic sums over the n samples.
        statistic: Maps sums (..., k) to scores (...).
        seed: Of the random numbers.
        resamples: How many.
    """
    import numpy as np

    pieces = np.asarray(columns, dtype=float)
    count, n, width = pieces.shape
    flat = np.moveaxis(pieces, 0, 1).reshape(n, count * width)
    sums = _resampled_sums(flat, seed, resamples).reshape(resamples, count, width)
    totals = pieces.sum(axis=1)
    return ResampledScores(
        estimates=statistic(totals),
        replicates=np.moveaxis(statistic(sums), 0, 1),
        left_out=statistic(totals[:, None, :] - pieces),
    )


def swap_test(
    base: ArrayLike, candidate: ArrayLike, statistic: Statistic, seed: int = 0, patterns: int = 1999
) -> tuple[float, float]:
    """Return one-sided p-values of the paired permutation test of a corpus statistic (approximate randomization).

    Had nothing changed, it would not matter which side gave which of a sample's two answers: they are swapped at
    random.

    Source: Noreen 1989; for corpus scores, Riezler and Maxwell 2005, "On some pitfalls in automatic evaluation".

    Args:
        base: Array (n, k) of what the statistic sums, of the base.
        candidate: The same of the candidate.
        statistic: Maps sums (..., k) to scores (...).
        seed: Of the random swaps.
        patterns: How many are drawn; the observed one is counted among them.

    Returns:
        With the alternative "the candidate's score is higher", and "lower".
    """
    import numpy as np

    before, after = np.asarray(base, dtype=float), np.asarray(candidate, dtype=float)
    change, n = after - before, len(before)
    random = np.random.default_rng(seed)
    observed = float(statistic(after.sum(axis=0)) - statistic(before.sum(axis=0)))
    slack = 1e-9 * max(abs(observed), 1e-12)
    above = below = 1
    rows = max(1, _CHUNK // n)
    for start in range(0, patterns, rows):
        bits = np.unpackbits(
            random.integers(0, 256, (min(rows, patterns - start), (n + 7) // 8), dtype=np.uint8), axis=1, count=n
        )
        moved = bits.astype(float) @ change
        swapped = statistic(after.sum(axis=0) - moved) - statistic(before.sum(axis=0) + moved)
        above += int((swapped >= observed - slack).sum())
        below += int((swapped <= observed + slack).sum())
    return above / (patterns + 1), below / (patterns + 1)


def _resampled_sums(table: Floats, seed: int, resamples: int) -> Floats:
    import numpy as np

    sums = np.empty((resamples, table.shape[1]))
    done = 0
    for counts in _draws(len(table), resamples, seed):
        sums[done : done + len(counts)] = counts @ table
        done += len(counts)
    return sums


def _draws(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield, for chunks of resamples, how often each of ``n`` samples is drawn."""
    import numpy as np

    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = random.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(float)


def _acceleration(influence: Any) -> float:
    """Return BCa's acceleration from how each sample pulls the estimate (Efron and Tibshirani 1993, eq. 14.15)."""
    squares = float((influence**2).sum())
    return float((influence**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0

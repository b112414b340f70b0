"""One metric of one task, measured: means, counts of changes and spreads for every pair of candidates at once.

The matrices add up over tasks, so that a group whose mean weighs samples equally is the sum of its members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from tuneboard import stats
from tuneboard.compare.corpus import Scoring, scoring_of
from tuneboard.compare.margins import corpus_scale, is_share
from tuneboard.compare.scores import MetricScores, TaskScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Masks: TypeAlias = NDArray[np.bool_]


#: With fewer changed samples resampling sees little of how much more could change: a corpus statistic with a largest
#: score is given one more change each way then, as binary scores are.
_SPARSE = 5


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over the samples that both candidates of a pair scored; all arrays are (candidates, candidates)."""

    n: Floats
    """Samples."""
    above: Floats
    """Samples on which the row's candidate scores higher than the column's."""
    total: Floats
    """Sum of the row's scores."""
    squares: Floats
    """Sum of the row's squared scores."""
    products: Floats
    """Sum of the products of both scores."""

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.n + other.n,
            self.above + other.above,
            self.total + other.total,
            self.squares + other.squares,
            self.products + other.products,
        )

    def take(self, places: list[int]) -> Moments:
        """Return the sums of some of the candidates, in the order given."""
        import numpy as np

        grid = np.ix_(places, places)
        return Moments(self.n[grid], self.above[grid], self.total[grid], self.squares[grid], self.products[grid])

    def difference(self, of: int, to: int) -> stats.MeanDifference:
        """Return the mean of row - column with its paired standard error; at least 2 samples."""
        n = float(self.n[of, to])
        mean = float(self.total[of, to] - self.total[to, of]) / n
        squares = float(self.squares[of, to] + self.squares[to, of] - 2 * self.products[of, to])
        variance = max(squares / n - mean * mean, 0.0) / (n - 1)
        return stats.MeanDifference(mean, variance**0.5, n - 1)

    def single(self, of: int, to: int) -> stats.MeanDifference:
        """Return a candidate's own mean over the samples that it shares with another, with its standard error."""
        n = float(self.n[of, to])
        mean = float(self.total[of, to]) / n
        variance = max(float(self.squares[of, to]) / n - mean * mean, 0.0) / max(n - 1, 1)
        return stats.MeanDifference(mean, variance**0.5, max(n - 1, 1))


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of one task."""

    task: TaskScores
    metric: MetricScores
    scoring: Scoring
    seed: int

    @cached_property
    def mask(self) -> Masks:
        """(candidates, documents) Where there is a score."""
        import numpy as np

        values, columns = self.scoring.values, self.scoring.columns
        if values is not None:
            return ~np.isnan(values)
        assert columns is not None
        missing: Masks = np.any(np.isnan(columns), axis=-1)
        return ~missing

    @property
    def values(self) -> Floats:
        """(candidates, documents) Sample scores; only of means."""
        assert self.scoring.values is not None
        return self.scoring.values

    @property
    def is_mean(self) -> bool:
        """Whether the metric is a mean of sample scores."""
        return self.scoring.values is not None

    @cached_property
    def binary(self) -> bool:
        """Whether every sample scores 0 or 1."""
        return self.is_mean and bool(((self.values == 0) | (self.values == 1))[self.mask].all())

    @cached_property
    def unit(self) -> bool:
        """Whether every sample scores from 0 to 1."""
        import numpy as np

        return self.is_mean and bool(np.logical_and(self.values >= 0, self.values <= 1)[self.mask].all())

    @cached_property
    def percent(self) -> bool:
        """Whether every sample scores from 0 to 100, as a share of 100."""
        import numpy as np

        share = self.is_mean and not self.unit and is_share(self.metric.metric)
        return share and bool(np.logical_and(self.values >= 0, self.values <= 100)[self.mask].all())

    @cached_property
    def scored(self) -> int:
        """Documents that any candidate has a score of; a metric may leave out documents that it says nothing about."""
        return int(self.mask.any(axis=0).sum())

    @cached_property
    def moments(self) -> Moments:
        """Of all pairs of candidates; only of means."""
        import numpy as np

        known = self.mask.astype(float)
        values = np.where(self.mask, self.values, 0.0)
        if self.binary:
            above = values @ (known - values).T
        else:
            # Rows of NaN compare as false.
            above = np.array([[(one > other).sum() for other in self.values] for one in self.values], dtype=float)
        return Moments(known @ known.T, above, values @ known.T, values**2 @ known.T, values @ values.T)

    @cached_property
    def resampled(self) -> stats.ResampledScores:
        """Of the documents that every candidate scored; only of corpus statistics."""
        assert self.scoring.statistic is not None
        return stats.resample_scores(self.pieces, self.scoring.statistic, self.seed)

    @cached_property
    def pieces(self) -> Floats:
        """(candidates, pieces, columns) What a corpus statistic sums over documents, or over clusters of them."""
        import numpy as np

        columns = self.scoring.columns
        assert columns is not None
        columns = columns[:, self.shared]
        if self.task.clusters is None:
            return columns
        clusters = np.asarray(self.task.clusters)[self.shared]
        order = np.argsort(clusters, kind="stable")
        _, starts = np.unique(clusters[order], return_index=True)
        sums: Floats = np.add.reduceat(columns[:, order], starts, axis=1)
        return sums

    @cached_property
    def shared(self) -> Masks:
        """(documents,) Scored by every candidate that scored any: what corpus statistics are made of."""
        import numpy as np

        shared: Masks = np.logical_and.reduce(self.mask[self.mask.any(axis=1)], axis=0)
        return shared

    def pairs(self, slot: int, other: int = 0) -> int:
        """Return how many samples a candidate shares with the base, or with another candidate."""
        both = self.mask[slot] & self.mask[other]
        return int(both.sum() if self.is_mean or not both.any() else self.shared.sum())

    def enough(self, slot: int, other: int = 0) -> bool:
        """Tell whether two candidates share enough samples for an interval."""
        if self.task.clusters is not None:
            both = (self.mask[slot] & self.mask[other]).tolist()
            return len({name for name, known in zip(self.task.clusters, both, strict=True) if known}) > 1
        return self.pairs(slot, other) >= (1 if self.binary else 2)

    def estimate(self, of: int, to: int) -> stats.MeanDifference:
        """Return the difference of two candidates with a standard error that is never 0 for want of luck.

        Binary scores are given one more change each way, so that few samples without a change still leave a doubt.

        Source: Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based
        on paired data".
        """
        if not self.is_mean:
            return self.of_corpus(of, to)
        if self.task.clusters is not None:
            return self.clustered(of, to)
        if not self.binary:
            return self.moments.difference(of, to)
        n, up, down = (float(matrix[of, to]) for matrix in (self.moments.n, self.moments.above, self.moments.above.T))
        drift = (up - down) / (n + 2)
        stderr = (((up + down + 2) / (n + 2) - drift**2) / (n + 2)) ** 0.5
        return stats.MeanDifference((up - down) / n, stderr, max(1.0, n - 1))

    def of_corpus(self, of: int, to: int) -> stats.MeanDifference:
        """Return the difference of two corpus statistics with its bootstrap standard error; at least 2 samples."""
        boot, n = self.resampled.difference(of, to), self.pieces.shape[1]
        stderr, scale = boot.stderr * (n / (n - 1)) ** 0.5, corpus_scale(self.metric.metric)
        if scale is not None and self.changed(of, to) < _SPARSE:
            stderr = (stderr**2 + 2 * (scale / (n + 2)) ** 2) ** 0.5
        return stats.MeanDifference(boot.estimate, stderr, n - 1)

    def changed(self, of: int, to: int) -> int:
        """Return on how many samples, or clusters, two candidates add different pieces to a corpus statistic."""
        return int((self.pieces[of] != self.pieces[to]).any(axis=-1).sum())

    def clustered(self, of: int, to: int) -> stats.MeanDifference:
        """Return the difference of two candidates with clustered errors.

        Scores of 0 to 1, or of 0 to 100, that nowhere differ leave a doubt all the same: of one sample per cluster.
        """
        found = self._clustered(self.values[of] - self.values[to])
        if found.stderr or found.mean or not (self.unit or self.percent):
            return found
        count, whole = found.freedom + 1, 100.0 if self.percent else 1.0
        return stats.MeanDifference(0.0, whole * (2 / (count + 2) / (count + 2)) ** 0.5, found.freedom)

    def own(self, of: int, to: int) -> stats.MeanDifference:
        """Return a candidate's own score over the samples that it shares with another, with its standard error."""
        if not self.is_mean:
            boot, n = self.resampled.single(of), self.pieces.shape[1]
            # Labels that were all told right, or all told alike, say as little about the next ones.
            doubt = 0.0 if boot.stderr else 2**0.5 * (corpus_scale(self.metric.metric) or 0.0) / (n + 2)
            return stats.MeanDifference(boot.estimate, boot.stderr or doubt, max(1, n - 1))
        if self.task.clusters is not None:
            return self._clustered(self.values[of] + 0 * self.values[to])
        return self.moments.single(of, to)

    def noise_variance(self, slot: int) -> float | None:
        """Return the variance that evaluating again gives the difference to the base; None without any repeat.

        A side that was evaluated once is taken to vary as the other does.
        """
        repeated = self.metric.spread if self.is_mean else self.metric.scatter
        if repeated is None:
            return None
        # Of corpus metrics, one evaluation alone is compared.
        counts = self.task.repeats if self.is_mean else [1] * len(self.task.repeats)
        sides = [(float(repeated[place]), counts[place]) for place in (0, slot)]
        known = [spread for spread, _ in sides if spread == spread]
        if not known:
            return None
        return sum((spread if spread == spread else known[0]) / repeats for spread, repeats in sides)

    def _clustered(self, values: Floats) -> stats.MeanDifference:
        import numpy as np

        known = ~np.isnan(values)
        assert self.task.clusters is not None
        return stats.clustered_t(values[known], np.asarray(self.task.clusters)[known])


def measure(task: TaskScores, metric: MetricScores, seed: int) -> Measured | str:
    """Prepare a metric for comparison.

    Returns:
        What was measured, or why it cannot be compared.
    """
    scoring = scoring_of(metric)
    if isinstance(scoring, str):
        return scoring
    return Measured(task, metric, scoring, seed)

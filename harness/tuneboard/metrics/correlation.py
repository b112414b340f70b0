"""How well ratings follow labels that are numbers: Pearson's and Spearman's correlation, from -1 to 1.

Both are scores of the whole corpus. Pearson's is a function of sums; Spearman's is Pearson's of the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneboard.metrics.family import CorpusScore

if TYPE_CHECKING:
    from tuneboard.metrics.family import Floats


def moments(piece: Sequence[float]) -> tuple[float, ...]:
    """Return what is summed of a label and a rating: their number, themselves, their squares and their product."""
    label, rating = (float(one) for one in piece)
    return 1.0, label, rating, label * label, rating * rating, label * rating


def correlation(sums: Floats) -> Floats:
    """Return Pearson's correlation, (...), from sums, (..., 6), of ``moments``.

    0 where labels or ratings are all the same: such ratings order nothing.
    """
    import numpy as np

    n, label, rating, labels, ratings, products = (sums[..., i] for i in range(6))
    one, other = n * labels - label**2, n * ratings - rating**2
    # Rounding leaves a trace of a spread that is none.
    known = (one > 1e-12 * n * labels) & (other > 1e-12 * n * ratings)
    root = np.sqrt(np.where(known, one * other, 1.0))
    return np.divide(n * products - label * rating, root, out=np.zeros_like(n), where=known)


pearson = CorpusScore(correlation, moments)


def spearman(pieces: Sequence[Sequence[float]]) -> float:
    """Return Spearman's correlation of labels and ratings; ties share their mean rank."""
    return pearson(ranked(pieces))


def ranked(pieces: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return the ranks of labels and of ratings, each among its own."""
    from scipy.stats import rankdata

    labels, ratings = (rankdata(side).tolist() for side in zip(*pieces, strict=True))
    return list(zip(labels, ratings, strict=True))

"""Precision, recall, F1 and Matthews' correlation of labels, from counts.

Everything comes of three counts per label: how often it was *hit* (said and meant), *said* and *meant*. They are sums
over samples, so that scores of them can be resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well one label, or the labels on average, is told."""

    label: str
    """The label; ``macro``, ``micro`` or ``weighted`` for averages."""
    precision: float
    recall: float
    f1: float
    support: int
    """Samples that it was meant of."""
    said: int
    """Samples that it was said of."""


def confusion(gold: Sequence[int], said: Sequence[int], count: int) -> list[list[int]]:
    """Return how often each label (row) was answered by each (column).

    Args:
        gold: Place of the right label of each sample, 0 to ``count - 1``.
        said: Place of the answer, 0 to ``count``; ``count`` stands for an answer that is no label.
        count: Number of labels.

    Returns:
        ``count`` rows of ``count + 1`` columns; the last column counts answers that are no label.
    """
    matrix = [[0] * (count + 1) for _ in range(count)]
    for meant, answer in zip(gold, said, strict=True):
        matrix[meant][answer] += 1
    return matrix


def label_scores(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> list[LabelScore]:
    """Return precision, recall and F1 of each label, with 0 where nothing was said or meant, as scikit-learn has it.

    Source: van Rijsbergen 1979, "Information retrieval", chapter 7.

    Args:
        matrix: From ``confusion``.
        labels: Their names, in the order of the rows.
    """
    out = []
    for place, label in enumerate(labels):
        hit, meant, said = matrix[place][place], sum(matrix[place]), sum(row[place] for row in matrix)
        out.append(LabelScore(label, *_rates(hit, said, meant), meant, said))
    return out


def average_scores(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> list[LabelScore]:
    """Return the averages of ``label_scores``: ``macro``, ``micro`` and ``weighted``.

    Macro weighs labels equally, of those that were said or meant; weighted, by how often they were meant; micro counts
    hits over all labels. Where every answer is a label, micro F1 is accuracy.

    Source: Sokolova and Lapalme 2009, "A systematic analysis of performance measures for classification tasks".

    Args:
        matrix: From ``confusion``.
        labels: Their names, in the order of the rows.
    """
    scores = label_scores(matrix, labels)
    met = [score for score in scores if score.support or score.said]
    total, said = sum(score.support for score in scores), sum(score.said for score in scores)
    hits = sum(matrix[place][place] for place in range(len(labels)))
    out = []
    for name, weights in (("macro", [1] * len(met)), ("weighted", [score.support for score in met])):
        whole = sum(weights) or 1
        precision, recall, f1 = (
            sum(weight * value for weight, value in zip(weights, values, strict=True)) / whole
            for values in ([one.precision for one in met], [one.recall for one in met], [one.f1 for one in met])
        )
        out.append(LabelScore(name, precision, recall, f1, total, said))
    out.insert(1, LabelScore("micro", *_rates(hits, said, total), total, said))
    return out


def macro_f1(sums: Floats) -> Floats:
    """Return the mean F1 of the labels that were said or meant, as scikit-learn's ``f1_score(average="macro")``.

    Args:
        sums: (..., 3 k) how often each of k labels was hit, then said, then meant.
    """
    import numpy as np

    hit, said, meant = np.split(sums, 3, axis=-1)
    both = said + meant
    f1 = np.divide(2 * hit, both, out=np.zeros_like(hit), where=both > 0)
    met = (both > 0).sum(axis=-1)
    mean: Floats = np.divide(f1.sum(axis=-1), met, out=np.zeros(met.shape), where=met > 0)
    return mean


def matthews(sums: Floats) -> Floats:
    """Return Matthews' correlation of any number of labels, -1 to 1; 0 where only one label was said, or meant.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", eq. 8, in the
    form of sums that scikit-learn's ``matthews_corrcoef`` uses.

    Args:
        sums: (..., 3 k) how often each of k labels was hit, then said, then meant.
    """
    import numpy as np

    hit, said, meant = np.split(sums, 3, axis=-1)
    n = meant.sum(axis=-1)
    covariance = hit.sum(axis=-1) * n - (said * meant).sum(axis=-1)
    spread = (n**2 - (said**2).sum(axis=-1)) * (n**2 - (meant**2).sum(axis=-1))
    found: Floats = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
    return found


def label_counts(gold: Sequence[int], said: Sequence[int], count: int) -> Floats:
    """Return of each sample what ``macro_f1`` and ``matthews`` sum.

    Args:
        gold: Place of the right label of each sample, 0 to ``count - 1``.
        said: Place of the answer, 0 to ``count``; ``count`` stands for an answer that is no label.
        count: Number of labels.

    Returns:
        Array (samples, 3 ``count``), or (samples, 3 (``count`` + 1)) where an answer is no label.
    """
    import numpy as np

    width = count + (count in said)
    rows = np.arange(len(gold))
    out = np.zeros((len(gold), 3 * width))
    out[rows, np.asarray(gold)] = np.asarray(gold) == np.asarray(said)
    out[rows, width + np.asarray(said)] = 1.0
    out[rows, 2 * width + np.asarray(gold)] = 1.0
    return out


def _rates(hit: int, said: int, meant: int) -> tuple[float, float, float]:
    precision, recall = hit / said if said else 0.0, hit / meant if meant else 0.0
    return precision, recall, 2 * hit / (said + meant) if said + meant else 0.0

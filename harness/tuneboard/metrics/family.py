"""What a metric of the family is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """Makes one score of what all samples keep, by way of sums, so that it can be resampled fast; lm-eval calls it."""

    statistic: Callable[[Floats], Floats]
    """Maps sums, (..., k), to scores, (...)."""
    row: Callable[[Any], Sequence[float]] = tuple
    """Maps what one sample keeps to the k numbers that are summed."""

    def columns(self, pieces: Sequence[Any]) -> Floats:
        """Return what is summed, (samples, k)."""
        import numpy as np

        return np.array([self.row(piece) for piece in pieces], dtype=float)

    def __call__(self, pieces: Sequence[Any]) -> float:
        """Return the score of a corpus."""
        return float(self.statistic(self.columns(pieces).sum(axis=0)))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what a sample scores, and how the scores of samples become one number."""

    name: str
    higher_is_better: bool | None
    """None where it tells something about answers that is neither good nor bad."""
    score: Callable[..., Any]
    """What one answer scores: a number, or what ``corpus`` needs of it. Of answers: ``(references, answer)``, texts; of
    labels: ``(gold, said, labels)``, two places in a list and its length."""
    corpus: CorpusScore | None = None
    """None where the metric is the mean of its samples' scores."""
    of: Literal["answers", "labels"] = "answers"
    combine: Callable[[Sequence[float]], float] | None = None
    """Makes one score of several answers to one prompt; None takes their mean, or their sum where there is a corpus."""
    signature: Callable[[Sequence[Sequence[str]]], str] | None = None
    """Says how the score was computed, for others to compute the same; takes the references of all samples."""

    def of_answers(self, references: Sequence[str], answers: Sequence[str]) -> Any:
        """Score the answers to one prompt.

        Args:
            references: Right answers, at least one.
            answers: One, or as many as were drawn.
        """
        scores = [self.score(references, answer) for answer in answers]
        if self.combine is not None:
            return self.combine(scores)
        if self.corpus is not None:
            return [math.fsum(column) for column in zip(*scores, strict=True)]
        return math.fsum(scores) / len(scores)

"""How long answers are against their references, and how many are empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneboard.metrics.family import CorpusScore, Metric

if TYPE_CHECKING:
    from tuneboard.metrics.family import Floats


def lengths(references: Sequence[str], answer: str) -> tuple[float, float]:
    """Return the characters of an answer and of the reference that is closest in length; blanks around them apart."""
    said = len(answer.strip())
    return float(said), float(min((len(one.strip()) for one in references), key=lambda meant: abs(meant - said)))


def length_ratio(sums: Floats) -> Floats:
    """Return the length of all answers over that of all references, from sums, (..., 2), of both."""
    import numpy as np

    return np.divide(sums[..., 0], sums[..., 1], out=np.full_like(sums[..., 0], np.nan), where=sums[..., 1] > 0)


def empty(references: Sequence[str], answer: str) -> float:
    """Return 1 for an answer without text, else 0."""
    return float(not answer.strip())


METRICS = (Metric("length_ratio", None, lengths, CorpusScore(length_ratio)), Metric("empty", False, empty))

"""Scores STS-B: a rating out of the likelihoods of six grades, and correlations of ratings with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneboard.metrics import correlation

#: Label and rating of one pair of sentences.
Rated = tuple[float, float]


def ratings(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Rated]:
    """Rate a pair by the mean grade under the likelihoods of the grades 0, 1, 2, ..."""
    logprobs = np.array([logprob for logprob, _ in results], dtype=float)
    weights = np.exp(logprobs - logprobs.max())
    pair = float(doc["label"]), float(weights @ np.arange(len(weights)) / weights.sum())
    return {"pearson": pair, "spearman": pair}


def pearson(items: Sequence[Rated]) -> float:
    """Return Pearson's correlation of labels and ratings."""
    return correlation.pearson(items)


def spearman(items: Sequence[Rated]) -> float:
    """Return Spearman's correlation of labels and ratings."""
    return correlation.spearman(items)

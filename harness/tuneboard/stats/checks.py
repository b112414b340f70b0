"""What several statistics check about their arguments."""

from __future__ import annotations

from statistics import NormalDist


def check_confidence(confidence: float) -> None:
    """Refuse what is no coverage; raises ``ValueError``."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}; expected a number between 0 and 1")


def normal_quantile(confidence: float) -> float:
    """Return the z of a two-sided normal interval, such as 1.96 for 0.95; raises ``ValueError`` out of range."""
    check_confidence(confidence)
    return NormalDist().inv_cdf((1 + confidence) / 2)

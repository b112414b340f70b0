"""Perplexities of texts from sums of their log-probabilities; lower is better.

lm-eval keeps, of each text, its log-probability and its length in words or bytes. A perplexity is a score of the whole
corpus: exp(-sum of log-probabilities / sum of lengths); bits per byte are its logarithm to base 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneboard.metrics.family import Floats


def perplexity(sums: Floats) -> Floats:
    """Return perplexities, (...), from sums, (..., 2), of natural log-probabilities and lengths."""
    import numpy as np

    return np.exp(-sums[..., 0] / sums[..., 1])


def bits(sums: Floats) -> Floats:
    """Return bits per unit of length, (...), from sums, (..., 2), of natural log-probabilities and lengths."""
    return -sums[..., 0] / sums[..., 1] / math.log(2)


#: lm-eval's metrics of whole texts, with what makes them of sums.
OF_TEXTS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"word_perplexity": perplexity, "byte_perplexity": perplexity, "bits_per_byte": bits}
)

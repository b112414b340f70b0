"""BLEU, and how much of it the brevity penalty takes.

Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation"; computed by sacrebleu with its
defaults (Post 2018, "A call for clarity in reporting BLEU scores"), from 0 to 100. It comes of sums over the corpus, of
lengths and of n-grams (1 to 4) that the references have too, so that a mean of sentence scores is something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneboard.metrics._sacrebleu import counts_of, score_of, signature_of
from tuneboard.metrics.family import CorpusScore, Metric

if TYPE_CHECKING:
    from tuneboard.metrics.family import Floats


def brevity_penalty(sums: Floats) -> Floats:
    """Return the factor by which BLEU is lowered for answers that are too short (section 2.2.2 of the paper).

    Args:
        sums: (..., 2 or more) words of the answers, words of the references that are closest in length.
    """
    import numpy as np

    said, meant = sums[..., 0], sums[..., 1]
    shortfall = np.divide(meant, said, out=np.full_like(meant, np.inf), where=said > 0)
    return np.where(said >= meant, 1.0, np.exp(1 - shortfall))


_counts = counts_of("BLEU")

METRICS = (
    Metric("bleu", True, _counts, CorpusScore(score_of("BLEU")), signature=signature_of("BLEU")),
    Metric(
        "brevity_penalty", True, lambda references, said: _counts(references, said)[:2], CorpusScore(brevity_penalty)
    ),
)

"""chrF (Popović 2015) and chrF++ (Popović 2017): F-measure of character n-grams, and of words too; from 0 to 100.

Computed by sacrebleu with its defaults: characters up to order 6, for chrF++ words up to order 2, recall counts twice.
"""

from __future__ import annotations

from tuneboard.metrics._sacrebleu import counts_of, score_of, signature_of
from tuneboard.metrics.family import CorpusScore, Metric

METRICS = (
    Metric("chrf", True, counts_of("CHRF"), CorpusScore(score_of("CHRF")), signature=signature_of("CHRF")),
    Metric(
        "chrf++",
        True,
        counts_of("CHRF", word_order=2),
        CorpusScore(score_of("CHRF", word_order=2)),
        signature=signature_of("CHRF", word_order=2),
    ),
)

"""TER (Snover et al. 2006): edits and shifts of words per word of the reference, times 100; lower is better.

Computed by sacrebleu with its defaults.
"""

from __future__ import annotations

from tuneboard.metrics._sacrebleu import counts_of, score_of, signature_of
from tuneboard.metrics.family import CorpusScore, Metric

METRICS = (Metric("ter", False, counts_of("TER"), CorpusScore(score_of("TER")), signature=signature_of("TER")),)

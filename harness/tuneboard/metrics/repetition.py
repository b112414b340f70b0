"""How much answers repeat themselves: loops of a model that earn n-gram scores without saying anything."""

from __future__ import annotations

from collections.abc import Sequence

from tuneboard.metrics.family import Metric

#: Length of the sequences that are looked for again.
_ORDER = 3
#: Texts without blanks are read character by character from this length on; shorter ones are single words and numbers.
_SHORTEST_WITHOUT_BLANKS = 20
#: Share of repeated sequences from which an answer counts as repetitive, if its references repeat half as much or less.
#: Of 22,451 references (GSM8K, WMT22, HellaSwag, TruthfulQA) and stories (TinyStories), the most repetitive has 0.28.
REPETITIVE = 0.3


def repetition(text: str) -> float:
    """Return the share of three-word sequences that stand in the text before, from 0 to 1; 0 for shorter texts.

    Source: Welleck et al. 2020, "Neural text generation with unlikelihood training" (arXiv:1908.04319), seq-rep-n.
    """
    words = text.lower().split()
    units = list(text.strip()) if len(words) == 1 and len(words[0]) >= _SHORTEST_WITHOUT_BLANKS else words
    sequences = [tuple(units[i : i + _ORDER]) for i in range(len(units) - _ORDER + 1)]
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def repetitive(references: Sequence[str], answer: str) -> float:
    """Return 1 for an answer that repeats itself, and far more than its references do; else 0."""
    share = repetition(answer)
    return float(share >= REPETITIVE and share >= 2 * max(map(repetition, references)))


METRICS = (
    Metric("repetition", False, lambda references, answer: repetition(answer)),
    Metric("repetitive", False, repetitive),
)

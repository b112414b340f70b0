"""Scores summaries by ROUGE (Lin 2004) as papers on summarization do: F-measures of stemmed words, 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

_KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
#: Columns that a reference may stand in.
_REFERENCES = ("summary", "highlights")


def rouge(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a summary; of ``rougeLsum``, each line is a sentence."""
    reference = next(doc[column] for column in _REFERENCES if column in doc)
    scores = _scorer().score(reference, results[0].strip())
    return {kind: float(scores[kind].fmeasure) for kind in _KINDS}


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(list(_KINDS), use_stemmer=True)

"""ROUGE (Lin 2004, "ROUGE: a package for automatic evaluation of summaries"), from 0 to 1.

F-measures of rouge-score with its defaults (no stemming); the best of several references; a mean over samples.
``rougeLsum`` takes lines for sentences, as rouge-score does: put each sentence of a summary on a line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tuneboard.metrics.family import Metric


def _score_of(kind: str) -> Callable[[Sequence[str], str], float]:
    def score(references: Sequence[str], answer: str) -> float:
        scorer = _scorer(kind)
        return max(float(scorer.score(one, answer)[kind].fmeasure) for one in references)

    return score


def _signature(references: Sequence[Sequence[str]]) -> str:
    from importlib.metadata import version

    return f"fmeasure|stemmer:no|version:rouge-score {version('rouge-score')}"


@cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind])


METRICS = tuple(
    Metric(kind, True, _score_of(kind), signature=_signature) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")
)

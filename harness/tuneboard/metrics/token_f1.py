"""Overlap of words between an answer and a reference, as SQuAD scores it; a mean over samples, from 0 to 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuneboard.metrics.exact_match import normalized_answer
from tuneboard.metrics.family import Metric


def token_f1(references: Sequence[str], answer: str) -> float:
    """Return the F1 of an answer's words, each counted as often as it stands; the best of several references.

    Where one side has no words left, only an answer without words to a reference without words is right.

    Source: the official scorers of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016 and 2018), ``compute_f1``.
    """
    return max(_f1(normalized_answer(one).split(), normalized_answer(answer).split()) for one in references)


def _f1(meant: list[str], said: list[str]) -> float:
    if not meant or not said:
        return float(meant == said)
    common = (Counter(meant) & Counter(said)).total()
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(meant)
    return 2 * precision * recall / (precision + recall)


METRICS = (Metric("token_f1", True, token_f1),)

"""sacrebleu's counts per sample, and its scores of their sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneboard.metrics.family import Floats


def counts_of(kind: str, **settings: Any) -> Callable[[Sequence[str], str], list[float]]:
    """Return what counts one answer against its references, as ``kind`` (BLEU, CHRF, TER) needs it."""

    def count(references: Sequence[str], answer: str) -> list[float]:
        scorer = _scorer(kind, tuple(settings.items()))
        return [float(x) for x in scorer._extract_corpus_statistics([answer], [[one] for one in references])[0]]

    return count


def score_of(kind: str, **settings: Any) -> Callable[[Floats], Floats]:
    """Return what makes scores, (...), of sums of counts, (..., k)."""

    def score(sums: Floats) -> Floats:
        import numpy as np

        scorer = _scorer(kind, tuple(settings.items()))
        flat = sums.reshape(-1, sums.shape[-1])
        scores = [scorer._compute_score_from_stats(one.tolist()).score for one in flat]
        return np.array(scores).reshape(sums.shape[:-1])

    return score


def signature_of(kind: str, **settings: Any) -> Callable[[Sequence[Sequence[str]]], str]:
    """Return what writes sacrebleu's signature for the references of all samples."""

    def signature(references: Sequence[Sequence[str]]) -> str:
        from sacrebleu import metrics

        scorer = getattr(metrics, kind)(**settings)
        numbers = {len(one) for one in references}
        scorer.num_refs = numbers.pop() if len(numbers) == 1 else -1  # sacrebleu's sign for a varying number
        return str(scorer.get_signature())

    return signature


@cache
def _scorer(kind: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, kind)(**dict(settings))

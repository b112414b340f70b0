"""How lm-eval makes one number of a task's samples, in a form that can be resampled.

Most metrics are means of sample scores. The others here are functions of sums over samples: each sample contributes a
row of columns, and the sums of the columns give the score. Whichever form a metric's name suggests counts only if it
gives the number that was stored; otherwise the metric is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.compare.scores import MetricScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """A metric as a mean of sample scores, or as a function of sums."""

    values: Floats | None = None
    """(candidates, documents) Sample scores whose mean is the metric; NaN where there is none."""
    columns: Floats | None = None
    """(candidates, documents, k) What is summed instead; NaN where a sample failed."""
    statistic: Callable[[Floats], Floats] | None = None
    """Maps sums (..., k) to scores (...)."""


def scoring_of(metric: MetricScores) -> Scoring | str:
    """Find how a metric is made of its samples.

    Returns:
        The form that gives the stored numbers, or why none does.
    """
    named = [_FORMS[name] for name in (metric.aggregation, metric.metric) if name is not None and name in _FORMS]
    for make in [_mean, *named]:
        try:
            found = make(metric)
        except (TypeError, ValueError, IndexError, KeyError, ImportError):
            continue
        if found is not None and _gives(found, metric.reported):
            # Repeats are averaged sample by sample where the metric is a mean of samples, and only there.
            return Scoring(values=metric.averaged) if make is _mean else found
    made = f" (its aggregation is '{metric.aggregation}')" if metric.aggregation else ""
    return f"how {metric.metric} is made of its samples is not known{made}, so that it cannot be paired"


def _gives(scoring: Scoring, reported: Sequence[float]) -> bool:
    import numpy as np

    with np.errstate(all="ignore"):
        if scoring.values is not None:
            known = ~np.isnan(scoring.values)
            found = np.nansum(scoring.values, axis=1) / known.sum(axis=1)
        else:
            assert scoring.columns is not None and scoring.statistic is not None
            known = ~np.isnan(scoring.columns[..., 0])
            found = scoring.statistic(np.nansum(scoring.columns, axis=1))
    any_known = known.any(axis=1)
    return bool(np.allclose(found[any_known], np.asarray(reported)[any_known], rtol=1e-6, atol=1e-9))


def _mean(metric: MetricScores) -> Scoring | None:
    return None if metric.details else Scoring(values=metric.values)


def _perplexity(metric: MetricScores) -> Scoring:
    """exp(-mean log-probability)."""
    import numpy as np

    columns = np.stack([metric.values, np.where(np.isnan(metric.values), np.nan, 1.0)], axis=-1)
    return Scoring(columns=columns, statistic=lambda sums: np.exp(-sums[..., 0] / sums[..., 1]))


def _weighted_perplexity(metric: MetricScores) -> Scoring:
    """exp(-log-probability per word or byte)."""
    import numpy as np

    return Scoring(columns=_table(metric, 2, _pair), statistic=lambda sums: np.exp(-sums[..., 0] / sums[..., 1]))


def _bits_per_byte(metric: MetricScores) -> Scoring:
    return Scoring(columns=_table(metric, 2, _pair), statistic=lambda sums: -sums[..., 0] / sums[..., 1] / math.log(2))


def _f1(metric: MetricScores) -> Scoring:
    """F1 of label 1, from hits, false alarms and misses."""
    import numpy as np

    def statistic(sums: Floats) -> Floats:
        hits, wrong = sums[..., 0], sums[..., 1] + sums[..., 2]
        return np.divide(2 * hits, 2 * hits + wrong, out=np.zeros_like(hits), where=2 * hits + wrong > 0)

    def row(piece: Any) -> tuple[float, ...]:
        gold, said = _labels(piece)
        return gold * said, (1 - gold) * said, gold * (1 - said)

    return Scoring(columns=_table(metric, 3, row), statistic=statistic)


def _matthews(metric: MetricScores) -> Scoring:
    """Matthews' correlation of two labels, from the four counts."""
    import numpy as np

    def statistic(sums: Floats) -> Floats:
        both, alarm, miss, none = (sums[..., i] for i in range(4))
        bottom = np.sqrt((both + alarm) * (both + miss) * (none + alarm) * (none + miss))
        return np.divide(both * none - alarm * miss, bottom, out=np.zeros_like(both), where=bottom > 0)

    def row(piece: Any) -> tuple[float, ...]:
        gold, said = _labels(piece)
        return gold * said, (1 - gold) * said, gold * (1 - said), (1 - gold) * (1 - said)

    return Scoring(columns=_table(metric, 4, row), statistic=statistic)


def _brier(metric: MetricScores) -> Scoring:
    """Squared distance of the probabilities to the right answer, a mean over samples."""

    def row(piece: Any) -> tuple[float]:
        gold, probabilities = piece
        return (sum((p - (i == gold)) ** 2 for i, p in enumerate(probabilities)),)

    return Scoring(values=_table(metric, 1, row)[..., 0])


def _sacrebleu(name: str, **settings: Any) -> Callable[[MetricScores], Scoring]:
    """BLEU, chrF and TER from sacrebleu's own counts per sample."""

    def make(metric: MetricScores) -> Scoring:
        import numpy as np
        from sacrebleu import metrics

        scorer = getattr(metrics, name)(**settings)

        def row(piece: Any) -> Sequence[float]:
            references, said = _texts(piece)
            return [float(x) for x in scorer._extract_corpus_statistics([said], [[one] for one in references])[0]]

        def statistic(sums: Floats) -> Floats:
            flat = sums.reshape(-1, sums.shape[-1])
            scores = [scorer._compute_score_from_stats(one.tolist()).score for one in flat]
            return np.array(scores).reshape(sums.shape[:-1])

        width = len(row(next(piece for piece in metric.details[0] if piece is not None)))
        return Scoring(columns=_table(metric, width, row), statistic=statistic)

    return make


def _rouge(name: str) -> Callable[[MetricScores], Scoring]:
    """The F-measure of ROUGE (Lin 2004), a mean over samples; the best of several references."""

    def make(metric: MetricScores) -> Scoring:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([name])

        def row(piece: Any) -> tuple[float]:
            references, said = _texts(piece)
            return (max(scorer.score(one, said)[name].fmeasure for one in references),)

        values = _table(metric, 1, row)[..., 0]
        # Some tasks report per cent.
        return Scoring(values=values * 100 if max(metric.reported) > 1 else values)

    return make


#: By lm-eval's name of the aggregation, or of the metric where that is not given.
_FORMS: Mapping[str, Callable[[MetricScores], Scoring]] = MappingProxyType(
    {
        "perplexity": _perplexity,
        "weighted_perplexity": _weighted_perplexity,
        "word_perplexity": _weighted_perplexity,
        "byte_perplexity": _weighted_perplexity,
        "bits_per_byte": _bits_per_byte,
        "f1": _f1,
        "matthews_corrcoef": _matthews,
        "mcc": _matthews,
        "brier_score": _brier,
        "bleu": _sacrebleu("BLEU"),
        "chrf": _sacrebleu("CHRF"),
        "chrf++": _sacrebleu("CHRF", word_order=2),
        "ter": _sacrebleu("TER"),
        "rouge1": _rouge("rouge1"),
        "rouge2": _rouge("rouge2"),
        "rougeL": _rouge("rougeL"),
        "rougeLsum": _rouge("rougeLsum"),
    }
)


def _table(metric: MetricScores, width: int, row: Callable[[Any], Sequence[float]]) -> Floats:
    """Return (candidates, documents, width); NaN where a sample failed."""
    import numpy as np

    table = np.full((len(metric.details), len(metric.details[0]), width), np.nan)
    for i, pieces in enumerate(metric.details):
        for j, piece in enumerate(pieces):
            if piece is not None:
                table[i, j] = row(piece)
    return table


def _pair(piece: Any) -> tuple[float, float]:
    first, second = piece
    return float(first), float(second)


def _labels(piece: Any) -> tuple[int, int]:
    gold, said = (int(one) for one in piece)
    if {gold, said} - {0, 1}:
        raise ValueError(f"labels {gold} and {said}; expected 0 or 1")
    return gold, said


def _texts(piece: Any) -> tuple[list[str], str]:
    """Return references and prediction of one sample, as lm-eval's ``_sacreformat`` reads them."""
    references, said = piece
    said = said[0] if isinstance(said, list) else said
    return list(references) if isinstance(references, list) else [references], str(said)

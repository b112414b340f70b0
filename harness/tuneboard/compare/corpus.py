"""How lm-eval makes one number of a task's samples, in a form that can be resampled.

Most metrics are means of sample scores. The others here are functions of sums over samples: each sample contributes a
row of columns, and the sums of the columns give the score. Whichever form a metric's name suggests counts only if it
gives the number that was stored; otherwise the metric is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard import stats
from tuneboard.compare.scores import MetricScores
from tuneboard.metrics import CorpusScore, find_metric, find_metrics
from tuneboard.metrics.correlation import pearson, ranked
from tuneboard.metrics.labels import label_row
from tuneboard.metrics.perplexity import OF_TEXTS, perplexity

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
    for make in [_mean, *named, _of_family]:
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
    return Scoring(columns=columns, statistic=perplexity)


def _of_text(statistic: Callable[[Floats], Floats]) -> Callable[[MetricScores], Scoring]:
    """What lm-eval makes of log-probabilities and lengths of whole texts."""
    return lambda metric: Scoring(columns=_table(metric, 2, _pair), statistic=statistic)


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
    """Matthews' correlation of the labels that lm-eval keeps, however many there are."""
    pieces = [_pair(piece) for each in metric.details for piece in each if piece is not None]
    count = 1 + max(int(label) for pair in pieces for label in pair)
    return Scoring(columns=_table(metric, 3 * count, lambda pair: label_row((*pair, count))), statistic=stats.matthews)


def _f1_of_three(metric: MetricScores) -> Scoring:
    """The mean F1 of three labels, one that nobody says or means among them: lm-eval's score of CommitmentBank."""
    import numpy as np

    def statistic(sums: Floats) -> Floats:
        hit, said, meant = np.split(sums, 3, axis=-1)
        f1 = np.divide(2 * hit, said + meant, out=np.zeros_like(hit), where=said + meant > 0)
        return np.asarray(f1.mean(axis=-1))

    return Scoring(columns=_table(metric, 9, lambda piece: label_row((*_pair(piece), 3))), statistic=statistic)


def _pearson(metric: MetricScores) -> Scoring:
    return _corpus(metric, pearson, lambda piece: piece)


def _spearman(metric: MetricScores) -> Scoring:
    """Pearson's correlation of ranks; a resample keeps those of all samples."""
    details = []
    for pieces in metric.details:
        known = [i for i, piece in enumerate(pieces) if piece is not None]
        ranks = dict(zip(known, ranked([pieces[i] for i in known]) if known else (), strict=True))
        details.append(tuple(ranks.get(i) for i in range(len(pieces))))
    return _pearson(replace(metric, details=tuple(details)))


def _brier(metric: MetricScores) -> Scoring:
    """Squared distance of the probabilities to the right answer, a mean over samples."""

    def row(piece: Any) -> tuple[float]:
        gold, probabilities = piece
        return (sum((p - (i == gold)) ** 2 for i, p in enumerate(probabilities)),)

    return Scoring(values=_table(metric, 1, row)[..., 0])


def _of_texts(name: str) -> Callable[[MetricScores], Scoring]:
    """A metric of the family, from the references and the prediction that lm-eval keeps of each sample."""

    def make(metric: MetricScores) -> Scoring:
        (own,) = find_metrics([name])
        if own.corpus is not None:
            return _corpus(metric, own.corpus, lambda piece: own.score(*_texts(piece)))
        values = _table(metric, 1, lambda piece: (own.score(*_texts(piece)),))[..., 0]
        # Some tasks report per cent.
        return Scoring(values=values * 100 if max(metric.reported) > 1 else values)

    return make


def _of_family(metric: MetricScores) -> Scoring | None:
    """A metric of the family, from what it keeps of each sample itself."""
    own = find_metric(metric.metric)
    return None if own is None or own.corpus is None else _corpus(metric, own.corpus, lambda piece: piece)


def _corpus(metric: MetricScores, corpus: CorpusScore, piece_of: Callable[[Any], Any]) -> Scoring:
    def row(piece: Any) -> Sequence[float]:
        return corpus.row(piece_of(piece))

    width = len(row(next(piece for each in metric.details for piece in each if piece is not None)))
    return Scoring(columns=_table(metric, width, row), statistic=corpus.statistic)


#: Metrics of which lm-eval keeps the texts.
_OF_TEXTS = ("bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum")
#: By lm-eval's name of the aggregation, or of the metric where that is not given.
_FORMS: Mapping[str, Callable[[MetricScores], Scoring]] = MappingProxyType(
    {
        "perplexity": _perplexity,
        "weighted_perplexity": _of_text(perplexity),
        **{name: _of_text(statistic) for name, statistic in OF_TEXTS.items()},
        "f1": _f1,
        "matthews_corrcoef": _matthews,
        "mcc": _matthews,
        "cb_multi_fi": _f1_of_three,
        "pearson": _pearson,
        "spearman": _spearman,
        "brier_score": _brier,
        **{name: _of_texts(name) for name in _OF_TEXTS},
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
    if not isinstance(references, str | list):
        raise TypeError(f"{type(references).__name__} in place of references")
    said = said[0] if isinstance(said, list) else said
    return list(references) if isinstance(references, list) else [references], str(said)

"""The largest difference that does not matter, where nobody has named one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tuneboard import stats

#: What each benchmark's size supports: the decline that it can rule out with 80 % power.
OF_TASK: Mapping[str, float] = MappingProxyType(
    {
        "mmlu": 0.007,
        "hellaswag": 0.008,
        "gsm8k": 0.023,
        "humaneval": 0.064,
        "truthfulqa_mc1": 0.03,
        "truthfulqa_mc2": 0.03,
        "truthfulqa_gen": 0.03,
    }
)

#: On a metric of 0 to 1, a margin from this on would let anything pass.
TOO_LARGE = 0.5
_LARGEST = 0.25
#: These count in points of a hundred; what follows an underscore (``bleu_max``) changes nothing about that.
_POINTS = frozenset({"bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum"})
_ONE_POINT = 1.0
#: Shares of samples or of words, which some tasks tell in per cent.
_SHARES = frozenset({"em", "exact", "exact_match", "f1"})
#: Scores of a corpus that end at 1.
_CORPUS_OF_ONE = frozenset({"f1", "f1_macro", "matthews_corrcoef", "mcc", "pearson", "spearman"})
#: Of the base's score, for perplexities and other scores without a scale of their own.
_RELATIVE = 0.01


def default_margin(task: str, metric: str, n_docs: int, unit: bool, base: float, percent: bool = False) -> float | None:
    """Return the margin of a metric on its own scale.

    Args:
        task: Name of the task or group.
        metric: Name of the metric.
        n_docs: Documents of the whole task: the margin belongs to the benchmark, not to the part that was asked.
        unit: Whether samples score from 0 to 1.
        base: Score of the base.
        percent: Whether samples score from 0 to 100, as a share of 100.

    Returns:
        None where the base scores 0 on a metric without a scale.
    """
    supported = min(_LARGEST, stats.supported_margin(max(1, n_docs)))
    if percent:
        return 100 * supported
    if unit and metric in _POINTS:
        return _ONE_POINT / 100
    if unit:
        return OF_TASK.get(task) or supported
    if metric in _CORPUS_OF_ONE:
        return supported
    if _in_points(metric):
        return _ONE_POINT
    return _RELATIVE * abs(base) or None


def corpus_scale(metric: str) -> float | None:
    """Return the largest score of a metric of the whole corpus; None where it has none, as perplexities."""
    if metric in _CORPUS_OF_ONE:
        return 1.0
    return 100.0 if _in_points(metric) else None


def _in_points(metric: str) -> bool:
    return metric.partition("_")[0] in _POINTS


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share of samples or of words, on whichever scale."""
    return metric.removeprefix("HasAns_").removeprefix("NoAns_") in _SHARES

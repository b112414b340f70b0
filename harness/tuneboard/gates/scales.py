"""Which metrics go from 0 to 1, as far as a name tells; a margin of 0.5 or more on these would let anything pass."""

from __future__ import annotations

import re

from tuneboard.headline import headline_metric
from tuneboard.records import MetricValue

_UNIT = re.compile(
    r"(acc|acc_\w+|exact_match|em|f1|f1_macro|mcc|pearson|spearman|pass@\d+|pass_at_\d+|mc[12]|precision|recall|\w+_acc)"
)
#: Tasks that tell shares in per cent.
_IN_PER_CENT = frozenset({"squad", "squadv2"})
#: Metrics of tasks that nobody has evaluated yet, in the order in which they would stand for the task.
_USUAL = [MetricValue(name, "", 0.0, None, None, None) for name in ("acc", "acc_norm", "exact_match", "pass@1")]


def is_unit(metric: str, task: str) -> bool:
    """Tell whether a metric of a task is known to go up to 1."""
    return task not in _IN_PER_CENT and _UNIT.fullmatch(metric.partition(",")[0]) is not None


def usual_metric(task: str) -> str:
    """Return the metric that would stand for a task if it had the usual ones."""
    values = [*_USUAL, MetricValue("bleu_acc", "", 0.0, None, None, None)]
    found = headline_metric(task, values)
    return found.metric if found else "acc"

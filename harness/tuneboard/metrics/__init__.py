"""Metrics of generated texts and of labels, one family member a file; a file is found by its name.

    find_metrics(["bleu", "rouge", "pass@5"])     the metrics of those names, in that order
    with_companions(metrics)                      the same, and what tells of scores earned by length or repetition
    metric_names()                                every name that may be asked for

A module here that holds ``METRICS`` is a member: add a file, and its metrics can be named in a task. The name of a file
whose metrics are called otherwise stands for all of them, such as ``rouge`` for ``rouge1`` to ``rougeLsum``. What
libraries have settled is theirs: BLEU, chrF and TER are sacrebleu's numbers, ROUGE is rouge-score's.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

from tuneboard.errors import UnknownName
from tuneboard.metrics.family import CorpusScore, Metric
from tuneboard.metrics.pass_at_k import pass_metric

__all__ = ["CorpusScore", "Metric", "find_metric", "find_metrics", "is_neutral", "metric_names", "with_companions"]

#: What shows how a score may have been earned; a task of answers always has it.
_WATCHED = ("length_ratio", "empty", "repetition", "repetitive")


def find_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """Return metrics by their names or by those of their files; each once.

    Raises:
        UnknownName: No metric is called so.
    """
    found: dict[str, Metric] = {}
    for name in names:
        for metric in _files().get(name, ()) if name in _collective() else [_named(name)]:
            found.setdefault(metric.name, metric)
    return tuple(found.values())


def find_metric(name: str) -> Metric | None:
    """Return the metric of exactly this name; None where there is none."""
    return _metrics().get(name) or pass_metric(name)


def metric_names(of: str | None = None) -> tuple[str, ...]:
    """Return the names of all metrics and of files that hold several; ``of`` keeps those of answers or of labels.

    ``pass@1`` stands for all of its kind.
    """
    names = {**{name: _files()[name][0].of for name in _collective()}, **{m.name: m.of for m in _metrics().values()}}
    return (
        *sorted(name for name, kind in names.items() if of in (None, kind)),
        *(() if of == "labels" else ("pass@1",)),
    )


def with_companions(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Return metrics of answers and, behind them, what tells where a score is earned by length or by repetition."""
    asked = tuple(metrics)
    names = [*(["brevity_penalty"] if any(one.name == "bleu" for one in asked) else []), *_WATCHED]
    return tuple({one.name: one for one in (*asked, *find_metrics(names))}.values())


def is_neutral(name: str) -> bool:
    """Tell whether a metric is neither good nor bad when it is high, so that no change in it is a gain or a loss."""
    metric = _metrics().get(name)
    return metric is not None and metric.higher_is_better is None


def _named(name: str) -> Metric:
    metric = find_metric(name)
    if metric is None:
        names = metric_names()
        raise UnknownName("metric", name, names, f"known metrics: {', '.join(names)}")
    return metric


def _collective() -> list[str]:
    """Return the names of files that are no metric's name."""
    return [name for name in _files() if name not in _metrics()]


@cache
def _files() -> Mapping[str, tuple[Metric, ...]]:
    modules = {info.name: importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}
    return {name: module.METRICS for name, module in modules.items() if hasattr(module, "METRICS")}


@cache
def _metrics() -> Mapping[str, Metric]:
    return {metric.name: metric for metrics in _files().values() for metric in metrics}

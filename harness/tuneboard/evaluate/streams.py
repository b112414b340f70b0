"""What of loaded tasks a sequential gate can ask: one stream per metric of a task, or of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneboard.compare.roles import Place, assign_places
from tuneboard.config import SuiteTask
from tuneboard.gates import Item, Stream
from tuneboard.headline import headline_metric
from tuneboard.records import MetricValue
from tuneboard.suites import LoadedTasks


def task_streams(loaded: LoadedTasks, entries: Sequence[SuiteTask]) -> list[Stream]:
    """Return the streams of all tasks and groups, the headline of each first.

    Args:
        loaded: The tasks.
        entries: Of the suite, in its order.
    """
    leaves = {name: [task.task_name for task in group.get_all_tasks()] for name, group in loaded.groups.items()}
    places = assign_places([*loaded.groups, *loaded.tasks], leaves, entries, {}, rest=True)
    out: list[Stream] = []
    for name, place in places.items():
        if name in loaded.tasks:
            task = loaded.tasks[name]
            out += _streams(loaded, name, [name], _task_metrics(task), place)
        else:
            out += _streams(loaded, name, leaves[name], _group_metrics(loaded, name, leaves[name]), place)
    return out


def _streams(
    loaded: LoadedTasks, name: str, members: Sequence[str], metrics: Mapping[MetricValue, bool], place: Place
) -> list[Stream]:
    items: tuple[Item, ...] = tuple((member, doc) for member in members for doc in loaded.doc_ids[member])
    first = headline_metric(name, list(metrics), loaded.headlines.get(name))
    ordered = sorted(metrics, key=lambda metric: metric is not first)
    return [
        Stream(
            task=name,
            metric=metric.metric,
            filter=metric.filter,
            items=items,
            higher_is_better=metric.higher_is_better is not False,
            kind=None if metrics[metric] else "fixed",
            n_docs=sum(loaded.refs[member].n_docs for member in members),
            role=loaded.roles.get(name, "none") if place.role == "none" else place.role,
            member_of=place.member_of,
            headline=metric is first,
        )
        for metric in ordered
    ]


def _task_metrics(task: Any) -> dict[MetricValue, bool]:
    """Return the metrics of a task, and for each whether it is the plain mean of independent samples."""
    from lm_eval.api.metrics import mean

    better, aggregations = task.higher_is_better(), task.aggregation()
    filters = [one.name for one in getattr(task, "_filters", ())] or ["none"]
    clustered = bool((task.config.metadata or {}).get("cluster"))
    return {
        _metric(metric, filter_name, better.get(metric)): function is mean and not clustered
        for filter_name in filters
        for metric, function in aggregations.items()
    }


def _group_metrics(loaded: LoadedTasks, name: str, members: Sequence[str]) -> dict[MetricValue, bool]:
    """Return the metrics that a group reports; where every sample weighs the same, they are means of samples."""
    parts = [
        {(one.metric, one.filter): (one, is_mean) for one, is_mean in _task_metrics(loaded.tasks[member]).items()}
        for member in members
    ]
    out = {}
    for config in loaded.groups[name].aggregate_metric_list or ():
        for key in parts[0]:
            wanted = key[0] == config.metric and (config.filter_list is None or key[1] in config.filter_list)
            if wanted and all(key in part for part in parts):
                pooled = config.weight_by_size and config.aggregation == "mean" and all(part[key][1] for part in parts)
                out[parts[0][key][0]] = bool(pooled)
    return out


def _metric(metric: str, filter_name: str, higher_is_better: bool | None) -> MetricValue:
    return MetricValue(metric, filter_name, 0.0, None, None, higher_is_better)

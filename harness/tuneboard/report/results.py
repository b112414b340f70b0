"""The results of an evaluation: a table for people and JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tuneboard.headline import headline_metric
from tuneboard.records import MetricValue, TaskResult
from tuneboard.report.answers import answer_notes
from tuneboard.report.numbers import finite, number
from tuneboard.report.tables import format_table, listed, one_line

#: Version of the JSON contract; keys may be added to it, never changed.
SCHEMA = 1

_MARKS = {"reused": "=", "failed": "!", "invalid": "x"}
_MEANING = {"=": "reused from the database", "!": "failed", "x": "invalid"}


def format_results(
    results: Sequence[TaskResult],
    base: str | None = None,
    headlines: Mapping[str, str] | None = None,
    members: bool = False,
) -> str:
    """Lay out an evaluation as a table of tasks by candidates.

    A cell shows the value, the half width of its 95 % interval and, in brackets, the plain difference to the base:
    whether that difference means anything is for a comparison to say.

    Args:
        results: One per candidate and task, in the order to show.
        base: Candidate that differences are taken to; None is the first one.
        headlines: Task name to the metric to show, where it is not the task's usual one.
        members: Also show the tasks of which a group is shown.

    Returns:
        The table and, below it, what its marks mean, why results are missing, and where prompts were cut.
    """
    if not results:
        return "no results"
    names = list(dict.fromkeys(result.candidate.name for result in results))
    base = base if base is not None else names[0]
    cells = {(result.task.name, result.candidate.name): result for result in results}
    hidden = set() if members else _members(results)
    rows = []
    for task in dict.fromkeys(result.task.name for result in results if result.task.name not in hidden):
        of_task = {name: cells[task, name] for name in names if (task, name) in cells}
        preferred = (headlines or {}).get(task)
        shown = {name: headline_metric(task, cell.metrics, preferred) for name, cell in of_task.items()}
        label = next((_metric_label(metric) for metric in shown.values() if metric), "-")
        size = max(cell.n for cell in of_task.values())
        columns = [_cell(of_task.get(name), shown.get(name), shown.get(base), name == base) for name in names]
        rows.append([task, label, f"{size:,}", *columns])
    table = format_table(["task", "metric", "n", *names], rows, "llr" + "l" * len(names))
    return "\n".join([table, *map(one_line, [*_footnotes(results), *cut_notes(results), *answer_notes(results)])])


def cut_notes(results: Sequence[TaskResult]) -> list[str]:
    """Say whose requests were cut to fit the context, and on which tasks; candidates that share all that share a line.

    Args:
        results: One per candidate and task; where a group is among them, its tasks are not named.
    """
    hidden = _members(results)
    of_candidate: dict[str, list[str]] = {}
    for result in results:
        count, documents = result.tokens.truncated, result.n + result.failed
        if count and result.task.name not in hidden:
            line = f"{count:,} on {result.task.name} ({documents:,} documents)"
            of_candidate.setdefault(result.candidate.name, []).append(line)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, lines in of_candidate.items():
        alike.setdefault(tuple(lines), []).append(name)
    return [f"{listed(names)}: requests cut to fit the context: {listed(lines)}" for lines, names in alike.items()]


def evaluate_json(
    run: str, db: str, seconds: float, engine: Mapping[str, Any], results: Sequence[TaskResult]
) -> dict[str, Any]:
    """Build the JSON of ``tuneboard evaluate --json``.

    Args:
        run: Id of the run.
        db: Path of the database.
        seconds: Wall time of the whole command.
        engine: ``name``, ``version``, ``device`` and ``dtype``; where it was checked, ``checks``.
        results: One per candidate and task.

    Returns:
        JSON-able values without NaN and infinity, which stand as null.
    """
    return {
        "schema": SCHEMA,
        "run": run,
        "db": db,
        "seconds": finite(seconds),
        "engine": {key: engine.get(key) for key in ("name", "version", "device", "dtype")}
        | ({"checks": engine["checks"]} if "checks" in engine else {}),
        "cells": [_cell_json(result) for result in results],
    }


def _members(results: Sequence[TaskResult]) -> set[str]:
    return {name for result in results for name in result.members}


def _cell_json(result: TaskResult) -> dict[str, Any]:
    return {
        "candidate": result.candidate.name,
        "task": result.task.name,
        "kind": result.kind,
        "status": result.status,
        "reason": result.reason,
        "n": result.n,
        "failed": result.failed,
        "seconds": finite(result.seconds),
        "tokens": asdict(result.tokens),
        "metrics": [_metric_json(metric) for metric in result.metrics],
    }


def _metric_json(metric: MetricValue) -> dict[str, Any]:
    return {
        "metric": metric.metric,
        "filter": metric.filter,
        "value": finite(metric.value),
        "stderr": finite(metric.stderr),
        "ci": None if metric.ci is None else [finite(bound) for bound in metric.ci],
        "higher_is_better": metric.higher_is_better,
    }


def _metric_label(metric: MetricValue) -> str:
    name = metric.metric if metric.filter in ("none", "") else f"{metric.metric},{metric.filter}"
    return f"{name} ↓" if metric.higher_is_better is False else name


def _cell(result: TaskResult | None, metric: MetricValue | None, base: MetricValue | None, is_base: bool) -> str:
    if result is None:
        return "-"
    mark = _MARKS.get(result.status)
    parts = [mark] if mark else []
    if metric is not None:
        parts.append(_value(metric))
        same = base is not None and (base.metric, base.filter) == (metric.metric, metric.filter)
        if base is not None and same and not is_base and result.status != "invalid":
            difference = metric.value - base.value
            parts += [f"({number(difference, '+')})"] if math.isfinite(difference) else []
    if result.failed:
        parts.append(f"[{result.failed:,} failed]")
    return " ".join(parts)


def _value(metric: MetricValue) -> str:
    text = number(metric.value)
    if metric.ci is not None and all(math.isfinite(bound) for bound in metric.ci):
        text += f" ±{number((metric.ci[1] - metric.ci[0]) / 2)}"
    return text


def _footnotes(results: Sequence[TaskResult]) -> list[str]:
    used = [mark for mark in _MEANING if any(_MARKS.get(result.status) == mark for result in results)]
    notes = ["  ".join(f"{mark} {_MEANING[mark]}" for mark in used)] if used else []
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.reason:
            reasons.setdefault((result.candidate.name, result.reason), []).append(result.task.name)
    return notes + [f"{name} on {listed(tasks)}: {reason}" for (name, reason), tasks in reasons.items()]

"""What ``tuneboard show`` says about the results of a candidate or on a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneboard.records import TaskResult
    from tuneboard.store.queries import RunRow


@dataclass(frozen=True, slots=True)
class Shown:
    """Results, and what a reader must know of them."""

    results: tuple[TaskResult, ...]
    notes: tuple[str, ...]


def chosen_results(
    db: Path,
    runs: Mapping[str, RunRow],
    *,
    run: str | None = None,
    candidate: str | None = None,
    task: str | None = None,
) -> Shown:
    """Return the newest results that fit.

    Args:
        db: The database file.
        runs: All of its runs by id.
        run: The results of this run instead.
        candidate: Only those of the candidate of this name.
        task: Only those of the task or group of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    from tuneboard.report.choice import setting_notes, wider_notes
    from tuneboard.report.results import cut_notes
    from tuneboard.store import queries

    found, results = queries.cells_and_results(db, run=run, candidate=candidate, task=task)
    notes = [*cut_notes(results), *setting_notes(queries.newest(found), runs), *wider_notes(found)]
    return Shown(tuple(results), tuple(notes))


def results_facts(shown: Shown) -> dict[str, Any]:
    """Return results for JSON."""
    from tuneboard.report.results import evaluate_json

    return {"cells": evaluate_json("", "", 0.0, {}, shown.results)["cells"], "notes": list(shown.notes)}


def results_text(shown: Shown, other: str) -> str:
    """Return every metric of the results as a table, with the notes below.

    Args:
        shown: Of one candidate, or on one task.
        other: What the rows differ by: ``task`` or ``candidate``.
    """
    from tuneboard.report.tables import format_table, one_line

    if not shown.results:
        return "no results"
    headers = [other, "few-shot", "n", "failed", "metric", "filter", "value", "stderr", "95 % interval", "status"]
    rows = [row for result in shown.results for row in _rows(result, other)]
    return "\n".join([format_table(headers, rows, "lrrrllrrrl"), *map(one_line, shown.notes)])


def _rows(result: TaskResult, other: str) -> list[list[object]]:
    from tuneboard.report.numbers import number

    name = result.task.name if other == "task" else result.candidate.name
    head = [name, result.task.num_fewshot, _size(result), result.failed]
    status = result.status if result.reason is None else f"{result.status}: {result.reason}"
    rows: list[list[object]] = []
    for metric in result.metrics:
        interval = None if metric.ci is None else f"[{number(metric.ci[0])}, {number(metric.ci[1])}]"
        stderr = None if metric.stderr is None else number(metric.stderr)
        rows.append([*head, metric.metric, metric.filter, number(metric.value), stderr, interval, status])
    return rows or [[*head, None, None, None, None, None, status]]


def _size(result: TaskResult) -> str:
    """Return the number of documents and, where they were limited, of how many."""
    whole = result.task.n_docs
    return f"{result.n:,} of {whole:,}" if result.n + result.failed < whole else f"{result.n:,}"

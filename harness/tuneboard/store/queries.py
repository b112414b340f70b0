"""The read side of the database: every call opens a short read-only connection and returns plain records.

Where several cells fit a candidate and a task, the newest is meant (the one that the latest run computed or reused),
unless a run is named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneboard.records import MetricValue, TaskResult
from tuneboard.store.cells import CellRow, find_cells, newest
from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.results import load_metrics, load_results
from tuneboard.store.samples import samples

__all__ = [
    "CellRow",
    "MetricRow",
    "ModelRow",
    "RunRow",
    "TaskRow",
    "cells",
    "cells_and_results",
    "metrics",
    "models",
    "newest",
    "results",
    "runs",
    "samples",
    "tasks",
]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of ``evaluate``."""

    id: str
    started: datetime
    """UTC, without a time zone, as all times here."""
    finished: datetime | None
    status: str
    """``running`` until finished; a run that was killed stays so."""
    seconds: float | None
    suite: str | None
    command: str
    engine: dict[str, Any]
    versions: dict[str, str]
    hardware: dict[str, Any]
    seeds: dict[str, int]
    settings: dict[str, Any]
    candidates: tuple[str, ...]
    statuses: dict[str, int]
    """Cells by status: ``done``, ``reused``, ``failed``, ``invalid``."""


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One candidate's name and what it is bound to."""

    name: str
    fingerprint: str
    kind: str
    """``adapter``, ``base`` (adapters of this database sit on it) or ``checkpoint``."""
    model_id: str
    model_revision: str | None
    model_sha256: str
    adapter_path: str | None
    adapter_sha256: str | None
    adapter_kind: str | None
    created: datetime
    cells: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One resolved task; a name has several where its settings or data differed."""

    name: str
    fingerprint: str
    version: str
    num_fewshot: int
    output_type: str
    data_hash: str
    n_docs: int
    config: dict[str, Any]
    """As lm-eval resolved it."""
    created: datetime
    cells: int


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One aggregated metric and the cell that it belongs to."""

    cell: CellRow
    metric: MetricValue


def runs(db: Path) -> list[RunRow]:
    """Return all runs, newest first.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = rows_as_dicts(connection, "SELECT * FROM runs ORDER BY started DESC, id DESC")
        used = connection.execute(
            """SELECT run_cells.run_id, run_cells.status, candidates.name, count(DISTINCT cells.id)
               FROM run_cells JOIN cells ON cells.id = run_cells.cell_id
               JOIN candidates ON candidates.fingerprint = cells.candidate_fingerprint
               GROUP BY ALL ORDER BY min(run_cells.recorded)"""
        ).fetchall()
    statuses: dict[str, dict[str, dict[str, int]]] = {}
    for run_id, status, name, count in used:
        statuses.setdefault(run_id, {}).setdefault(name, {})[status] = count
    return [_run_row(row, statuses.get(row["id"], {})) for row in rows]


def models(db: Path) -> list[ModelRow]:
    """Return all candidates, in the order in which they came.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(
            """SELECT name, fingerprint,
                      CASE WHEN adapter_sha256 IS NOT NULL THEN 'adapter'
                           WHEN name = 'base' OR model_sha256 IN
                               (SELECT model_sha256 FROM candidates WHERE adapter_sha256 IS NOT NULL) THEN 'base'
                           ELSE 'checkpoint' END,
                      model_id, model_revision, model_sha256, adapter_path, adapter_sha256, adapter_kind, created,
                      (SELECT count(*) FROM cells WHERE candidate_fingerprint = candidates.fingerprint)
               FROM candidates ORDER BY created, name"""
        ).fetchall()
    return [ModelRow(*row) for row in rows]


def tasks(db: Path) -> list[TaskRow]:
    """Return all tasks that were evaluated, by name.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = rows_as_dicts(
            connection,
            """SELECT *, (SELECT count(*) FROM cells WHERE task_fingerprint = tasks.fingerprint) AS cells
               FROM tasks ORDER BY name, created""",
        )
    return [TaskRow(**row | {"config": json.loads(row["config"])}) for row in rows]


def cells(db: Path, *, run: str | None = None, candidate: str | None = None, task: str | None = None) -> list[CellRow]:
    """Return all cells that fit, newest first.

    Args:
        db: The database file.
        run: Only those that this run computed or reused.
        candidate: Only those of the candidate of this name.
        task: Only those of the tasks or groups of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        return find_cells(connection, run=run, candidate=candidate, task=task)


def metrics(
    db: Path, *, run: str | None = None, candidate: str | None = None, task: str | None = None
) -> list[MetricRow]:
    """Return the metrics of the newest cell of each candidate and task, in the order in which they were stored.

    Args:
        db: The database file.
        run: Of the cells that this run computed or reused instead.
        candidate: Only those of the candidate of this name.
        task: Only those of the tasks or groups of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        found = newest(find_cells(connection, run=run, candidate=candidate, task=task))
        of_cell = load_metrics(connection, [cell.id for cell in found])
    return [MetricRow(cell, metric) for cell in found for metric in of_cell.get(cell.id, ())]


def results(
    db: Path, *, run: str | None = None, candidate: str | None = None, task: str | None = None
) -> list[TaskResult]:
    """Return the newest result of each candidate and task, whole but for its samples.

    Args:
        db: The database file.
        run: The results that this run computed or reused instead, with the status that they had in it.
        candidate: Only those of the candidate of this name.
        task: Only those of the tasks or groups of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    return cells_and_results(db, run=run, candidate=candidate, task=task)[1]


def cells_and_results(
    db: Path, *, run: str | None = None, candidate: str | None = None, task: str | None = None
) -> tuple[list[CellRow], list[TaskResult]]:
    """Return all cells that fit, as ``cells`` does, and the newest results of them, as ``results`` does.

    Args:
        db: The database file.
        run: Only what this run computed or reused.
        candidate: Only those of the candidate of this name.
        task: Only those of the tasks or groups of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        found = find_cells(connection, run=run, candidate=candidate, task=task)
        return found, load_results(connection, newest(found))


def _run_row(row: dict[str, Any], of_candidate: dict[str, dict[str, int]]) -> RunRow:
    statuses: dict[str, int] = {}
    for counts in of_candidate.values():
        for status, count in counts.items():
            statuses[status] = statuses.get(status, 0) + count
    decoded = {name: json.loads(row[name]) for name in ("engine", "versions", "hardware", "seeds", "settings")}
    return RunRow(**row | decoded, candidates=tuple(of_candidate), statuses=statuses)

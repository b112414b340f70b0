"""Cells as the records that an evaluation works with, whole but for their samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tuneboard.records import AdapterRef, Candidate, MetricValue, ModelRef, TaskRef, TaskResult
from tuneboard.store.cells import CellRow
from tuneboard.store.database import rows_as_dicts

if TYPE_CHECKING:
    import duckdb


def load_results(connection: duckdb.DuckDBPyConnection, cells: Sequence[CellRow]) -> list[TaskResult]:
    """Return the results of cells, in the order given.

    Args:
        connection: An open database.
        cells: Rows of ``find_cells``.
    """
    candidates = {row["name"]: row for row in rows_as_dicts(connection, "SELECT * FROM candidates")}
    tasks = _tasks(connection, [cell.task_fingerprint for cell in cells])
    metrics = load_metrics(connection, [cell.id for cell in cells])
    return [
        TaskResult(
            candidate=_candidate(candidates[cell.candidate], cell),
            task=tasks[cell.task_fingerprint],
            key=cell.key,
            kind=cell.kind,
            status=cell.status,
            metrics=metrics.get(cell.id, ()),
            n=cell.n,
            failed=cell.failed,
            reason=cell.reason,
            seconds=cell.seconds,
            tokens=cell.tokens,
            members=cell.members,
        )
        for cell in cells
    ]


def load_metrics(connection: duckdb.DuckDBPyConnection, cell_ids: Sequence[str]) -> dict[str, tuple[MetricValue, ...]]:
    """Return the aggregated metrics of cells by cell id, in the order in which they were stored.

    Args:
        connection: An open database.
        cell_ids: ``CellKey.id`` of each.
    """
    rows = connection.execute(
        """SELECT cell_id, metric, filter, value, stderr, ci_low, ci_high, higher_is_better
           FROM metrics WHERE cell_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY rowid""",
        [sorted(set(cell_ids))],
    ).fetchall()
    metrics: dict[str, tuple[MetricValue, ...]] = {}
    for cell_id, name, filter_name, value, stderr, low, high, higher in rows:
        metric = MetricValue(name, filter_name, value, stderr, None if low is None else (low, high), higher)
        metrics[cell_id] = (*metrics.get(cell_id, ()), metric)
    return metrics


def _candidate(row: dict[str, Any], cell: CellRow) -> Candidate:
    model = ModelRef(row["model_id"], row["model_revision"], cell.dtype, cell.quantization, row["model_sha256"])
    if row["adapter_sha256"] is None:
        return Candidate(row["name"], model)
    return Candidate(row["name"], model, AdapterRef(row["adapter_path"], row["adapter_sha256"], row["adapter_kind"]))


def _tasks(connection: duckdb.DuckDBPyConnection, fingerprints: Sequence[str]) -> dict[str, TaskRef]:
    names = ", ".join(field.name for field in fields(TaskRef))
    rows = rows_as_dicts(
        connection,
        f"SELECT {names} FROM tasks WHERE fingerprint IN (SELECT unnest(?::VARCHAR[]))",
        [sorted(set(fingerprints))],
    )
    return {row["fingerprint"]: TaskRef(**row | {"config": json.loads(row["config"])}) for row in rows}


def signatures_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return how the metrics of a task were computed, for those whose config says so."""
    entries = [one for one in config.get("metric_list") or () if isinstance(one, dict)]
    return {str(one["metric"]): str(one["signature"]) for one in entries if one.get("signature")}

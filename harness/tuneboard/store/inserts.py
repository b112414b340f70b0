"""How a result enters the open database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuneboard.errors import StoreError
from tuneboard.records import TaskRef, TaskResult
from tuneboard.store.rows import as_json, clean, utc_now

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_OF_CELL = {"cells": "id", "metrics": "cell_id", "samples": "cell_id", "scores": "cell_id"}


def insert_result(
    connection: duckdb.DuckDBPyConnection, run_id: str, result: TaskResult, tables: Mapping[str, pa.Table]
) -> bool:
    """Insert a result unless its finished cell is there; one that failed, is invalid or has more failures is replaced.

    Args:
        connection: The open database, inside a transaction.
        run_id: From ``Store.start_run``.
        result: Its candidate is bound already.
        tables: From ``result_tables``.

    Returns:
        Whether it was inserted; the run's use of the cell is recorded in any case.
    """
    _add_task(connection, result.task)
    cell_id = result.key.id
    there = connection.execute("SELECT status, failed FROM cells WHERE id = ?", [cell_id]).fetchone()
    retried = there is not None and result.status == "done" and result.failed < there[1]
    fresh = there is None or there[0] != "done" or retried
    if fresh:
        if there is not None:
            for table, column in _OF_CELL.items():
                connection.execute(f"DELETE FROM {table} WHERE {column} = ?", [cell_id])
        for name, rows in tables.items():
            if rows.num_rows:
                connection.register("incoming", rows)
                connection.execute(_INSERT_NEW_DOCUMENTS if name == "documents" else _insert_all(name))
                connection.unregister("incoming")
    link_cell(connection, run_id, cell_id)
    return fresh


_INSERT_NEW_DOCUMENTS = """
INSERT INTO documents BY NAME
SELECT incoming.* FROM incoming ANTI JOIN documents USING (task_fingerprint, doc_id)
"""


def _insert_all(table: str) -> str:
    return f"INSERT INTO {table} BY NAME SELECT * FROM incoming"


def _add_task(connection: duckdb.DuckDBPyConnection, task: TaskRef) -> None:
    connection.execute(
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            task.fingerprint,
            clean(task.name),
            task.version,
            task.num_fewshot,
            task.output_type,
            task.data_hash,
            as_json(task.config),
            task.n_docs,
            utc_now(),
        ],
    )


def link_cell(connection: duckdb.DuckDBPyConnection, run_id: str, cell_id: str) -> None:
    """Record that a run shows a cell, which it computed itself or reuses.

    Args:
        connection: The open database, inside a transaction.
        run_id: From ``Store.start_run``.
        cell_id: ``CellKey.id``.

    Raises:
        StoreError: There is no such cell.
    """
    cell = connection.execute("SELECT status, run_id FROM cells WHERE id = ?", [cell_id]).fetchone()
    if cell is None:
        raise StoreError(f"cell {cell_id[:12]} is not there to be reused; run the same command again to compute it")
    status = cell[0] if cell[1] == run_id else "reused"
    connection.execute(
        "INSERT OR REPLACE INTO run_cells VALUES (?, ?, ?, ?)",
        [run_id, cell_id, status, utc_now()],
    )

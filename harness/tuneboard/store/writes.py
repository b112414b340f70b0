"""The write side of the database: runs, candidates and finished cells, each in one short transaction."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.errors import NameTaken, StoreError, UnknownName
from tuneboard.records import Candidate, CellKey, Provenance, Response, TaskRef, TaskResult
from tuneboard.store.cells import find_cells
from tuneboard.store.database import reading, writing
from tuneboard.store.locking import WAIT_S
from tuneboard.store.responses import load
from tuneboard.store.results import load_results
from tuneboard.store.rows import as_json, clean, result_tables, utc_now

if TYPE_CHECKING:
    import duckdb

_OF_CELL = {"cells": "id", "metrics": "cell_id", "samples": "cell_id", "scores": "cell_id"}


class Store:
    """Writes one database, and reads from it what an evaluation needs to go on.

    Every call opens a connection of its own under the database's lock and closes it: no object of this class ever
    keeps others out.

    Args:
        path: The database file; made at the first write.
        wait_s: Seconds that each call waits for other processes.
    """

    def __init__(self, path: Path, wait_s: float = WAIT_S) -> None:
        self.path, self.wait_s = path, wait_s

    def start_run(self, p: Provenance) -> str:
        """Record that a run begins.

        Args:
            p: How the run came to be.

        Returns:
            The run's id, such as ``20260131-142501-ab12`` (UTC); ids sort by the second in which runs began.

        Raises:
            StoreError: The database cannot be written.
        """
        started = utc_now()
        with writing(self.path, self.wait_s) as connection:
            while True:
                run_id = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
                if connection.execute("SELECT 1 FROM runs WHERE id = ?", [run_id]).fetchone() is None:
                    break
            connection.execute(
                """INSERT INTO runs (id, started, status, command, engine, versions, hardware, seeds, suite, settings)
                   VALUES (?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)""",
                [
                    run_id,
                    started,
                    clean(p.command),
                    as_json(p.engine),
                    as_json(p.versions),
                    as_json(p.hardware),
                    as_json(p.seeds),
                    None if p.suite is None else clean(p.suite),
                    as_json(p.settings),
                ],
            )
        return run_id

    def finish_run(self, run_id: str, status: str, seconds: float) -> None:
        """Record how a run ended.

        Args:
            run_id: From ``start_run``.
            status: ``"done"``, ``"failed"``, ``"interrupted"``, ...
            seconds: Wall time of the whole run.

        Raises:
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            connection.execute(
                "UPDATE runs SET finished = ?, status = ?, seconds = ? WHERE id = ?",
                [utc_now(), status, float(seconds), run_id],
            )

    def check(self, c: Candidate) -> None:
        """Refuse a candidate whose name is bound to other weights, before anything is computed for it.

        Args:
            c: The candidate; nothing is written.

        Raises:
            NameTaken: The name is bound to other weights; the message carries the command that renames them.
            StoreError: The database is there and cannot be read.
        """
        if self.path.exists():
            with reading(self.path, self.wait_s) as connection:
                self._refuse_taken(connection, c)

    def register(self, c: Candidate) -> None:
        """Bind a candidate's name to its weights.

        Args:
            c: The candidate; its location is brought up to date if the weights are the same.

        Raises:
            NameTaken: The name is bound to other weights; the message carries the command that renames them.
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            self._register(connection, c)

    def rename(self, old: str, new: str) -> None:
        """Give a candidate another name; its results belong to its weights and stay with it.

        Args:
            old: Its name now.
            new: Its name from now on.

        Raises:
            UnknownName: There is no candidate ``old``.
            NameTaken: ``new`` is bound to other weights.
            StoreError: The database is missing or cannot be written.
        """
        with reading(self.path, self.wait_s):
            pass  # renaming in a database that is not there must not make one
        with writing(self.path, self.wait_s) as connection:
            bound = dict(connection.execute("SELECT name, fingerprint FROM candidates").fetchall())
            if old not in bound:
                raise UnknownName("candidate", old, bound, f"see: tuneboard show models --db {self.path}")
            if old == new:
                return
            if bound.get(new, bound[old]) != bound[old]:
                raise NameTaken(f"'{new}' is bound to other weights in {self.path}; give a name that is free")
            connection.execute("DELETE FROM candidates WHERE name = ?", [new])
            connection.execute("UPDATE candidates SET name = ? WHERE name = ?", [clean(new), old])

    def find(self, key: CellKey) -> TaskResult | None:
        """Return a finished cell without its samples, or None.

        Args:
            key: What the cell is a result of.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        if not self.path.exists():
            return None
        with reading(self.path, self.wait_s) as connection:
            done = [cell for cell in find_cells(connection, cell=key.id) if cell.status == "done"]
            return next(iter(load_results(connection, done[:1])), None)

    def answers(self, scope: str) -> dict[str, Response]:
        """Return all answers in the finished cells of a scope, by request hash; failed ones are left out.

        Args:
            scope: ``CellKey.scope``: the same work, whatever its ``--limit``.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        if not self.path.exists():
            return {}
        with reading(self.path, self.wait_s) as connection:
            rows = connection.execute(
                """SELECT request_hashes, responses FROM samples
                   WHERE cell_id IN (SELECT id FROM cells WHERE scope = ? AND status = 'done')""",
                [scope],
            ).fetchall()
        return {
            request_hash: response
            for hashes, responses in rows
            for request_hash, response in zip(hashes, load(responses), strict=True)
            if response is not None
        }

    def commit(self, run_id: str, result: TaskResult) -> bool:
        """Store a result with everything that belongs to it in one transaction.

        Args:
            run_id: From ``start_run``.
            result: A cell that was just computed, finished or not; a failed or invalid one there is replaced by it.

        Returns:
            False if the finished cell was there already; then only the run's use of it is recorded.

        Raises:
            NameTaken: The candidate's name is bound to other weights.
            StoreError: The database cannot be written; nothing of the result is in it.
            ValueError: The key does not belong to the candidate and task.
        """
        if (result.key.candidate, result.key.task) != (result.candidate.fingerprint, result.task.fingerprint):
            raise ValueError("the cell's key names another candidate or task than the result")
        # Built before the lock is taken, so that others wait for the insert alone.
        tables = result_tables(result, run_id)
        with writing(self.path, self.wait_s) as connection:
            self._register(connection, result.candidate)
            _add_task(connection, result.task)
            cell_id = result.key.id
            there = connection.execute("SELECT status FROM cells WHERE id = ?", [cell_id]).fetchone()
            fresh = there is None or there[0] != "done"
            if fresh:
                if there is not None:
                    for table, column in _OF_CELL.items():
                        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", [cell_id])
                for name, rows in tables.items():
                    connection.register("incoming", rows)
                    connection.execute(_INSERT_NEW_DOCUMENTS if name == "documents" else _insert_all(name))
                    connection.unregister("incoming")
            _link(connection, run_id, cell_id)
        return fresh

    def link(self, run_id: str, result: TaskResult) -> None:
        """Record that a run reuses a cell of an earlier one.

        Args:
            run_id: From ``start_run``.
            result: From ``find``.

        Raises:
            NameTaken: The candidate's name is bound to other weights.
            StoreError: The database cannot be written, or has no such cell.
        """
        with writing(self.path, self.wait_s) as connection:
            self._register(connection, result.candidate)
            _link(connection, run_id, result.key.id)

    def _register(self, connection: duckdb.DuckDBPyConnection, c: Candidate) -> None:
        self._refuse_taken(connection, c)
        name, adapter = clean(c.name), c.adapter
        connection.execute(
            """INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
               model_id = excluded.model_id, model_revision = excluded.model_revision,
               adapter_path = excluded.adapter_path, adapter_kind = excluded.adapter_kind""",
            [
                name,
                c.fingerprint,
                clean(c.model.id),
                c.model.revision,
                c.model.sha256,
                clean(adapter.path) if adapter else None,
                adapter.sha256 if adapter else None,
                adapter.kind if adapter else None,
                utc_now(),
            ],
        )

    def _refuse_taken(self, connection: duckdb.DuckDBPyConnection, c: Candidate) -> None:
        name = clean(c.name)
        bound = connection.execute("SELECT fingerprint FROM candidates WHERE name = ?", [name]).fetchone()
        if bound is not None and bound[0] != c.fingerprint:
            raise NameTaken(
                f"the name '{name}' is bound to other weights in {self.path}: give these another name, "
                f"or free it with: tuneboard rename {name} NEW-NAME --db {self.path}"
            )


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


def _link(connection: duckdb.DuckDBPyConnection, run_id: str, cell_id: str) -> None:
    cell = connection.execute("SELECT status, run_id FROM cells WHERE id = ?", [cell_id]).fetchone()
    if cell is None:
        raise StoreError(f"cell {cell_id[:12]} is not there to be reused; run the same command again to compute it")
    status = cell[0] if cell[1] == run_id else "reused"
    connection.execute(
        "INSERT OR REPLACE INTO run_cells VALUES (?, ?, ?, ?)",
        [run_id, cell_id, status, utc_now()],
    )

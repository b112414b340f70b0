"""The write side of the database: runs, candidates and finished cells, each in one short transaction."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneboard.records import Candidate, CellKey, Provenance, Response, TaskResult
from tuneboard.store.cells import find_cells
from tuneboard.store.database import reading, writing
from tuneboard.store.inserts import insert_result, link_cell
from tuneboard.store.locking import WAIT_S
from tuneboard.store.names import bind, refuse_taken, rename
from tuneboard.store.responses import load
from tuneboard.store.results import load_results
from tuneboard.store.rows import as_json, clean, result_tables, utc_now


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
                    *(as_json(part) for part in (p.engine, p.versions, p.hardware, p.seeds)),
                    None if p.suite is None else clean(p.suite),
                    as_json(p.settings),
                ],
            )
        return run_id

    def finish_run(self, run_id: str, status: str, seconds: float, engine: Mapping[str, Any] | None = None) -> None:
        """Record how a run ended.

        Args:
            run_id: From ``start_run``.
            status: ``"done"``, ``"failed"``, ``"interrupted"``, ...
            seconds: Wall time of the whole run.
            engine: What ran, where that was not known yet when the run began.

        Raises:
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            connection.execute(
                "UPDATE runs SET finished = ?, status = ?, seconds = ?, engine = coalesce(?, engine) WHERE id = ?",
                [utc_now(), status, float(seconds), None if engine is None else as_json(engine), run_id],
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
                refuse_taken(connection, self.path, c)

    def register(self, c: Candidate) -> None:
        """Bind a candidate's name to its weights.

        Args:
            c: The candidate; its location is brought up to date if the weights are the same.

        Raises:
            NameTaken: The name is bound to other weights; the message carries the command that renames them.
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            bind(connection, self.path, c)

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
            rename(connection, self.path, old, new)

    def find(self, key: CellKey) -> TaskResult | None:
        """Return a finished cell without its samples, or None.

        Args:
            key: What the cell is a result of.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        return self.find_all([key]).get(key)

    def find_all(self, keys: Sequence[CellKey]) -> dict[CellKey, TaskResult]:
        """Return those of many cells that are finished, without their samples, in one look.

        Args:
            keys: What the cells are results of; without any, the database is not opened.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        if not keys or not self.path.exists():
            return {}
        with reading(self.path, self.wait_s) as connection:
            rows = connection.execute("SELECT id FROM cells WHERE status = 'done'").fetchall()
            done = {cell_id for (cell_id,) in rows} & {key.id for key in keys}
            # Weights with several names give a row for each.
            found = {cell.id: cell for cell in find_cells(connection, ids=sorted(done))} if done else {}
            return {result.key: result for result in load_results(connection, list(found.values()))}

    def scopes(self) -> frozenset[str]:
        """Return the scopes of all finished cells: for others, ``answers`` has nothing.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        rows = self._rows("SELECT DISTINCT scope FROM cells WHERE status = 'done'")
        return frozenset(scope for (scope,) in rows)

    def kin(self) -> dict[tuple[Any, ...], list[str]]:
        """Return the scopes of all cells by who was asked a task of which name, and how: ``CellKey.asked_of``.

        Tasks of one name differ where their YAML, data or scorer changed; many of their requests may be the same still.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        rows = self._rows(
            """SELECT DISTINCT scope, task, candidate_fingerprint, generation, engine, dtype, quantization, repeat
               FROM cells WHERE kind = 'task'"""
        )
        found: dict[tuple[Any, ...], list[str]] = {}
        for scope, *asked in rows:
            found.setdefault(tuple(asked), []).append(scope)
        return found

    def answers(self, scope: str) -> dict[str, Response]:
        """Return all answers in the finished cells of a scope, by request hash; failed ones are left out.

        Args:
            scope: ``CellKey.scope``: the same work, whatever its ``--limit``.

        Raises:
            StoreError: The database is there and cannot be read.
        """
        rows = self._rows(
            """SELECT request_hashes, responses FROM samples
               WHERE cell_id IN (SELECT id FROM cells WHERE scope = ? AND status = 'done')""",
            scope,
        )
        return {
            request_hash: response
            for hashes, responses in rows
            for request_hash, response in zip(hashes, load(responses), strict=True)
            if response is not None
        }

    def cut(self, scope: str) -> set[str]:
        """Return the hashes of those requests in a scope's finished cells that were cut; see ``answers``."""
        rows = self._rows(
            """SELECT request_hashes, cut FROM samples
               WHERE cut IS NOT NULL AND cell_id IN (SELECT id FROM cells WHERE scope = ? AND status = 'done')""",
            scope,
        )
        return {hashes[place] for hashes, places in rows for place in places}

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none where there is no database yet."""
        if not self.path.exists():
            return []
        with reading(self.path, self.wait_s) as connection:
            return connection.execute(query, values).fetchall()

    def commit(self, run_id: str, result: TaskResult) -> bool:
        """Store a result with everything that belongs to it in one transaction.

        Args:
            run_id: From ``start_run``.
            result: A cell that was just computed, finished or not. One there that failed, is invalid, or is finished
                with more failed samples is replaced by it.

        Returns:
            False if the cell was there already, no worse; then only the run's use of it is recorded.

        Raises:
            NameTaken: The candidate's name is bound to other weights.
            StoreError: The database cannot be written; nothing of the result is in it.
            ValueError: The key does not belong to the candidate and task.
        """
        return self.commit_all(run_id, [result])[0]

    def commit_all(self, run_id: str, results: Sequence[TaskResult]) -> list[bool]:
        """Store several results in one transaction: opening and closing takes ten times as long as a small insert.

        Args:
            run_id: From ``start_run``.
            results: As for ``commit``.

        Returns:
            For each result what ``commit`` returns.

        Raises:
            NameTaken: A candidate's name is bound to other weights.
            StoreError: The database cannot be written; none of the results is in it.
            ValueError: A key does not belong to its candidate and task.
        """
        for result in results:
            if (result.key.candidate, result.key.task) != (result.candidate.fingerprint, result.task.fingerprint):
                raise ValueError("the cell's key names another candidate or task than the result")
        # Built before the lock is taken, so that others wait for the insert alone.
        tables = [result_tables(result, run_id) for result in results]
        with writing(self.path, self.wait_s) as connection:
            for candidate in {result.candidate.name: result.candidate for result in results}.values():
                bind(connection, self.path, candidate)
            return [
                insert_result(connection, run_id, result, rows) for result, rows in zip(results, tables, strict=True)
            ]

    def link(self, run_id: str, result: TaskResult) -> None:
        """Record that a run reuses a cell of an earlier one.

        Args:
            run_id: From ``start_run``.
            result: From ``find``.

        Raises:
            NameTaken: The candidate's name is bound to other weights.
            StoreError: The database cannot be written, or has no such cell.
        """
        self.link_all(run_id, [result])

    def link_all(self, run_id: str, results: Sequence[TaskResult]) -> None:
        """Record that a run reuses cells of earlier ones, all in one transaction.

        Args:
            run_id: From ``start_run``.
            results: From ``find_all``.

        Raises:
            NameTaken: A candidate's name is bound to other weights.
            StoreError: The database cannot be written, or lacks one of the cells.
        """
        with writing(self.path, self.wait_s) as connection:
            for candidate in {result.candidate.name: result.candidate for result in results}.values():
                bind(connection, self.path, candidate)
            for result in results:
                link_cell(connection, run_id, result.key.id)

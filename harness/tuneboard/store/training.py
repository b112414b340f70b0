"""Writes trainings into the database: how each began, its curves, and what it came to."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.store.database import writing
from tuneboard.store.locking import WAIT_S
from tuneboard.store.rows import as_json, clean, utc_now

if TYPE_CHECKING:
    import duckdb

    from tuneboard.records import ModelRef

#: ``(step, epoch, name, value)``: one logged moment, such as ``(20, 0.5, "loss", 1.93)``.
Point = tuple[int, float, str, float]


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """How a training begins."""

    name: str
    """The candidate's."""
    fingerprint: str
    """Identity of the training: recipe, data and base."""
    method: str
    kind: str
    """``causal``, ``classification`` or ``seq2seq``."""
    base: ModelRef
    seed: int
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    """The data report."""
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    command: str = ""
    git_commit: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingFigures:
    """What a training came to."""

    steps: int
    epochs: float
    seconds: float
    cpu_seconds: float
    tokens: int
    loss: float
    first_validation_loss: float | None
    validation_loss: float | None
    best_step: int | None
    trained_parameters: int
    total_parameters: int
    peak_memory_gib: float
    resumed: int
    warnings: tuple[str, ...]


class TrainingStore:
    """Writes trainings into one database, each call in one short transaction.

    Args:
        path: The database file; made at the first write.
        wait_s: Seconds that each call waits for other processes.
    """

    def __init__(self, path: Path, wait_s: float = WAIT_S) -> None:
        self.path, self.wait_s = path, wait_s

    def start(self, begin: TrainingStart) -> str:
        """Record that a training begins, or that an unfinished one goes on, which keeps its id.

        Args:
            begin: How it begins.

        Returns:
            The training's id, such as ``tune-20260131-142501-ab12`` (UTC).

        Raises:
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            found = connection.execute(
                """SELECT id, started FROM training_runs
                   WHERE name = ? AND fingerprint = ? AND status <> 'done' ORDER BY started DESC LIMIT 1""",
                [clean(begin.name), begin.fingerprint],
            ).fetchone()
            started = found[1] if found else utc_now()
            run_id = found[0] if found else _new_id(connection, started)
            _insert(connection, run_id, started, begin)
        return str(run_id)

    def record_curve(self, run_id: str, points: Sequence[Point]) -> None:
        """Replace a training's curves.

        Args:
            run_id: From ``start``.
            points: All moments that were logged.

        Raises:
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            _put_curve(connection, run_id, points)

    def finish(
        self, run_id: str, candidate: str, folder: Path, figures: TrainingFigures, points: Sequence[Point]
    ) -> None:
        """Record what a training made.

        Args:
            run_id: From ``start``.
            candidate: Fingerprint of the candidate.
            folder: Where it lies.
            figures: What the training came to.
            points: Its curves.

        Raises:
            StoreError: The database cannot be written.
        """
        values = {field.name: getattr(figures, field.name) for field in fields(figures)}
        values["warnings"] = [clean(line) for line in figures.warnings]
        changes = {"candidate_fingerprint": candidate, "folder": clean(str(folder)), **values}
        with writing(self.path, self.wait_s) as connection:
            connection.execute(
                f"""UPDATE training_runs SET status = 'done', reason = NULL, finished = ?,
                    {", ".join(f"{name} = ?" for name in changes)} WHERE id = ?""",
                [utc_now(), *changes.values(), run_id],
            )
            _put_curve(connection, run_id, points)

    def fail(self, run_id: str, status: str, reason: str, points: Sequence[Point]) -> None:
        """Record that a training ended without a candidate.

        Args:
            run_id: From ``start``.
            status: ``"failed"`` or ``"interrupted"``; the next ``start`` of the same training takes its place.
            reason: For people.
            points: Its curves so far.

        Raises:
            StoreError: The database cannot be written.
        """
        with writing(self.path, self.wait_s) as connection:
            connection.execute(
                "UPDATE training_runs SET status = ?, reason = ?, finished = ? WHERE id = ?",
                [status, clean(reason), utc_now(), run_id],
            )
            _put_curve(connection, run_id, points)


def _new_id(connection: duckdb.DuckDBPyConnection, started: datetime) -> str:
    while True:
        run_id = f"tune-{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if connection.execute("SELECT 1 FROM training_runs WHERE id = ?", [run_id]).fetchone() is None:
            return run_id


def _insert(connection: duckdb.DuckDBPyConnection, run_id: str, started: datetime, begin: TrainingStart) -> None:
    values = {
        "id": run_id,
        "name": clean(begin.name),
        "fingerprint": begin.fingerprint,
        "status": "running",
        "reason": None,
        "started": started,
        "finished": None,
        "command": clean(begin.command),
        "git_commit": begin.git_commit,
        "method": begin.method,
        "kind": begin.kind,
        "base_id": clean(begin.base.id),
        "base_revision": begin.base.revision,
        "base_sha256": begin.base.sha256,
        "seed": begin.seed,
        "recipe": as_json(begin.recipe),
        "data": as_json(begin.data),
        "versions": as_json(begin.versions),
        "hardware": as_json(begin.hardware),
    }
    places = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT OR REPLACE INTO training_runs ({', '.join(values)}) VALUES ({places})", list(values.values())
    )


def _put_curve(connection: duckdb.DuckDBPyConnection, run_id: str, points: Sequence[Point]) -> None:
    import pyarrow as pa

    connection.execute("DELETE FROM training_curves WHERE run_id = ?", [run_id])
    if not points:
        return
    steps, epochs, names, values = zip(*points, strict=True)
    incoming = pa.table(
        {
            "run_id": pa.array([run_id] * len(points), pa.string()),
            "step": pa.array(steps, pa.int64()),
            "epoch": pa.array(epochs, pa.float64()),
            "name": pa.array(names, pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )
    connection.register("incoming", incoming)
    connection.execute("INSERT INTO training_curves BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")

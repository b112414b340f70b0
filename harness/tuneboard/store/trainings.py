"""Reads trainings from the database: what was trained, on what, how it went."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.rows import clean
from tuneboard.store.training import Point, TrainingFigures


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training, as the database holds it."""

    id: str
    name: str
    fingerprint: str
    candidate_fingerprint: str | None
    """Of what it made; None until then."""
    status: str
    """``unfinished`` (it runs, or was killed), ``done``, ``failed`` or ``interrupted``."""
    reason: str | None
    started: datetime
    """UTC, without a time zone."""
    finished: datetime | None
    command: str
    git_commit: str | None
    method: str
    kind: str
    base_id: str
    base_revision: str | None
    base_sha256: str
    seed: int
    recipe: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    hardware: dict[str, Any]
    folder: str | None
    figures: TrainingFigures | None
    """None until it is done."""


def bound_elsewhere(db: Path, name: str, fingerprint: str) -> bool:
    """Tell whether a candidate's name stands for weights that no training of this fingerprint made.

    Args:
        db: The database file; nothing is bound in one that is not there.
        name: The candidate's.
        fingerprint: Identity of the training that is to make it.

    Raises:
        StoreError: The database is there and cannot be read.
    """
    if not db.exists():
        return False
    with reading(db) as connection:
        row = connection.execute(
            """SELECT count(*) FROM candidates WHERE name = ? AND fingerprint NOT IN (
                   SELECT candidate_fingerprint FROM training_runs
                   WHERE fingerprint = ? AND candidate_fingerprint IS NOT NULL)""",
            [clean(name), fingerprint],
        ).fetchone()
    return bool(row and row[0])


def find_trainings(db: Path, *, fingerprint: str | None = None, candidate: str | None = None) -> list[TrainingRow]:
    """Return trainings, newest first.

    Args:
        db: The database file.
        fingerprint: Only those of this identity.
        candidate: Only those that made the weights of this fingerprint.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = rows_as_dicts(
            connection,
            """SELECT * FROM training_runs
               WHERE fingerprint = coalesce($fingerprint, fingerprint)
                 AND ($candidate IS NULL OR candidate_fingerprint = $candidate)
               ORDER BY started DESC, id DESC""",
            {"fingerprint": fingerprint, "candidate": candidate},
        )
    return [_row(row) for row in rows]


def training_curve(db: Path, run_id: str) -> list[Point]:
    """Return the curves of a training, by name and step.

    Args:
        db: The database file.
        run_id: Id of the training.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        return connection.execute(
            "SELECT step, epoch, name, value FROM training_curves WHERE run_id = ? ORDER BY name, step", [run_id]
        ).fetchall()


def _row(row: dict[str, Any]) -> TrainingRow:
    figures = {field.name: row.pop(field.name) for field in fields(TrainingFigures)}
    figures["warnings"] = tuple(figures["warnings"] or ())
    decoded = {name: json.loads(row[name]) for name in ("recipe", "data", "versions", "hardware")}
    # The process may have been killed; only a finished training is known to have ended.
    status = "unfinished" if row["finished"] is None else row["status"]
    done = TrainingFigures(**figures) if row["status"] == "done" else None
    return TrainingRow(**row | decoded | {"status": status}, figures=done)

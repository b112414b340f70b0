"""What is kept of one candidate, of its newest cost and of a run: the facts on a model's card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneboard.gates import Cost
from tuneboard.store.database import reading, rows_as_dicts


def candidate_facts(db: Path, name: str) -> dict[str, Any] | None:
    """Return everything that is kept of a candidate itself; None where there is none of that name.

    Args:
        db: The database file.
        name: The candidate's.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        return next(iter(rows_as_dicts(connection, "SELECT * FROM candidates WHERE name = ?", [name])), None)


def newest_cost(db: Path, fingerprint: str) -> Cost | None:
    """Return the newest speed and memory that a gate measured of a candidate by itself; None where none did.

    Args:
        db: The database file.
        fingerprint: Of the candidate.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        row = connection.execute(
            """SELECT tokens_per_s, latency_p95_s, peak_memory_gib, machine FROM costs
               WHERE candidate_fingerprint = ? ORDER BY measured DESC, rowid DESC LIMIT 1""",
            [fingerprint],
        ).fetchone()
    return None if row is None else Cost(*row)


def run_facts(db: Path, run: str) -> dict[str, Any] | None:
    """Return what is known of a run, its JSON columns read; None where there is none of that id.

    Args:
        db: The database file.
        run: Its id.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = rows_as_dicts(connection, "SELECT * FROM runs WHERE id = ?", [run])
    decoded = ("engine", "versions", "hardware", "seeds", "settings")
    return next((row | {name: json.loads(row[name]) for name in decoded} for row in rows), None)

"""What gates said, kept so that their history can be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneboard.store.database import reading, writing
from tuneboard.store.rows import as_json, clean, utc_now

#: Seconds that keeping a verdict waits for other processes: the verdict itself is out already, and CI waits.
WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One verdict of one gate."""

    judged: datetime
    """UTC, without a time zone."""
    policy: str
    base: str
    """A candidate or a baseline, as it was called then."""
    candidate: str
    current: bool | None
    """Whether the candidate's name still stands for the weights that were judged; None where that is not known."""
    verdict: str
    exit_code: int
    content: Mapping[str, Any]
    """The JSON of ``tuneboard gate --json``."""


def keep_verdict(db: Path, content: Mapping[str, Any]) -> None:
    """Store a verdict.

    Args:
        db: The database file.
        content: JSON of ``tuneboard gate --json``.

    Raises:
        StoreError: The database cannot be written.
    """
    names = [clean(str(content[key])) for key in ("policy", "base", "candidate")]
    with writing(db, WAIT_S) as connection:
        connection.execute(
            """INSERT INTO verdicts
               SELECT $1, $2, $3, $4, (SELECT fingerprint FROM candidates WHERE name = $4), $5, $6, $7""",
            [utc_now(), *names, content["verdict"], content["exit_code"], as_json(content)],
        )


def kept_verdicts(db: Path, limit: int = 1000) -> list[VerdictRow]:
    """Return the verdicts of gates, newest first.

    Args:
        db: The database file.
        limit: At most so many.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(
            """SELECT judged, policy, base, candidate,
                      (SELECT fingerprint FROM candidates WHERE name = verdicts.candidate) = candidate_fingerprint,
                      verdict, exit_code, content
               FROM verdicts ORDER BY judged DESC, rowid DESC LIMIT ?""",
            [limit],
        ).fetchall()
    return [
        VerdictRow(judged, policy, base, candidate, current, verdict, code, json.loads(content))
        for judged, policy, base, candidate, current, verdict, code, content in rows
    ]

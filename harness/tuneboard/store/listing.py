"""What the leaderboard and the cards of its models show: every candidate with its scores, without a look at a sample.

A candidate's score on a task is that of its newest cell. Everything here reads the materialised metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneboard.records import MetricValue
from tuneboard.store.database import reading, rows_as_dicts


@dataclass(frozen=True, slots=True)
class ListedCandidate:
    """One name of one set of weights, with what a leaderboard filters by."""

    name: str
    fingerprint: str
    base: str
    """Name of the candidate that it belongs under; its own where it is a base."""
    kind: str
    """``base``, ``adapter`` or ``checkpoint``."""
    method: str | None
    """Of the training that made it, or the adapter's kind in small letters; None where neither is known."""
    model_id: str
    parameters: int | None
    """Of the whole model, where a training of it, or on its base, counted them."""
    trained_parameters: int | None
    quantization: str | None
    dtype: str
    created: datetime
    """UTC, without a time zone, as all times here."""
    evaluated: datetime


@dataclass(frozen=True, slots=True)
class ListedScore:
    """One metric of the newest cell of a candidate and a task."""

    candidate: str
    cell: str
    task: str
    kind: str
    """``task`` or ``group``."""
    status: str
    metric: MetricValue
    n: int
    failed: int
    n_docs: int
    seen: datetime
    members: tuple[str, ...]
    """Names of the tasks of a group."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One evaluation of a task, for its history."""

    candidate: str
    task: str
    metric: str
    filter: str
    created: datetime
    value: float


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One cell of a candidate, and how it came to be."""

    task: str
    kind: str
    status: str
    reason: str | None
    n: int
    n_docs: int
    failed: int
    num_fewshot: int
    engine: str
    dtype: str
    quantization: str | None
    repeat: int
    seconds: float
    tokens: int
    data_hash: str
    run: str
    created: datetime


def is_filled(db: Path) -> bool:
    """Tell whether a database has any result, or any training.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        row = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM cells) OR EXISTS (SELECT 1 FROM training_runs)"
        ).fetchone()
    return bool(row and row[0])


def listed_candidates(db: Path) -> list[ListedCandidate]:
    """Return all candidates that were evaluated, bases first, in the order in which they came.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = rows_as_dicts(connection, _CANDIDATES)
    return [ListedCandidate(**row) for row in rows]


def listed_scores(db: Path, tasks: Sequence[str] | None = None, candidate: str | None = None) -> list[ListedScore]:
    """Return the scores of the newest cell of each candidate and task.

    Args:
        db: The database file.
        tasks: Names of tasks and groups; None takes all.
        candidate: Only those of the candidate of this name.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(
            _SCORES, {"tasks": None if tasks is None else list(tasks), "candidate": candidate}
        ).fetchall()
    return [_listed_score(*row) for row in rows]


def listed_tasks(db: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of all groups and tasks, each with its members; those of no group have none, groups come first.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(
            """SELECT task, arg_max(members, created), bool_or(kind = 'group') FROM cells
               GROUP BY task ORDER BY 3 DESC, task"""
        ).fetchall()
    return {task: tuple(sorted(members)) for task, members, _ in rows}


def history(db: Path, tasks: Sequence[str], last: int = 20) -> list[Moment]:
    """Return how the scores of tasks went: every finished cell of every candidate, oldest first.

    Args:
        db: The database file.
        tasks: Names of tasks and groups.
        last: At most so many of each candidate, task and metric.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(_HISTORY, {"tasks": list(tasks), "last": last}).fetchall()
    return [Moment(*row) for row in rows]


def evaluations(db: Path, candidate: str) -> list[EvaluationRow]:
    """Return all cells of a candidate, newest first.

    Args:
        db: The database file.
        candidate: Its name; an unknown one has none.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        rows = connection.execute(
            """SELECT task, kind, status, reason, n, n_docs, failed, num_fewshot, engine, dtype, quantization, repeat,
                      seconds, tokens_computed, data_hash, run_id, cells.created
               FROM cells JOIN tasks ON tasks.fingerprint = task_fingerprint
               WHERE candidate_fingerprint = (SELECT fingerprint FROM candidates WHERE name = ?)
               ORDER BY cells.created DESC, task""",
            [candidate],
        ).fetchall()
    return [EvaluationRow(*row) for row in rows]


def _listed_score(candidate: str, cell: str, task: str, kind: str, status: str, *row: Any) -> ListedScore:
    name, filter_name, value, stderr, low, high, better, n, failed, n_docs, seen, members = row
    metric = MetricValue(name, filter_name, value, stderr, None if low is None else (low, high), better)
    return ListedScore(candidate, cell, task, kind, status, metric, n, failed, n_docs, seen, tuple(members))


# A candidate's base has the same model without an adapter, or is what it was trained on, or was evaluated beside it.
_CANDIDATES = """
WITH used AS (
    SELECT candidate_fingerprint, max(seen) AS evaluated, max_by({'dtype': dtype, 'q': quantization}, seen) AS how
    FROM cells JOIN (SELECT cell_id, max(recorded) AS seen FROM run_cells GROUP BY cell_id) ON cell_id = cells.id
    GROUP BY ALL),
trained AS (
    SELECT candidate_fingerprint, max_by({'method': method, 'base': base_sha256, 'total': total_parameters,
                                          'trained': trained_parameters}, started) AS last
    FROM training_runs WHERE candidate_fingerprint IS NOT NULL GROUP BY ALL),
sizes AS (
    SELECT base_sha256,
           min(total_parameters - CASE WHEN method IN ('full', 'partial') THEN 0 ELSE trained_parameters END)
               AS parameters
    FROM training_runs WHERE total_parameters IS NOT NULL GROUP BY ALL),
known AS MATERIALIZED (
    SELECT candidates.*, evaluated, how, last, sizes.parameters AS base_parameters,
           CASE WHEN adapter_sha256 IS NOT NULL THEN 'adapter'
                WHEN name = 'base'
                     OR model_sha256 IN (SELECT model_sha256 FROM candidates WHERE adapter_sha256 IS NOT NULL)
                     OR model_sha256 IN (SELECT last.base FROM trained) THEN 'base'
                ELSE 'checkpoint' END AS kind
    FROM candidates JOIN used ON used.candidate_fingerprint = fingerprint
    LEFT JOIN trained ON trained.candidate_fingerprint = fingerprint
    LEFT JOIN sizes ON sizes.base_sha256 = model_sha256),
bases AS (SELECT model_sha256, min_by(name, created) AS name FROM known WHERE adapter_sha256 IS NULL GROUP BY ALL),
strangers AS (
    SELECT name, run_cells.run_id, max(recorded) AS recorded FROM known
    JOIN cells ON candidate_fingerprint = fingerprint JOIN run_cells ON cell_id = cells.id
    WHERE known.kind = 'checkpoint' AND last IS NULL GROUP BY ALL),
beside AS (
    SELECT strangers.name, max_by(base.name, strangers.recorded) AS base FROM strangers
    JOIN run_cells USING (run_id) JOIN cells ON cells.id = cell_id
    JOIN known AS base ON base.fingerprint = candidate_fingerprint AND base.kind = 'base' GROUP BY ALL)
SELECT known.name, fingerprint,
       CASE kind WHEN 'adapter' THEN coalesce(bases.name, model_id) WHEN 'base' THEN known.name
                 ELSE coalesce(taught.name, beside.base, known.name) END AS base,
       kind, coalesce(last.method, lower(adapter_kind)) AS method, model_id,
       coalesce(last.total, base_parameters) AS parameters, last.trained AS trained_parameters,
       how.q AS quantization, how.dtype AS dtype, created, evaluated
FROM known
LEFT JOIN bases USING (model_sha256)
LEFT JOIN bases AS taught ON taught.model_sha256 = last.base
LEFT JOIN beside ON beside.name = known.name
ORDER BY kind <> 'base', created, known.name
"""

# As ``cells.find_cells`` chooses: the cell that the latest run computed or reused.
_SCORES = """
WITH mine AS MATERIALIZED (
    SELECT name, cells.id, cells.task, kind, cells.status, n, failed, members, task_fingerprint, cells.created
    FROM cells JOIN candidates ON candidates.fingerprint = candidate_fingerprint
    WHERE ($candidate IS NULL OR name = $candidate) AND ($tasks IS NULL OR list_contains($tasks, cells.task))),
used AS (
    SELECT cell_id, arg_max(status, recorded) AS status, max(recorded) AS seen
    FROM run_cells WHERE cell_id IN (SELECT id FROM mine) GROUP BY cell_id),
chosen AS (
    SELECT mine.*, seen FROM mine JOIN used ON cell_id = id
    WHERE used.status = 'reused' OR used.status = mine.status
    QUALIFY row_number() OVER (PARTITION BY name, task ORDER BY seen DESC, created DESC) = 1)
SELECT chosen.name, id, task, kind, status, metric, filter, value, stderr, ci_low, ci_high, higher_is_better,
       n, failed, n_docs, seen, members
FROM chosen JOIN tasks ON tasks.fingerprint = task_fingerprint JOIN metrics ON cell_id = id
ORDER BY task, chosen.name, metrics.rowid
"""

_HISTORY = """
SELECT name, task, metric, filter, cells.created, value
FROM cells JOIN candidates ON candidates.fingerprint = candidate_fingerprint JOIN metrics ON cell_id = cells.id
WHERE status = 'done' AND list_contains($tasks, task)
QUALIFY row_number() OVER (PARTITION BY name, task, metric, filter ORDER BY cells.created DESC) <= $last
ORDER BY cells.created
"""

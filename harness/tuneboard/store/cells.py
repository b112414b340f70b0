"""Cells by the names that people give: a candidate, a task, a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tuneboard.errors import UnknownName
from tuneboard.records import CellKey, CellKind, CellStatus, TokenCount
from tuneboard.store.database import rows_as_dicts

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class CellRow:
    """One result of one candidate on one task or group."""

    id: str
    scope: str
    candidate: str
    """Name; weights with two names give two rows."""
    candidate_fingerprint: str
    task: str
    task_fingerprint: str
    num_fewshot: int
    generation: str
    kind: CellKind
    status: CellStatus
    """With a run named: what that run did with it."""
    reason: str | None
    n: int
    failed: int
    seconds: float
    tokens: TokenCount
    engine: str
    dtype: str
    quantization: str | None
    repeat: int
    documents: str
    members: tuple[str, ...]
    run: str
    """The run that computed it."""
    created: datetime
    seen: datetime
    """When the latest run (or the named one) computed or reused it."""

    @property
    def key(self) -> CellKey:
        """What it is a result of."""
        return CellKey(
            candidate=self.candidate_fingerprint,
            task=self.task_fingerprint,
            generation=self.generation,
            engine=self.engine,
            dtype=self.dtype,
            quantization=self.quantization,
            repeat=self.repeat,
            documents=self.documents,
        )


def newest(found: Iterable[CellRow]) -> list[CellRow]:
    """Return the newest cell of each candidate and task, oldest first.

    Args:
        found: Cells, newest first, as ``cells`` returns them.
    """
    chosen: dict[tuple[str, str], CellRow] = {}
    for cell in found:
        chosen.setdefault((cell.candidate, cell.task), cell)
    return sorted(chosen.values(), key=lambda cell: cell.seen)


def find_cells(
    connection: duckdb.DuckDBPyConnection,
    *,
    run: str | None = None,
    candidate: str | None = None,
    task: str | None = None,
    ids: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[CellRow]:
    """Return all cells that fit, newest first; None fits everything.

    Args:
        connection: An open database.
        run: Id of a run.
        candidate: Name of a candidate.
        task: Name of a task or group.
        ids: ``CellKey.id`` of each.
        names: Of candidates.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
    """
    wanted = {"run": run, "candidate": candidate, "task": task, "ids": ids, "names": names}
    rows = rows_as_dicts(connection, _CELLS, wanted)
    if not rows:
        _refuse_unknown(connection, "run", run, "SELECT id FROM runs")
        _refuse_unknown(connection, "candidate", candidate, "SELECT name FROM candidates")
        _refuse_unknown(connection, "task", task, "SELECT DISTINCT name FROM tasks")
    return [_cell_row(row) for row in rows]


def _cell_row(row: dict[str, Any]) -> CellRow:
    names = [field.name for field in fields(TokenCount)]
    tokens = TokenCount(**{name: row.pop(f"tokens_{name}") for name in names})
    return CellRow(**row | {"tokens": tokens, "members": tuple(row["members"])})


def _refuse_unknown(connection: duckdb.DuckDBPyConnection, what: str, name: str | None, names: str) -> None:
    known = [] if name is None else [found for (found,) in connection.execute(names).fetchall()]
    if name is not None and name not in known:
        raise UnknownName(what, name, known, f"see: tuneboard show {'models' if what == 'candidate' else what + 's'}")


# A run's failed cell that a later run replaced is not shown as the earlier run's result.
_CELLS = """
SELECT cells.id, scope, candidates.name AS candidate, candidate_fingerprint, cells.task, task_fingerprint, num_fewshot,
       generation, kind, CASE WHEN $run IS NULL THEN cells.status ELSE used.status END AS status, reason, n, failed,
       seconds, COLUMNS('tokens_.*'), cells.engine, dtype, quantization, repeat, documents, members,
       cells.run_id AS run, cells.created, used.seen
FROM cells
JOIN candidates ON candidates.fingerprint = candidate_fingerprint
JOIN tasks ON tasks.fingerprint = task_fingerprint
JOIN (SELECT cell_id, arg_max(status, recorded) AS status, max(recorded) AS seen
      FROM run_cells WHERE $run IS NULL OR run_id = $run GROUP BY cell_id) AS used ON used.cell_id = cells.id
WHERE ($candidate IS NULL OR candidates.name = $candidate) AND ($task IS NULL OR cells.task = $task)
  AND ($ids IS NULL OR list_contains($ids, cells.id))
  AND ($names IS NULL OR list_contains($names, candidates.name))
  AND (used.status = 'reused' OR used.status = cells.status)
ORDER BY used.seen DESC, cells.created DESC, candidates.created
"""

"""What answering took, as the database knows it: for gates on speed and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.records import Cost
from tuneboard.store.baselines import Baseline
from tuneboard.store.cells import find_cells
from tuneboard.store.database import reading, writing
from tuneboard.store.rows import utc_now

if TYPE_CHECKING:
    import duckdb

#: Columns of the table ``costs`` that are fields of ``Cost``.
_MEASURED = (
    "tokens_per_s",
    "latency_p95_s",
    "peak_memory_gib",
    "first_token_s",
    "latency_p50_s",
    "latency_p99_s",
    "joules_per_token",
    "energy_source",
    "timed",
)


def keep_costs(db: Path, requests: str, costs: Mapping[str, Cost]) -> None:
    """Store what was measured of candidates, each by itself, on the same requests.

    Args:
        db: The database file; made when missing.
        requests: Hash over the requests.
        costs: Fingerprint of a candidate to what was measured of it.

    Raises:
        StoreError: The database cannot be written.
    """
    now = utc_now()
    with writing(db) as connection:
        connection.executemany(
            f"INSERT INTO costs (candidate_fingerprint, requests, machine, measured, {', '.join(_MEASURED)}) "
            f"VALUES (?, ?, ?, ?{', ?' * len(_MEASURED)})",
            [
                [weights, requests, cost.machine, now, *(getattr(cost, name) for name in _MEASURED)]
                for weights, cost in costs.items()
            ],
        )


def measured_costs(
    db: Path, names: Sequence[str], *, run: str | None = None, baseline: Baseline | None = None
) -> dict[str, Cost]:
    """Return the speed and memory of candidates.

    What ``keep_costs`` stored counts, where all of them were measured on the same requests and machine. Else there is
    the speed of their evaluations over the tasks that all of them have: tokens that went through the model while its
    own requests were answered. Latency and memory are not known then, since candidates are evaluated together.

    Args:
        db: The database file.
        names: Of candidates; those of which nothing was measured are left out.
        run: The evaluations of this run alone count.
        baseline: Stands for the candidate that it was made of, under its label.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        weights = dict(connection.execute("SELECT name, fingerprint FROM candidates").fetchall())
        if baseline is not None:
            weights[baseline.label] = baseline.fingerprint
        known = {name: weights[name] for name in names if name in weights}
        if run is None and len(known) == len(names) and (kept := _kept(connection, known)):
            return kept
        return _of_evaluations(connection, known, run)


def efficiency(db: Path, names: Sequence[str]) -> dict[str, Cost]:
    """Return the newest measurement of each candidate, else the speed of its own evaluations; for looking, not judging.

    Unlike ``measured_costs``, candidates need not have been measured on the same requests and machine.

    Args:
        db: The database file.
        names: Of candidates; those of which nothing was measured are left out.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        weights = dict(connection.execute("SELECT name, fingerprint FROM candidates").fetchall())
        found: dict[str, Cost] = {}
        for name in names:
            known = {name: weights[name]} if name in weights else {}
            found |= (_kept(connection, known) or _of_evaluations(connection, known, None)) if known else {}
    return found


def machine_name(engine: Mapping[str, Any], hardware: Mapping[str, Any]) -> str:
    """Name what work was done on, by which costs of different machines are told apart.

    Args:
        engine: With its ``device``, which names a GPU.
        hardware: From ``machine.hardware``.
    """
    parts = [engine.get("device"), hardware.get("cpu"), hardware.get("cores")]
    return ", ".join(str(part) for part in parts if part)


def _kept(connection: duckdb.DuckDBPyConnection, weights: Mapping[str, str]) -> dict[str, Cost]:
    """Return the newest measurements that all candidates have on the same requests and machine."""
    rows = connection.execute(
        f"""SELECT candidate_fingerprint, requests, machine, {", ".join(_MEASURED)} FROM costs
           WHERE candidate_fingerprint IN (SELECT unnest(?::VARCHAR[])) ORDER BY measured DESC, rowid DESC""",
        [sorted(set(weights.values()))],
    ).fetchall()
    by_setting: dict[tuple[str, str], dict[str, Cost]] = {}
    for candidate, requests, machine, *measured in rows:
        cost = Cost(machine=machine, **dict(zip(_MEASURED, measured, strict=True)))
        by_setting.setdefault((requests, machine), {}).setdefault(candidate, cost)
    wanted = set(weights.values())
    found: dict[str, Cost] = next((costs for costs in by_setting.values() if wanted <= costs.keys()), {})
    return {name: found[candidate] for name, candidate in weights.items()} if found else {}


def _of_evaluations(
    connection: duckdb.DuckDBPyConnection, weights: Mapping[str, str], run: str | None
) -> dict[str, Cost]:
    of_weights: dict[str, dict[str, Any]] = {candidate: {} for candidate in weights.values()}
    for cell in find_cells(connection, run=run):
        if cell.kind == "task" and cell.candidate_fingerprint in of_weights:
            # Newest first.
            of_weights[cell.candidate_fingerprint].setdefault(cell.task, cell)
    timed = {
        candidate: {task: cell for task, cell in cells.items() if cell.seconds > 0 and cell.tokens.computed}
        for candidate, cells in of_weights.items()
    }
    shared = sorted(set.intersection(*map(set, timed.values()))) if timed else []
    if not shared:
        return {}
    rows = connection.execute(
        "SELECT id, engine, hardware FROM runs WHERE id IN (SELECT unnest(?::VARCHAR[]))",
        [sorted({cell.run for cells in timed.values() for cell in cells.values()})],
    ).fetchall()
    machines = {run_id: machine_name(json.loads(engine), json.loads(hardware)) for run_id, engine, hardware in rows}
    costs = {}
    for name, candidate in weights.items():
        mine = [timed[candidate][task] for task in shared]
        speed = sum(cell.tokens.computed for cell in mine) / sum(cell.seconds for cell in mine)
        costs[name] = Cost(tokens_per_s=speed, machine="; ".join(sorted({machines.get(cell.run, "") for cell in mine})))
    return costs

"""What answering took, as the database knows it: for gates on speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneboard.gates import Cost
from tuneboard.store.cells import find_cells, newest
from tuneboard.store.database import reading


def measured_costs(db: Path, names: Sequence[str], *, run: str | None = None) -> dict[str, Cost]:
    """Return the speed of candidates over the tasks that all of them have.

    Tokens per second are those that went through the model while its own requests were answered. Latency and memory
    are not kept per candidate: candidates of one base share a model in memory.

    Args:
        db: The database file.
        names: Of candidates; those without a timed result are left out.
        run: Results of this run instead of the newest.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        cells = [cell for cell in newest(find_cells(connection, run=run)) if cell.candidate in names]
        timed = [cell for cell in cells if cell.kind == "task" and cell.seconds > 0 and cell.tokens.computed]
        of_name = {name: {cell.task: cell for cell in timed if cell.candidate == name} for name in names}
        shared = set.intersection(*map(set, of_name.values())) if of_name else set()
        rows = connection.execute(
            "SELECT id, engine, hardware FROM runs WHERE id IN (SELECT unnest(?::VARCHAR[]))",
            [sorted({cell.run for cell in timed})],
        ).fetchall()
    machines = {run_id: _machine(json.loads(engine), json.loads(hardware)) for run_id, engine, hardware in rows}
    costs = {}
    for name, by_task in of_name.items():
        mine = [by_task[task] for task in sorted(shared)]
        if mine:
            speed = sum(cell.tokens.computed for cell in mine) / sum(cell.seconds for cell in mine)
            places = sorted({machines.get(cell.run, "") for cell in mine})
            costs[name] = Cost(tokens_per_s=speed, machine="; ".join(places))
    return costs


def _machine(engine: Mapping[str, Any], hardware: Mapping[str, Any]) -> str:
    parts = [engine.get("device"), hardware.get("cpu"), hardware.get("cores")]
    return ", ".join(str(part) for part in parts if part)

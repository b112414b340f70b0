"""How a baseline is made: a candidate's newest results, as compact as text can be."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.errors import DataError
from tuneboard.records import MetricValue, fingerprint
from tuneboard.store.baselines import SCHEMA, Baseline, baseline_path
from tuneboard.store.blessed import hashed_config, packed
from tuneboard.store.cells import CellRow, find_cells, newest
from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.results import load_metrics
from tuneboard.store.rows import utc_now

if TYPE_CHECKING:
    import duckdb

_FINISHED = ("done", "reused")
_REF = ("name", "fingerprint", "version", "num_fewshot", "output_type", "data_hash", "n_docs")


def bless(db: Path, candidate: str, name: str, chosen: Collection[str] | None = None) -> tuple[Baseline, str]:
    """Make a baseline of a candidate's newest results.

    Args:
        db: The database file.
        candidate: Its name.
        name: Of the baseline.
        chosen: Tasks and groups to take; None takes all.

    Returns:
        The baseline, and the text of its file, which is to be written to its ``path``.

    Raises:
        UnknownName: The database has no such candidate.
        DataError: There is nothing to bless, or a result did not finish.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        cells = newest(find_cells(connection, candidate=candidate))
        cells = [cell for cell in cells if chosen is None or cell.task in chosen]
        if not cells:
            asked = "" if chosen is None else " on the tasks that were asked for"
            raise DataError(f"'{candidate}' has no result to bless{asked}; see: tuneboard show {candidate} --db {db}")
        if bad := next((cell for cell in cells if cell.status not in _FINISHED), None):
            raise DataError(
                f"the newest result of '{candidate}' on {bad.task} is {bad.status}; evaluate it again, then bless"
            )
        refs = _refs(connection, cells)
        metrics = load_metrics(connection, [cell.id for cell in cells])
        entries = [_entry(connection, cell, refs[cell.task_fingerprint], metrics.get(cell.id, ())) for cell in cells]
    path = baseline_path(name)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "candidate": candidate,
        "fingerprint": cells[0].candidate_fingerprint,
        "blessed": utc_now().isoformat(timespec="seconds") + "Z",
        "tasks": entries,
    }
    # What JSON makes of it is what is hashed, as it is when it is read.
    content = json.loads(json.dumps(content))
    digest = fingerprint(content)
    made = Baseline(path.stem, path, candidate, content["fingerprint"], content["blessed"], digest, tuple(entries))
    return made, _text(content, digest)


def _refs(connection: duckdb.DuckDBPyConnection, cells: Sequence[CellRow]) -> dict[str, dict[str, Any]]:
    rows = rows_as_dicts(
        connection,
        f"SELECT {', '.join(_REF)}, config FROM tasks WHERE fingerprint IN (SELECT unnest(?::VARCHAR[]))",
        [sorted({cell.task_fingerprint for cell in cells})],
    )
    return {row["fingerprint"]: row for row in rows}


def _entry(
    connection: duckdb.DuckDBPyConnection, cell: CellRow, ref: Mapping[str, Any], metrics: Sequence[MetricValue]
) -> dict[str, Any]:
    docs = connection.execute("SELECT doc_id FROM samples WHERE cell_id = ? ORDER BY doc_id", [cell.id]).fetchall()
    ids = [doc for (doc,) in docs]
    rows = connection.execute("SELECT doc_id, metric, filter, value, detail FROM scores WHERE cell_id = ?", [cell.id])
    scores: dict[tuple[str, str], dict[int, Any]] = {}
    details: dict[tuple[str, str], dict[int, Any]] = {}
    for doc, metric, filter_name, value, detail in rows.fetchall():
        if value is not None and math.isfinite(value):
            scores.setdefault((metric, filter_name), {})[doc] = value
        elif detail is not None:
            details.setdefault((metric, filter_name), {})[doc] = json.loads(detail)
    return {
        "ref": {key: ref[key] for key in _REF},
        "config": hashed_config(json.loads(ref["config"])),
        "key": asdict(cell.key),
        "kind": cell.kind,
        "n": cell.n,
        "failed": cell.failed,
        "created": cell.created.isoformat(),
        "members": list(cell.members),
        "docs": packed(ids),
        "metrics": [_metric_entry(metric, ids, scores, details) for metric in metrics],
    }


def _metric_entry(
    metric: MetricValue,
    ids: Sequence[int],
    scores: Mapping[tuple[str, str], Mapping[int, Any]],
    details: Mapping[tuple[str, str], Mapping[int, Any]],
) -> dict[str, Any]:
    name = (metric.metric, metric.filter)
    value = metric.value if math.isfinite(metric.value) else None
    entry = {"metric": name[0], "filter": name[1], "value": value, "higher_is_better": metric.higher_is_better}
    if name in details:
        return entry | {"details": [details[name].get(doc) for doc in ids]}
    if name not in scores:
        return entry
    values = [scores[name].get(doc) for doc in ids]
    if all(one in (0.0, 1.0, None) for one in values):
        return entry | {"scores": "".join("-" if one is None else "01"[int(one)] for one in values)}
    return entry | {"scores": values}


def _text(content: Mapping[str, Any], digest: str) -> str:
    """Lay the file out with a line per task, so that a diff names those that changed."""
    head = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in content.items() if key != "tasks"]
    tasks = ",\n".join(json.dumps(task, separators=(",", ":")) for task in content["tasks"])
    return "\n".join(["{", *head, f'"sha256": "{digest}",', '"tasks": [', tasks, "]}", ""])

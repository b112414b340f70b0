"""Samples as they are exported: streamed page by page, so that nobody is kept from writing by a slow reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tuneboard.errors import DataError, UnknownName
from tuneboard.store.cells import CellRow, find_cells
from tuneboard.store.database import reading

#: Documents that are fetched under one lock; opening costs 15 ms, a page of this size about 150 ms.
PAGE_DOCS = 4000


def samples(
    db: Path, candidate: str, task: str, *, run: str | None = None, filter: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one record per sample and filter, in the order of documents.

    Args:
        db: The database file.
        candidate: Name of the candidate.
        task: Name of a task; groups have no samples of their own.
        run: Take the cell that this run computed or reused, instead of the newest.
        filter: Only this filter's scores.

    Returns:
        Records with the keys ``candidate``, ``task``, ``doc_id``, ``doc_hash``, ``occurrence``, ``prompt_hash``,
        ``prompt``, ``choices``, ``cluster``, ``filter``, ``status``, ``reason``, ``target``, ``responses``,
        ``filtered``, ``metrics``. Metrics of failed samples are None.

    Raises:
        UnknownName: No such run, candidate, task or filter.
        DataError: The cell did not finish, or is a group.
        StoreError: The database is missing or cannot be read.
    """
    return samples_of(db, choose_cell(db, candidate, task, run), filter)


def samples_of(db: Path, cell: CellRow, filter: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of a result that was chosen; filter, records and errors as for ``samples``."""
    names = _metric_names(db, cell)
    if filter is not None and filter not in names:
        raise UnknownName("filter", filter, names, f"task '{cell.task}' has {', '.join(names)}")
    return _stream(db, cell, names if filter is None else {filter: names[filter]})


def choose_cell(db: Path, candidate: str, task: str, run: str | None) -> CellRow:
    """Return the result whose samples are meant; arguments and errors as for ``samples``."""
    with reading(db) as connection:
        found = find_cells(connection, run=run, candidate=candidate, task=task)
    what = f"candidate '{candidate}' on task '{task}'" + (f" in run {run}" if run else "")
    if not found:
        raise DataError(f"no result of {what}; see: tuneboard show {candidate} --db {db}")
    cell = found[0]
    if cell.kind == "group":
        raise DataError(f"'{task}' is a group; its samples belong to its tasks: name one of {', '.join(cell.members)}")
    if cell.status == "failed" or (cell.status == "invalid" and run is None):
        finished = next((other.run for other in found if other.status in ("done", "reused")), None)
        another = f"or name an earlier run: --run {finished}" if finished else "or evaluate it again"
        reason = f" ({cell.reason})" if cell.reason else ""
        raise DataError(f"the newest result of {what} is {cell.status}{reason}; look into the reason, {another}")
    return cell


def _metric_names(db: Path, cell: CellRow) -> dict[str, list[str]]:
    """Return ``{filter: metrics}`` of the samples of a cell; ``none`` alone where all of them failed."""
    with reading(db) as connection:
        rows = connection.execute(
            "SELECT filter, metric FROM scores WHERE cell_id = ? GROUP BY ALL ORDER BY min(rowid)", [cell.id]
        ).fetchall()
    names: dict[str, list[str]] = {}
    for filter_name, metric in rows:
        names.setdefault(filter_name, []).append(metric)
    return names or {"none": []}


def _stream(db: Path, cell: CellRow, names: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    last = None
    while page := _page(db, cell, last):
        for row, scores in page:
            yield from _records(cell, names, row, scores)
        if len(page) < PAGE_DOCS:
            return
        last = page[-1][0][0]


_Row = tuple[Any, ...]
_Scores = dict[str, dict[str, Any]]


def _page(db: Path, cell: CellRow, last: int | None) -> list[tuple[_Row, _Scores]]:
    with reading(db) as connection:
        rows = connection.execute(
            f"""SELECT samples.doc_id, doc_hash, occurrence, prompt_hash, prompt, choices, cluster, target,
                       status, reason, responses, filtered
                FROM samples JOIN documents ON documents.doc_id = samples.doc_id AND task_fingerprint = $task
                WHERE cell_id = $cell AND ($last IS NULL OR samples.doc_id > $last)
                ORDER BY samples.doc_id LIMIT {PAGE_DOCS}""",
            {"task": cell.task_fingerprint, "cell": cell.id, "last": last},
        ).fetchall()
        if not rows:
            return []
        scores = connection.execute(
            """SELECT doc_id, filter, metric, value, detail FROM scores
               WHERE cell_id = ? AND doc_id BETWEEN ? AND ? ORDER BY doc_id, rowid""",
            [cell.id, rows[0][0], rows[-1][0]],
        ).fetchall()
    of_doc: dict[int, _Scores] = {}
    for doc_id, group in groupby(scores, key=lambda score: score[0]):
        for _, filter_name, metric, value, detail in group:
            number = value if detail is None else json.loads(detail)
            of_doc.setdefault(doc_id, {}).setdefault(filter_name, {})[metric] = number
    return [(row, of_doc.get(row[0], {})) for row in rows]


def _records(cell: CellRow, names: dict[str, list[str]], row: _Row, scores: _Scores) -> Iterator[dict[str, Any]]:
    doc_id, doc_hash, occurrence, prompt_hash, prompt, choices, cluster, target, *outcome = row
    status, reason, responses, filtered = outcome
    answers = json.loads(responses)
    of_filter = json.loads(filtered) if filtered else {}
    for filter_name, metrics in names.items():
        values = scores.get(filter_name, {})
        yield {
            "candidate": cell.candidate,
            "task": cell.task,
            "doc_id": doc_id,
            "doc_hash": doc_hash,
            "occurrence": occurrence,
            "prompt_hash": prompt_hash,
            "prompt": prompt,
            "choices": choices,
            "cluster": cluster,
            "filter": filter_name,
            "status": status,
            "reason": reason,
            "target": target,
            "responses": answers,
            "filtered": of_filter.get(filter_name),
            "metrics": {metric: values.get(metric) for metric in metrics},
        }

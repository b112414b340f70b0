"""The samples of one page in short, and one of them in full."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.compare.scores import MetricName
from tuneboard.errors import DataError
from tuneboard.store.answers import answer, choice_scores, chosen, cut_responses, right_choice, shown_target
from tuneboard.store.browsing import SampleKey, SamplePair
from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.searching import question

if TYPE_CHECKING:
    import duckdb

#: Characters of a text that a row of a page takes from the database, more than anyone reads in a cell.
_ROW_CHARS = 2000
#: Characters of one answer that are opened; a longer one is cut.
_OPEN_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample in short; texts may be cut anywhere and may hold lone surrogates."""

    task: str
    doc_id: int
    question: str
    target: str
    base: str
    """Its answer."""
    candidate: str


@dataclass(frozen=True, slots=True)
class Side:
    """What one candidate made of a sample. Texts may hold lone surrogates."""

    status: str
    """``ok``, ``failed``, or ``missing`` where it has no such sample."""
    reason: str | None
    texts: tuple[str, ...]
    """Generated answers."""
    counted: str | None
    """What the metric's filter made of them, where it is something else."""
    scores: tuple[float, ...]
    """(choices,) Log-probability of each, or that of the whole text; empty for generations."""
    chosen: int | None
    """The choice that it prefers."""
    metrics: Mapping[MetricName, float | None]


@dataclass(frozen=True, slots=True)
class OpenSample:
    """One sample in full."""

    task: str
    doc_id: int
    doc_hash: str
    cluster: str | None
    prompt: str
    question: str
    """The end of the prompt, without few-shot examples."""
    choices: tuple[str, ...]
    target: str
    right: int | None
    """The right choice, where the target tells."""
    base: Side
    candidate: Side


def sample_rows(db: Path, pairs: Sequence[SamplePair], keys: Sequence[SampleKey]) -> list[SampleRow]:
    """Return samples in short, in the order of their keys.

    Args:
        db: The database file.
        pairs: The tasks that the keys name, from ``find_pairs``.
        keys: From ``SampleIndex.key``; a page of them. What is no longer there is left out.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    by_task = {pair.task: pair for pair in pairs}
    wanted = [(by_task[task], doc_id) for task, doc_id in keys]
    with reading(db) as connection:
        documents, samples = _fetch(connection, wanted, _ROW_CHARS)
    rows = []
    for pair, doc_id in wanted:
        if document := documents.get((pair.block.cells[0].task_fingerprint, doc_id)):
            choices = document["choices"]
            answers = [_short(samples.get((cell.id, doc_id)), choices, pair.metric) for cell in pair.block.cells]
            asked = question(document["prompt"], pair.block.cells[0].num_fewshot)
            target = shown_target(document["target"], choices)
            rows.append(SampleRow(pair.task, doc_id, asked, target, *answers))
    return rows


def open_sample(db: Path, pair: SamplePair, doc_id: int) -> OpenSample:
    """Return one sample in full.

    Args:
        db: The database file.
        pair: Its task.
        doc_id: Its document.

    Raises:
        DataError: There is no such document.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        documents, samples = _fetch(connection, [(pair, doc_id)], _OPEN_CHARS)
        metrics = _metrics(connection, pair, doc_id)
    first = pair.block.cells[0]
    document = documents.get((first.task_fingerprint, doc_id))
    if document is None:
        raise DataError(f"task '{pair.task}' has no document {doc_id}; choose a sample from the list")
    choices = tuple(document["choices"])
    sides = [
        _side(samples.get((cell.id, doc_id)), choices, pair.metric, metrics.get(cell.id, {}))
        for cell in pair.block.cells
    ]
    return OpenSample(
        task=pair.task,
        doc_id=doc_id,
        doc_hash=document["doc_hash"],
        cluster=document["cluster"],
        prompt=document["whole"],
        question=question(document["prompt"], first.num_fewshot),
        choices=choices,
        target=document["target"],
        right=right_choice(document["target"], choices),
        base=sides[0],
        candidate=sides[1],
    )


_Rows = dict[tuple[str, int], dict[str, Any]]


def _fetch(
    connection: duckdb.DuckDBPyConnection, wanted: Sequence[tuple[SamplePair, int]], chars: int
) -> tuple[_Rows, _Rows]:
    """Return documents by task and number, and samples by cell and number."""
    of_pair: dict[SamplePair, list[int]] = {}
    for pair, doc_id in wanted:
        of_pair.setdefault(pair, []).append(doc_id)
    documents: _Rows = {}
    samples: _Rows = {}
    for pair, doc_ids in of_pair.items():
        task = pair.block.cells[0].task_fingerprint
        for row in rows_as_dicts(connection, _DOCUMENTS, {"chars": chars, "task": task, "wanted": doc_ids}):
            documents[task, row["doc_id"]] = row
        for cell, (first, last) in zip(pair.block.cells, pair.samples, strict=True):
            place = {"chars": chars, "first": first, "last": last, "cell": cell.id, "wanted": doc_ids}
            for row in rows_as_dicts(connection, _SAMPLES, place):
                samples[cell.id, row["doc_id"]] = row
    return documents, samples


_DOCUMENTS = """
SELECT doc_id, doc_hash, cluster, right(prompt, $chars) AS prompt, left(prompt, $chars) AS whole,
       list_transform(choices, lambda one: left(one, $chars)) AS choices, left(target, $chars) AS target
FROM documents WHERE task_fingerprint = $task AND doc_id IN (SELECT unnest($wanted::BIGINT[]))"""

# JSON in ASCII takes up to six characters for one.
_SAMPLES = """
SELECT doc_id, status, reason, left(responses, 6 * $chars) AS responses,
       CASE WHEN strlen(filtered) <= 6 * $chars THEN filtered END AS filtered
FROM samples WHERE rowid BETWEEN $first AND $last AND cell_id = $cell
    AND doc_id IN (SELECT unnest($wanted::BIGINT[]))"""


def _metrics(
    connection: duckdb.DuckDBPyConnection, pair: SamplePair, doc_id: int
) -> dict[str, dict[MetricName, float | None]]:
    found: dict[str, dict[MetricName, float | None]] = {}
    for cell, (first, last) in zip(pair.block.cells, pair.scores, strict=True):
        rows = connection.execute(
            """SELECT metric, filter, value FROM scores
               WHERE rowid BETWEEN ? AND ? AND cell_id = ? AND doc_id = ? ORDER BY rowid""",
            [first, last, cell.id, doc_id],
        ).fetchall()
        found[cell.id] = {(metric, filter_name): value for metric, filter_name, value in rows}
    return found


def _short(row: Mapping[str, Any] | None, choices: Sequence[str], metric: MetricName) -> str:
    if row is None:
        return ""
    if row["status"] == "failed":
        return f"(failed: {row['reason']})"
    return answer(cut_responses(row["responses"]), _filtered(row), choices, *metric)


def _side(
    row: Mapping[str, Any] | None,
    choices: Sequence[str],
    metric: MetricName,
    metrics: Mapping[MetricName, float | None],
) -> Side:
    if row is None:
        return Side("missing", None, (), None, (), None, metrics)
    responses = cut_responses(row["responses"])
    texts = tuple(one for one in responses if isinstance(one, str))
    scores = choice_scores(responses, choices) or tuple(one for one in responses if isinstance(one, float))
    counted = answer(responses, _filtered(row), choices, *metric) if texts else None
    return Side(
        status=row["status"],
        reason=row["reason"],
        texts=texts,
        counted=None if counted in texts else counted,
        scores=scores,
        chosen=chosen(scores, choices, metric[0]) if len(scores) == len(choices) > 1 else None,
        metrics=metrics,
    )


def _filtered(row: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    return json.loads(row["filtered"]) if row["filtered"] else None

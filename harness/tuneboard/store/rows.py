"""A ``TaskResult`` as Arrow tables, ready for bulk inserts (row by row takes minutes for MMLU, this a second)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tuneboard.records import SampleScore, TaskResult
from tuneboard.store.responses import dump

if TYPE_CHECKING:
    import pyarrow as pa


def utc_now() -> datetime:
    """Return the time as the database keeps it: UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def as_json(value: Any) -> str:
    """Return JSON in ASCII, which every column takes; what JSON does not know is written as text."""
    return json.dumps(_jsonable(value), default=str, separators=(",", ":"))


def clean(text: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def result_tables(result: TaskResult, run_id: str) -> dict[str, pa.Table]:
    """Return the rows of a result by table name: ``cells``, ``metrics``, ``documents``, ``samples``, ``scores``.

    Args:
        result: What to store; groups have no samples.
        run_id: The run that computed it.
    """
    return {
        "cells": _cell_table(result, run_id),
        "metrics": _metric_table(result),
        "documents": _document_table(result.task.fingerprint, result.samples),
        "samples": _sample_table(result.key.id, result.samples),
        "scores": _score_table(result.key.id, result.samples),
    }


def _cell_table(result: TaskResult, run_id: str) -> pa.Table:
    import pyarrow as pa

    key, tokens = result.key, result.tokens
    row = {
        "id": key.id,
        "scope": key.scope,
        "candidate_fingerprint": key.candidate,
        "task_fingerprint": key.task,
        "task": clean(result.task.name),
        "generation": key.generation,
        "engine": key.engine,
        "dtype": key.dtype,
        "quantization": key.quantization,
        "repeat": key.repeat,
        "documents": key.documents,
        "kind": result.kind,
        "status": "done" if result.status == "reused" else result.status,
        "reason": None if result.reason is None else clean(result.reason),
        "n": result.n,
        "failed": result.failed,
        "seconds": float(result.seconds),
        "tokens_computed": tokens.computed,
        "tokens_reused": tokens.reused,
        "tokens_distinct": tokens.distinct,
        "tokens_padded": tokens.padded,
        "tokens_truncated": tokens.truncated,
        "members": [clean(member) for member in result.members],
        "run_id": run_id,
        "created": utc_now(),
    }
    table = pa.Table.from_pylist([row])
    # An empty list alone has no element type to infer.
    members = pa.array([row["members"]], pa.list_(pa.string()))
    return table.set_column(table.schema.get_field_index("members"), "members", members)


def _metric_table(result: TaskResult) -> pa.Table:
    import pyarrow as pa

    metrics = result.metrics
    return pa.table(
        {
            "cell_id": _repeat(result.key.id, len(metrics)),
            "metric": _texts([metric.metric for metric in metrics]),
            "filter": _texts([metric.filter for metric in metrics]),
            "value": _doubles([metric.value for metric in metrics]),
            "stderr": _doubles([metric.stderr for metric in metrics]),
            "ci_low": _doubles([metric.ci[0] if metric.ci else None for metric in metrics]),
            "ci_high": _doubles([metric.ci[1] if metric.ci else None for metric in metrics]),
            "higher_is_better": pa.array([metric.higher_is_better for metric in metrics], pa.bool_()),
        }
    )


def _document_table(task_fingerprint: str, samples: Sequence[SampleScore]) -> pa.Table:
    import pyarrow as pa

    documents = [sample.document for sample in samples]
    return pa.table(
        {
            "task_fingerprint": _repeat(task_fingerprint, len(documents)),
            "doc_id": pa.array([document.doc_id for document in documents], pa.int64()),
            "doc_hash": _texts([document.doc_hash for document in documents]),
            "occurrence": pa.array([document.occurrence for document in documents], pa.int32()),
            "prompt_hash": _texts([document.prompt_hash for document in documents]),
            "prompt": _texts([document.prompt for document in documents]),
            "choices": _text_lists([document.choices for document in documents]),
            "target": _texts([document.target for document in documents]),
            "cluster": _texts([document.cluster for document in documents]),
        }
    )


def _sample_table(cell_id: str, samples: Sequence[SampleScore]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "cell_id": _repeat(cell_id, len(samples)),
            "doc_id": pa.array([sample.document.doc_id for sample in samples], pa.int64()),
            "status": pa.array([sample.status for sample in samples], pa.string()),
            "reason": _texts([sample.reason for sample in samples]),
            "request_hashes": _text_lists([sample.request_hashes for sample in samples]),
            "cut": pa.array([list(sample.cut) or None for sample in samples], pa.list_(pa.int32())),
            "responses": pa.array([dump(sample.responses) for sample in samples], pa.string()),
            "filtered": pa.array(
                [as_json(sample.filtered) if sample.filtered else None for sample in samples], pa.string()
            ),
        }
    )


def _score_table(cell_id: str, samples: Sequence[SampleScore]) -> pa.Table:
    import pyarrow as pa

    scores = [
        (sample.document.doc_id, filter_name, metric, _number(value), value)
        for sample in samples
        for filter_name, metrics in sample.metrics.items()
        for metric, value in metrics.items()
    ]
    return pa.table(
        {
            "cell_id": _repeat(cell_id, len(scores)),
            "doc_id": pa.array([score[0] for score in scores], pa.int64()),
            "filter": _texts([score[1] for score in scores]),
            "metric": _texts([score[2] for score in scores]),
            "value": _doubles([score[3] for score in scores]),
            "detail": pa.array([None if score[3] is not None else as_json(score[4]) for score in scores], pa.string()),
        }
    )


def _number(value: Any) -> float | None:
    """Return a Python or NumPy scalar as float, None for anything that is no number."""
    if value is None or isinstance(value, str | bytes | list | tuple | dict):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _jsonable(value: Any) -> Any:
    """Unwrap NumPy arrays and scalars without importing NumPy; sets and tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def _repeat(text: str, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.repeat(pa.scalar(text, pa.string()), count)


def _doubles(values: Sequence[float | None]) -> pa.Array:
    import pyarrow as pa

    # ``from_pandas`` stays off: NaN is a value here, and only None is missing.
    return pa.array([None if value is None else float(value) for value in values], pa.float64())


def _texts(texts: Sequence[str | None]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([None if text is None else clean(text) for text in texts], pa.large_string())


def _text_lists(lists: Sequence[Sequence[str]]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(lists, pa.list_(pa.large_string()))
    except UnicodeEncodeError:
        return pa.array([[clean(text) for text in texts] for texts in lists], pa.list_(pa.large_string()))

"""A baseline's results in the shapes that those of a database have, so that both pair alike."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tuneboard.records import CellKey, MetricValue, TokenCount, fingerprint
from tuneboard.store.baselines import PREFIX, Baseline
from tuneboard.store.cells import CellRow


def baseline_cells(baseline: Baseline) -> list[CellRow]:
    """Return the results of a baseline as rows that pair with those of a database."""
    rows = []
    for entry in baseline.entries:
        key, ref = CellKey(**entry["key"]), entry["ref"]
        created = datetime.fromisoformat(entry["created"])
        rows.append(
            CellRow(
                id=PREFIX + key.id,
                scope=key.scope,
                candidate=baseline.label,
                candidate_fingerprint=key.candidate,
                task=ref["name"],
                task_fingerprint=key.task,
                num_fewshot=ref["num_fewshot"],
                generation=key.generation,
                kind=entry["kind"],
                status="done",
                reason=None,
                n=entry["n"],
                failed=entry["failed"],
                seconds=0.0,
                tokens=TokenCount(),
                engine=key.engine,
                dtype=key.dtype,
                quantization=key.quantization,
                repeat=key.repeat,
                documents=key.documents,
                members=tuple(entry["members"]),
                run="",
                created=created,
                seen=created,
            )
        )
    return rows


def baseline_refs(baseline: Baseline) -> dict[str, dict[str, Any]]:
    """Return task fingerprint to task, as ``choose`` takes them; values of a config are hashes."""
    return {entry["key"]["task"]: {**entry["ref"], "config": json.dumps(entry["config"])} for entry in baseline.entries}


def hashed_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a task's config with a short hash for every value, which tells what differs and stays small."""
    return {key: fingerprint(value)[:8] for key, value in config.items()}


def metric_values(entry: Mapping[str, Any]) -> tuple[MetricValue, ...]:
    """Return the aggregated metrics of one entry."""
    return tuple(
        MetricValue(one["metric"], one["filter"], _revived(one["value"]), None, None, one["higher_is_better"])
        for one in entry["metrics"]
    )


def sample_scores(entry: Mapping[str, Any], metric: Mapping[str, Any]) -> tuple[list[int], list[Any]]:
    """Return documents and their scores on one metric; those that have none are left out.

    Args:
        entry: Of a task.
        metric: One of its ``metrics``.
    """
    scores = metric.get("scores", metric.get("details"))
    if scores is None:
        return [], []
    values = [None if one == "-" else float(one) for one in scores] if isinstance(scores, str) else scores
    found = [(doc, value) for doc, value in zip(unpacked(entry["docs"]), values, strict=True) if value is not None]
    return [doc for doc, _ in found], [value for _, value in found]


def packed(ids: Sequence[int]) -> str:
    """Write ascending ids as ranges: ``0-163`` or ``3,7-9``."""
    ranges: list[list[int]] = []
    for one in ids:
        if ranges and ranges[-1][1] == one - 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def unpacked(text: str) -> list[int]:
    """Read what ``packed`` wrote."""
    ids: list[int] = []
    for part in text.split(",") if text else ():
        low, _, high = part.partition("-")
        ids += range(int(low), int(high or low) + 1)
    return ids


def _revived(value: float | None) -> float:
    return math.nan if value is None else float(value)


def narrowed(baseline: Baseline, asked: Mapping[str, Collection[int]]) -> Baseline:
    """Return a baseline with those documents alone that a gate asked before it was decided.

    Metrics that are no means of their samples are left out of what is narrowed: their value for fewer samples is not
    known.

    Args:
        baseline: Holds them all.
        asked: Task to its documents; other tasks stay as they are.
    """
    return replace(
        baseline,
        entries=tuple(
            _narrowed(entry, sorted(asked[entry["ref"]["name"]]))
            if entry["kind"] == "task" and entry["ref"]["name"] in asked
            else entry
            for entry in baseline.entries
        ),
    )


def _narrowed(entry: Mapping[str, Any], ids: Sequence[int]) -> Mapping[str, Any]:
    if len(ids) == len(unpacked(entry["docs"])):
        return entry
    whole = len(ids) == entry["ref"]["n_docs"]
    metrics = [_narrowed_metric(entry, metric, ids) for metric in entry["metrics"]]
    return {
        **entry,
        "key": {**entry["key"], "documents": "all" if whole else fingerprint(list(ids))},
        "n": len(ids),
        "docs": packed(ids),
        "metrics": [metric for metric in metrics if metric is not None],
    }


def _narrowed_metric(entry: Mapping[str, Any], metric: Mapping[str, Any], ids: Sequence[int]) -> Any:
    scores = dict(zip(*sample_scores(entry, metric), strict=True))
    kept = [scores[doc] for doc in ids if doc in scores]
    if not kept or metric["value"] is None or not all(isinstance(one, int | float) for one in scores.values()):
        return None
    if not math.isclose(math.fsum(scores.values()) / len(scores), metric["value"], rel_tol=1e-6, abs_tol=1e-9):
        return None
    return {**metric, "value": math.fsum(kept) / len(kept), "scores": [scores.get(doc) for doc in ids]}

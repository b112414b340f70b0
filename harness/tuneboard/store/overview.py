"""What pages that look across candidates ask of the database: suites with roles, what candidates took, baselines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.config import SuiteTask
from tuneboard.errors import DataError
from tuneboard.headline import headline_metric
from tuneboard.records import MetricValue
from tuneboard.store.baselines import Baseline, list_baselines, load_baseline, staleness
from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.pairs import entries_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What evaluations were asked, as a comparison's plan takes it."""

    suites: Mapping[str, tuple[SuiteTask, ...]]
    """Suite to its entries as its newest run had them, the newest suite first."""
    tags: Mapping[str, tuple[str, ...]]
    """Tag to its tasks."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a candidate took to make and to ask; None where nobody measured it."""

    name: str
    training_s: float | None
    training_tokens: int | None
    training_memory_gib: float | None
    evaluation_s: float
    """Of all its results together."""
    evaluation_tokens_per_s: float | None
    """Of all its results together: tokens that went through the model."""
    tokens_per_s: float | None
    """Measured by itself for a gate, as the next two."""
    latency_p95_s: float | None
    memory_gib: float | None
    machine: str | None
    """That the last three were measured on."""


def asked(db: Path) -> Asked:
    """Return suites and tags that evaluations were asked.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        suites = connection.execute(
            """SELECT suite, arg_max(settings, started) FROM runs WHERE suite IS NOT NULL
               GROUP BY suite ORDER BY max(started) DESC, suite"""
        ).fetchall()
        tagged = connection.execute(
            """SELECT DISTINCT name, config::JSON -> 'tag' AS tag FROM tasks
               WHERE json_type(config::JSON, '$.tag') IN ('VARCHAR', 'ARRAY') ORDER BY name"""
        ).fetchall()
    tags: dict[str, tuple[str, ...]] = {}
    for name, text in tagged:
        found = json.loads(text)
        for tag in [found] if isinstance(found, str) else found:
            tags[tag] = (*tags.get(tag, ()), name)
    entries = {name: entries_of(json.loads(settings)) for name, settings in suites}
    return Asked({name: found for name, found in entries.items() if found}, tags)


def headlines(db: Path) -> dict[str, str]:
    """Return the metric that stands for each task and group that was evaluated.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        measured = connection.execute(
            """SELECT task, metric, filter FROM cells JOIN metrics ON cell_id = cells.id
               GROUP BY ALL ORDER BY min(metrics.rowid)"""
        ).fetchall()
        asked_so = connection.execute("SELECT settings FROM runs GROUP BY settings ORDER BY max(started)").fetchall()
    preferred = {entry.task: entry.headline for (settings,) in asked_so for entry in entries_of(json.loads(settings))}
    metrics: defaultdict[str, list[MetricValue]] = defaultdict(list)
    for task, metric, filter_name in measured:
        metrics[task].append(MetricValue(metric, filter_name, 0.0, None, None, None))
    found = {task: headline_metric(task, values, preferred.get(task)) for task, values in metrics.items()}
    return {task: metric.metric for task, metric in found.items() if metric is not None}


def efforts(db: Path) -> list[Effort]:
    """Return what every candidate with results took, in the order in which they came.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        return [Effort(**row) for row in rows_as_dicts(connection, _EFFORTS)]


def all_baselines(db: Path) -> list[dict[str, Any]]:
    """Return what each baseline of this working folder holds and how it stands, by name.

    Args:
        db: Tells what has changed since they were blessed.

    Returns:
        What ``baseline_facts`` says; of one that cannot be read, its name and status alone.
    """
    found = []
    for path in list_baselines():
        try:
            found.append(baseline_facts(load_baseline(path.stem), db))
        except DataError as error:
            found.append({"name": path.stem, "status": str(error)})
    return found


def baseline_facts(one: Baseline, db: Path | None = None) -> dict[str, Any]:
    """Return what a baseline holds, and how it stands.

    Args:
        one: The baseline.
        db: Tells what has changed since it was blessed; None leaves out its status.

    Raises:
        StoreError: The database cannot be read.
    """
    tasks = [entry for entry in one.entries if entry["kind"] == "task"]
    scores = [
        [entry["ref"]["name"], f"{metric['metric']},{metric['filter']}", metric["value"]]
        for entry in one.entries
        for metric in entry["metrics"]
    ]
    facts = {
        "name": one.name,
        "path": str(Path(one.path)),
        "candidate": one.candidate,
        "fingerprint": one.fingerprint,
        "blessed": one.blessed,
        "sha256": one.sha256,
        "tasks": len(tasks),
        "samples": sum(entry["n"] for entry in tasks),
        "scores": scores,
    }
    return facts if db is None else facts | {"status": "; ".join(staleness(db, one)) or "good"}


_EFFORTS = """
SELECT candidates.name, trained.seconds AS training_s, trained.tokens AS training_tokens,
       trained.peak_memory_gib AS training_memory_gib, answered.evaluation_s, answered.evaluation_tokens_per_s,
       measured.tokens_per_s, measured.latency_p95_s, measured.peak_memory_gib AS memory_gib, measured.machine
FROM candidates
JOIN (SELECT candidate_fingerprint, sum(seconds) AS evaluation_s,
             sum(tokens_computed) / nullif(sum(seconds), 0) AS evaluation_tokens_per_s
      FROM cells WHERE kind = 'task' AND status = 'done' GROUP BY ALL) AS answered
  ON answered.candidate_fingerprint = candidates.fingerprint
LEFT JOIN (SELECT * FROM training_runs WHERE status = 'done'
           QUALIFY row_number() OVER (PARTITION BY candidate_fingerprint ORDER BY started DESC, id DESC) = 1) AS trained
  ON trained.candidate_fingerprint = candidates.fingerprint
LEFT JOIN (SELECT * FROM costs
           QUALIFY row_number() OVER (PARTITION BY candidate_fingerprint ORDER BY measured DESC) = 1) AS measured
  ON measured.candidate_fingerprint = candidates.fingerprint
ORDER BY candidates.created, candidates.name
"""

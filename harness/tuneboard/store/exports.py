"""Results in the shapes that other programs read: flat rows, and the results file of lm-eval."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from tuneboard.errors import DataError
from tuneboard.records import Cost, MetricValue, TaskResult
from tuneboard.store import queries
from tuneboard.store.costs import efficiency


def result_rows(
    db: Path, *, run: str | None = None, candidate: str | None = None, task: str | None = None
) -> list[dict[str, Any]]:
    """Return one flat row per metric of the newest results; a result without metrics is one row without a value.

    Args:
        db: The database file.
        run: Results that this run computed or reused instead.
        candidate: Only those of this candidate.
        task: Only those of this task or group.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    found = queries.newest(queries.cells(db, run=run, candidate=candidate, task=task))
    runs = {row.id: row for row in queries.runs(db)}
    sizes = {row.fingerprint: row.n_docs for row in queries.tasks(db)}
    costs = efficiency(db, list(dict.fromkeys(cell.candidate for cell in found)))
    metrics: dict[tuple[str, str], list[MetricValue]] = {}
    for row in queries.metrics(db, run=run, candidate=candidate, task=task):
        metrics.setdefault((row.cell.id, row.cell.candidate), []).append(row.metric)
    return [
        _result_row(cell, metric)
        | {"n_docs": sizes.get(cell.task_fingerprint)}
        | _asked(runs.get(cell.run))
        | _took(cell, costs.get(cell.candidate, Cost()))
        for cell in found
        for metric in metrics.get((cell.id, cell.candidate)) or [None]  # type: ignore[list-item]
    ]


def lm_eval_results(db: Path, candidate: str, *, run: str | None = None) -> dict[str, Any]:
    """Return the results of one candidate as lm-eval (0.4.13) lays out its ``results_*.json``.

    Args:
        db: The database file.
        candidate: Name of the candidate.
        run: Results that this run computed or reused, instead of the newest.

    Raises:
        UnknownName: The database has no run or candidate of that name.
        DataError: None of the candidate's results is finished.
        StoreError: The database is missing or cannot be read.
    """
    found = [one for one in queries.results(db, run=run, candidate=candidate) if one.status in ("done", "reused")]
    if not found:
        raise DataError(f"candidate '{candidate}' has no finished result; see: tuneboard show {candidate} --db {db}")
    tasks = [result for result in found if result.kind == "task"]
    groups = [result for result in found if result.kind == "group"]
    content: dict[str, Any] = {"results": {result.task.name: _metric_keys(result) for result in found}}
    if groups:
        content["groups"] = {result.task.name: _metric_keys(result) for result in groups}
    content |= {
        "group_subtasks": {result.task.name: list(result.members) for result in found},
        "configs": {result.task.name: dict(result.task.config) for result in tasks},
        "versions": {result.task.name: _version(result.task.version) for result in found},
        "n-shot": {result.task.name: result.task.num_fewshot for result in tasks},
        "higher_is_better": {
            result.task.name: {metric.metric: metric.higher_is_better for metric in result.metrics} for result in found
        },
        "n-samples": {result.task.name: {"original": result.task.n_docs, "effective": result.n} for result in tasks},
    }
    return content | _execution(db, found, run)


def _execution(db: Path, found: list[TaskResult], run: str | None) -> dict[str, Any]:
    """Return what lm-eval tells of model and machine, from the newest run that shows these results."""
    last = found[-1]
    runs = {row.id: row for row in queries.runs(db)}
    cells = queries.cells(db, candidate=last.candidate.name, run=run)
    row = runs[run or cells[0].run]
    model, adapter = last.candidate.model, last.candidate.adapter
    arguments = {"pretrained": model.id, "revision": model.revision, "dtype": last.key.dtype}
    if adapter is not None:
        arguments["peft"] = adapter.path
    return {
        "config": {
            "model": last.key.engine,
            "model_args": {key: value for key, value in arguments.items() if value is not None},
            "model_revision": model.revision,
            "model_sha": model.sha256,
            "device": row.engine.get("device"),
            "limit": row.settings.get("limit"),
            "bootstrap_iters": 0,
        },
        "date": row.started.replace(tzinfo=UTC).timestamp(),
        "lm_eval_version": row.versions.get("lm_eval"),
        "transformers_version": row.versions.get("transformers"),
        "model_source": "tuneboard",
        "model_name": last.candidate.name,
        "total_evaluation_time_seconds": str(sum(result.seconds for result in found)),
    }


def _metric_keys(result: TaskResult) -> dict[str, Any]:
    name = result.task.name
    alias = result.task.config.get("task_alias") or result.task.config.get("group_alias") or name
    keys: dict[str, Any] = {"name": name, "alias": alias, "sample_len": result.n}
    for metric in result.metrics:
        keys[f"{metric.metric},{metric.filter}"] = metric.value
        keys[f"{metric.metric}_stderr,{metric.filter}"] = "N/A" if metric.stderr is None else metric.stderr
    return keys


def _version(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _result_row(cell: queries.CellRow, metric: MetricValue | None) -> dict[str, Any]:
    low, high = (None, None) if metric is None or metric.ci is None else metric.ci
    return {
        "candidate": cell.candidate,
        "task": cell.task,
        "kind": cell.kind,
        "num_fewshot": cell.num_fewshot,
        "status": cell.status,
        "reason": cell.reason,
        "n": cell.n,
        "failed": cell.failed,
        "metric": metric and metric.metric,
        "filter": metric and metric.filter,
        "value": metric and metric.value,
        "stderr": metric and metric.stderr,
        "ci_low": low,
        "ci_high": high,
        "higher_is_better": metric and metric.higher_is_better,
        "seconds": cell.seconds,
        "engine": cell.engine,
        "dtype": cell.dtype,
        "quantization": cell.quantization,
        "repeat": cell.repeat,
        "run": cell.run,
        "created": cell.created.isoformat(timespec="seconds") + "Z",
        "cell": cell.id,
        "truncated": cell.tokens.truncated,
    }


def _asked(run: queries.RunRow | None) -> dict[str, Any]:
    """Return the settings of the run that computed a result; None where it did not note them."""
    settings = run.settings if run else {}
    prompts = settings.get("prompts") or {}
    return {
        "seed": run.seeds.get("fewshot") if run else None,
        "limit": settings.get("limit"),
        "chat_template": prompts.get("apply_chat_template"),
        "fewshot_as_multiturn": prompts.get("fewshot_as_multiturn"),
        "system_instruction": prompts.get("system_instruction"),
        "gen_kwargs": settings.get("gen_kwargs") or None,
        "max_length": settings.get("max_length"),
    }


def _took(cell: queries.CellRow, cost: Cost) -> dict[str, Any]:
    """Return the speed of this result, and the newest measurement of its candidate alone."""
    return {
        "tokens_per_s": cell.tokens.computed / cell.seconds if cell.seconds and cell.tokens.computed else None,
        "first_token_s": cost.first_token_s,
        "latency_p50_s": cost.latency_p50_s,
        "latency_p95_s": cost.latency_p95_s,
        "latency_p99_s": cost.latency_p99_s,
        "peak_memory_gib": cost.peak_memory_gib,
        "joules_per_token": cost.joules_per_token,
    }

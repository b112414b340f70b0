"""Results of lm-eval as results of ours: its task version, few-shot number and hashes stand in for our fingerprint."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard import stats
from tuneboard.errors import DataError, UsageError
from tuneboard.records import (
    Candidate,
    CellKey,
    Document,
    MetricValue,
    ModelRef,
    Response,
    SampleScore,
    TaskRef,
    TaskResult,
    cluster_name,
    fingerprint,
)
from tuneboard.store.lm_eval_logs import LoggedRun, LoggedSample, find_runs, read_samples

#: What of a task's config decides what was asked or how it scored; its data count by their hashes.
_ASKED = ("doc_to_text", "doc_to_choice", "process_results", "metric_list", "filter_list", "repeats", "output_type")


def read_results(folder: Path, name: str) -> tuple[list[TaskResult], list[str]]:
    """Read everything that lm-eval left in a folder.

    Args:
        folder: What ``--output_path`` named; of several runs the newest of each task counts.
        name: The candidate's name.

    Returns:
        Tasks with their samples, then groups; and the names of tasks that have no samples.

    Raises:
        UsageError: There are no results, those of several models, or none with samples.
        DataError: A file is broken.
    """
    runs = find_runs(folder)
    candidate = _candidate(runs[-1], name)
    # Another revision of the model under the same path is another candidate.
    runs = [run for run in runs if _candidate(run, name).fingerprint == candidate.fingerprint]
    newest = {task: run for run in runs for task in run.samples}
    if not newest:
        raise UsageError(
            f"{folder} holds scores without samples, which cannot be paired; run lm_eval with --log_samples"
        )
    tasks = {task: _task_result(run, task, candidate) for task, run in newest.items()}
    of_group = {group: run for run in runs for group in run.content.get("groups") or {}}
    made = [_group_result(run, group, tasks, newest) for group, run in of_group.items()]
    groups = [group for group in made if group is not None]
    scored = {task for run in runs for task in run.content["results"] if run.of("configs", task) is not None}
    return [*tasks.values(), *groups], sorted(scored - set(tasks))


def _candidate(run: LoggedRun, name: str) -> Candidate:
    """Return the candidate; lm-eval hashes no local weights, so that the name is all that tells two of them apart."""
    content, config = run.content, run.content.get("config") or {}
    model = str(content.get("model_name") or config.get("model") or name)
    hashes = [config.get(key) for key in ("model_sha", "peft_sha", "delta_sha")]
    sha256 = fingerprint("lm-eval", name, content.get("model_source"), model, hashes)
    revision = config.get("model_revision")
    return Candidate(name, ModelRef(model, str(revision) if revision else None, _dtype(config), None, sha256))


def _dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("model_dtype") or "auto").removeprefix("torch.")


def _task_result(run: LoggedRun, task: str, candidate: Candidate) -> TaskResult:
    values = run.content["results"][task]
    names: dict[str, list[str]] = {}
    for metric, filter_name in _metric_names(values):
        names.setdefault(filter_name, []).append(metric)
    logged = read_samples(run.samples[task], names)
    counted = (run.of("n-samples", task) or {}).get("effective")
    if isinstance(counted, int) and counted != len(logged):
        raise DataError(
            f"{run.samples[task]} holds {len(logged):,} of the {counted:,} samples that {run.results.name} counts; "
            "copy the whole file, or run lm-eval again"
        )
    ref = _ref(run, task, logged)
    samples = _samples(logged, ref, _cluster_column(run, task))
    ids = [sample.doc_id for sample in logged]
    config = run.of("configs", task) or {}
    key = CellKey(
        candidate=candidate.fingerprint,
        task=ref.fingerprint,
        generation=fingerprint(config.get("generation_kwargs") or {}),
        engine=f"lm-eval {run.content.get('model_source') or 'model'}",
        dtype=candidate.model.dtype,
        quantization=None,
        repeat=0,
        documents="all" if len(ids) == ref.n_docs else fingerprint(ids),
    )
    better = run.of("higher_is_better", task) or {}
    metrics = tuple(
        _metric(values, metric, filter_name, better.get(metric), samples)
        for metric, filter_name in _metric_names(values)
        if any(metric in sample.metrics.get(filter_name, {}) for sample in samples)
    )
    if not metrics:
        raise DataError(f"{run.samples[task]} has none of the scores that {run.results.name} names; run lm-eval again")
    return TaskResult(candidate, ref, key, "task", "done", metrics, samples, len(samples))


def _ref(run: LoggedRun, task: str, logged: Sequence[LoggedSample]) -> TaskRef:
    config = {key: value for key, value in (run.of("configs", task) or {}).items() if key not in ("metadata", "task")}
    # Of the metadata, which hold the model's arguments too, these alone say something of the samples.
    kept = {"cluster": _cluster_column(run, task), "private": _is_private(run, task)}
    if metadata := {name: value for name, value in kept.items() if value}:
        config["metadata"] = metadata
    # In the config, and not as the hash of the data: where these differ, a limit or the examples may be the reason.
    config["documents"] = fingerprint(
        [[one.doc_id, *(one.first.get(key) for key in ("doc_hash", "prompt_hash", "target_hash"))] for one in logged]
    )
    wrapped = {key: run.content.get(key) for key in ("system_instruction", "chat_template", "fewshot_as_multiturn")}
    shots, version = int(run.of("n-shot", task) or 0), str(run.of("versions", task))
    asked = {key: config.get(key) for key in _ASKED}
    # Multi-turn means nothing without a chat template, and its default changed between versions.
    wrapped["fewshot_as_multiturn"] = bool(wrapped["fewshot_as_multiturn"] and wrapped["chat_template"])
    return TaskRef(
        name=task,
        fingerprint=fingerprint("lm-eval", task, version, shots, asked, wrapped, config["documents"]),
        data_hash=fingerprint("lm-eval", config.get("dataset_path"), config.get("dataset_name")),
        num_fewshot=shots,
        version=version,
        output_type=str(config.get("output_type") or _output_type(logged[0].first)),
        config=config,
        n_docs=int((run.of("n-samples", task) or {}).get("original") or len(logged)),
    )


def _output_type(line: Mapping[str, Any]) -> str:
    arguments = _arguments(line)[0]
    if len(arguments) < 2:
        return "loglikelihood_rolling"
    return "generate_until" if isinstance(arguments[1], Mapping) else "multiple_choice"


def _arguments(line: Mapping[str, Any]) -> list[list[Any]]:
    """Return the arguments of each request: ``{"gen_args_0": {"arg_0": ...}}`` or plain lists."""
    found = line["arguments"]
    requests = list(found.values()) if isinstance(found, dict) else list(found)
    lists = [list(one.values()) if isinstance(one, dict) else list(one) for one in requests]
    return lists or [[""]]


def _is_private(run: LoggedRun, task: str) -> bool:
    return bool(((run.of("configs", task) or {}).get("metadata") or {}).get("private"))


def _cluster_column(run: LoggedRun, task: str) -> str | None:
    found = ((run.of("configs", task) or {}).get("metadata") or {}).get("cluster")
    return str(found) if found else None


def _samples(logged: Sequence[LoggedSample], ref: TaskRef, column: str | None) -> tuple[SampleScore, ...]:
    seen: Counter[str] = Counter()
    out = []
    for one in logged:
        arguments, doc_hash = _arguments(one.first), str(one.first["doc_hash"])
        pairs = ref.output_type in ("multiple_choice", "loglikelihood")
        prompt = str(arguments[0][0]) if arguments[0] else ""
        document = Document(
            doc_id=one.doc_id,
            doc_hash=doc_hash,
            occurrence=seen[doc_hash],
            prompt_hash=str(one.first.get("prompt_hash") or fingerprint(prompt)),
            prompt=prompt,
            choices=tuple(str(each[1]) for each in arguments if len(each) > 1) if pairs else (),
            target=str(one.first["target"]),
            cluster=None if column is None else cluster_name((one.first.get("doc") or {}).get(column), one.doc_id),
        )
        seen[doc_hash] += 1
        resps = one.first["resps"] if isinstance(one.first["resps"], list) else []
        repeats = [group if isinstance(group, list) else [group] for group in resps]
        asked = zip(arguments, repeats, strict=False)
        hashes = [fingerprint(ref.output_type, each, at) for each, group in asked for at in range(len(group))]
        responses = [_response(answer) for group in repeats[: len(arguments)] for answer in group]
        out.append(
            SampleScore(
                document=document,
                request_hashes=tuple(hashes),
                responses=tuple(responses),
                metrics=one.metrics,
                filtered=one.filtered if ref.output_type == "generate_until" else {},
            )
        )
    return tuple(out)


def _response(value: Any) -> Response:
    """Read a response; lm-eval writes every number and truth value of it as a text."""
    if isinstance(value, list) and len(value) == 2:
        return _number(value[0]), str(value[1]) == "True"
    return value if isinstance(value, str | int | float) else str(value)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _metric_names(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [key.partition(",") for key, value in values.items() if isinstance(value, int | float)]
    return [(metric, name) for metric, comma, name in pairs if comma and not metric.endswith("_stderr")]


def _metric(
    values: Mapping[str, Any], metric: str, filter_name: str, better: bool | None, samples: Sequence[SampleScore]
) -> MetricValue:
    value = float(values[f"{metric},{filter_name}"])
    scores = [sample.metrics.get(filter_name, {}).get(metric) for sample in samples]
    numbers = [float(score) for score in scores if isinstance(score, int | float)]
    if numbers and len(numbers) == len(samples) and abs(math.fsum(numbers) / len(numbers) - value) <= 1e-9:
        stderr, ci = stats.single_score(numbers)
    else:
        found = values.get(f"{metric}_stderr,{filter_name}")
        stderr = float(found) if isinstance(found, int | float) and math.isfinite(found) else None
        ci = stats.group_interval(value, stderr) if stderr is not None else None
    return MetricValue(metric, filter_name, value, stderr, ci, better if isinstance(better, bool) else None)


def _group_result(
    run: LoggedRun, group: str, tasks: Mapping[str, TaskResult], newest: Mapping[str, LoggedRun]
) -> TaskResult | None:
    """Return a group's result; None unless all of its tasks come from the same run."""
    members = _leaves(run, group)
    if not members or any(newest.get(member) is not run for member in members):
        return None
    values = run.content["groups"][group]
    better = run.of("higher_is_better", group) or {}
    metrics = tuple(
        replace(_metric(values, metric, filter_name, better.get(metric), ()), ci=None)
        for metric, filter_name in _metric_names(values)
    )
    parts = [tasks[member] for member in members]
    ref = TaskRef(
        name=group,
        fingerprint=fingerprint("group", group, sorted(part.task.fingerprint for part in parts)),
        data_hash=fingerprint(sorted(part.task.data_hash for part in parts)),
        num_fewshot=parts[0].task.num_fewshot,
        version=str(run.of("versions", group) or ""),
        output_type="group",
        config={"group": group, "task": list(members)},
        n_docs=sum(part.task.n_docs for part in parts),
    )
    whole = all(part.key.documents == "all" for part in parts)
    documents = "all" if whole else fingerprint(sorted(part.key.documents for part in parts))
    key = replace(parts[0].key, task=ref.fingerprint, documents=documents)
    n = sum(part.n for part in parts)
    return TaskResult(parts[0].candidate, ref, key, "group", "done", metrics, (), n, members=tuple(members))


def _leaves(run: LoggedRun, group: str) -> list[str]:
    inside = run.of("group_subtasks", group) or []
    return [leaf for name in inside for leaf in (_leaves(run, name) or [name])]

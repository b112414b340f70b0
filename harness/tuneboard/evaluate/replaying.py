"""Replay: lm-eval's own filters, ``process_results`` and aggregation score the answers; standard errors are ours."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

from tuneboard import stats
from tuneboard.errors import TuneboardError
from tuneboard.evaluate.recording import RecordedTask
from tuneboard.evaluate.uncertainty import as_sums, uncertainty
from tuneboard.evaluate.values import plain
from tuneboard.metrics import CorpusScore
from tuneboard.records import MetricValue, Response, SampleScore
from tuneboard.suites.prompts import compiled_templates


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a candidate's answers to a task scored."""

    metrics: tuple[MetricValue, ...]
    samples: tuple[SampleScore, ...]
    n: int
    failed: int


class _Scores:
    """What ``process_results`` gave, document by document; where it raised, the reason instead."""

    def __init__(self) -> None:
        self.faults: dict[int, str] = {}
        self.metrics: defaultdict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.filtered: defaultdict[int, dict[str, list[Any]]] = defaultdict(dict)
        self._given: list[tuple[int, str, Mapping[str, Any]]] = []

    def add(self, task: Any, name: str, doc_id: int, instances: Sequence[Any]) -> None:
        outputs = [one.filtered_resps[name] for one in instances]
        with self._blaming(doc_id):
            metrics = task.process_results(instances[0].doc, outputs)
            _refuse_nan(task, metrics)
            self.metrics[doc_id][name] = {metric: plain(value) for metric, value in metrics.items()}
            self._given.append((doc_id, name, metrics))
        if instances[0].request_type == "generate_until":
            self.filtered[doc_id][name] = [plain(output) for output in outputs]

    def values(self) -> Mapping[tuple[str, str], dict[int, Any]]:
        """Scores by metric and filter, and by document of those that every filter could score."""
        found: defaultdict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
        for doc_id, name, metrics in self._given:
            for metric, value in metrics.items() if doc_id not in self.faults else ():
                found[metric, name][doc_id] = value
        return found

    def aggregated(self, recorded: RecordedTask, seed: int) -> tuple[MetricValue, ...]:
        """Aggregate; where that raises, leave out the documents whose scores cannot be aggregated even alone."""
        try:
            return _aggregate(recorded, self.values(), seed)
        except Exception:  # a task's own code may raise anything
            sound = len(self.faults)
            for doc_id, name, metrics in self._given:
                with self._blaming(doc_id):
                    _aggregate(recorded, {(metric, name): {doc_id: value} for metric, value in metrics.items()}, seed)
            if len(self.faults) == sound:
                raise
        return _aggregate(recorded, self.values(), seed)

    @contextmanager
    def _blaming(self, doc_id: int) -> Iterator[None]:
        try:
            yield
        except TuneboardError:  # this machine's fault, such as a missing sandbox
            raise
        except Exception as error:
            self.faults.setdefault(doc_id, scoring_fault(error))


def _refuse_nan(task: Any, metrics: Mapping[str, Any]) -> None:
    """Raise where one score would make the mean of all no number; other aggregations may know what to do with it."""
    from lm_eval.api.metrics import mean

    for metric, value in metrics.items():
        if isinstance(value, float) and math.isnan(value) and task.aggregation().get(metric, mean) is mean:
            raise ValueError(f"{metric} is not a number")


def scoring_fault(error: Exception) -> str:
    """Return in one line why a task's own code could not score."""
    return f"scoring failed: {type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"


def replay(recorded: RecordedTask, answers: Mapping[str, Response], errors: Mapping[str, str], seed: int) -> Replayed:
    """Score a task; a document that it cannot score fails alone.

    Args:
        recorded: The task and its requests.
        answers: Response of each request hash that was answered.
        errors: Why the others were not.
        seed: For resampling.
    """
    unanswered, scores = _replayed(recorded, answers, errors)
    metrics = scores.aggregated(recorded, seed)
    samples = _samples(recorded, answers, unanswered, scores)
    n = sum(sample.status == "ok" for sample in samples)
    if n and not metrics:
        raise ValueError(f"it gave none of the task's metrics ({', '.join(recorded.task.aggregation())})")
    return Replayed(metrics, samples, n, len(samples) - n)


def replay_samples(
    recorded: RecordedTask, answers: Mapping[str, Response], errors: Mapping[str, str]
) -> tuple[SampleScore, ...]:
    """Score the documents of a task without making one number of them; arguments as for ``replay``."""
    return _samples(recorded, answers, *_replayed(recorded, answers, errors))


def _replayed(
    recorded: RecordedTask, answers: Mapping[str, Response], errors: Mapping[str, str]
) -> tuple[Mapping[int, str], _Scores]:
    """Return why documents were not answered, and the scores of the others."""
    task = recorded.task
    failures = {doc: _failure(groups, answers, errors) for doc, groups in recorded.hashes.items()}
    unanswered = {doc: reason for doc, reason in failures.items() if reason is not None}
    scored = [document for document in recorded.documents if document.doc_id not in unanswered]
    for document in scored:
        hashes = recorded.hashes[document.doc_id]
        for instance, repeats in zip(recorded.instances[document.doc_id], hashes, strict=True):
            instance.resps = [answers[one] for one in repeats]
            instance.filtered_resps = {}
    task._instances = [one for document in scored for one in recorded.instances[document.doc_id]]
    scores = _Scores()
    if scored:
        task.apply_filters()
        with compiled_templates():
            for name, document in product(task.instances[0].filtered_resps, scored):
                scores.add(task, name, document.doc_id, recorded.instances[document.doc_id])
    return unanswered, scores


def _samples(
    recorded: RecordedTask, answers: Mapping[str, Response], unanswered: Mapping[int, str], scores: _Scores
) -> tuple[SampleScore, ...]:
    reasons = {**scores.faults, **unanswered}
    return tuple(
        SampleScore(
            document=document,
            request_hashes=tuple(one for repeats in recorded.hashes[document.doc_id] for one in repeats),
            responses=tuple(answers.get(one) for repeats in recorded.hashes[document.doc_id] for one in repeats),
            status="failed" if document.doc_id in reasons else "ok",
            reason=reasons.get(document.doc_id),
            metrics={} if document.doc_id in reasons else scores.metrics[document.doc_id],
            filtered=scores.filtered[document.doc_id],
        )
        for document in recorded.documents
    )


def replay_group(
    group: Any, results: Mapping[str, Sequence[MetricValue]], sizes: Mapping[str, int]
) -> list[MetricValue]:
    """Aggregate a group as lm-eval does.

    Args:
        group: lm-eval's ``Group``.
        results: Metrics of its leaf tasks.
        sizes: Scored documents of each leaf task.
    """
    flat = {name: _flat(name, metrics, sizes[name]) for name, metrics in results.items()}
    aggregated = group.aggregate(flat)
    known = {(m.metric, m.filter): m.higher_is_better for metrics in results.values() for m in metrics}
    out = []
    for key, value in aggregated.items():
        metric, _, name = key.partition(",")
        if (metric, name) not in known:
            continue
        stderr = aggregated.get(f"{metric}_stderr,{name}")
        stderr = None if isinstance(stderr, str) or stderr is None or math.isnan(stderr) else float(stderr)
        ci = stats.group_interval(float(value), stderr) if stderr is not None else None
        out.append(MetricValue(metric, name, float(value), stderr, ci, known[metric, name]))
    return out


def _failure(
    groups: tuple[tuple[str, ...], ...], answers: Mapping[str, Response], errors: Mapping[str, str]
) -> str | None:
    missing = [one for repeats in groups for one in repeats if one not in answers]
    return errors.get(missing[0], "the engine gave no answer") if missing else None


def _aggregate(
    recorded: RecordedTask, values: Mapping[tuple[str, str], dict[int, Any]], seed: int
) -> tuple[MetricValue, ...]:
    from lm_eval.api.metrics import mean

    aggregations, better = recorded.task.aggregation(), recorded.task.higher_is_better()
    clusters = {document.doc_id: document.cluster for document in recorded.documents if document.cluster is not None}
    out = []
    for (metric, name), of_docs in values.items():
        items, function = list(of_docs.values()), aggregations.get(metric, mean)
        value = float(function(items))
        if function is not mean and not isinstance(function, CorpusScore):
            items, function = as_sums(metric, function, items, value)
        of_items = [clusters[doc] for doc in of_docs] if clusters else None
        stderr, ci = uncertainty(items, of_items, function, value, function is mean, seed)
        out.append(MetricValue(metric, name, value, stderr, ci, better.get(metric)))
    return tuple(out)


def _flat(name: str, metrics: Sequence[MetricValue], size: int) -> dict[str, Any]:
    flat: dict[str, Any] = {"name": name, "alias": name, "sample_len": size}
    for metric in metrics:
        flat[f"{metric.metric},{metric.filter}"] = metric.value
        flat[f"{metric.metric}_stderr,{metric.filter}"] = "N/A" if metric.stderr is None else metric.stderr
    return flat

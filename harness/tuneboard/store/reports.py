"""Behind the score of one candidate on one task: labels, confidence, and what generated answers look like."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneboard import metrics as family
from tuneboard import stats
from tuneboard.metrics.length import lengths
from tuneboard.metrics.repetition import repetition, repetitive
from tuneboard.store import queries
from tuneboard.store.results import signatures_of
from tuneboard.store.samples import choose_cell, samples_of

#: Labels that a confusion is told of; more are hardly labels.
MOST_LABELS = 100
#: Characters; longer targets that repeat are sentences.
_LONGEST_LABEL = 40
#: Resamplings for the intervals of macro F1 and Matthews' correlation: their standard error is then 2 % off.
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its 95 % interval."""

    value: float
    ci: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """How well labels, or places among choices, are told."""

    labels: tuple[str, ...]
    """Names; the numbers of places where every document has choices of its own."""
    by_place: bool
    confusion: tuple[tuple[int, ...], ...]
    """A row for each right label, a column for each answer; the last column counts answers that are no label."""
    scores: tuple[stats.LabelScore, ...]
    averages: tuple[stats.LabelScore, ...]
    """``macro``, ``micro``, ``weighted``."""
    accuracy: Estimate
    f1_macro: Estimate
    mcc: Estimate
    calibration: stats.Calibration | None
    """None for generated labels, which come without probabilities."""


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """What generated answers look like."""

    repetition: float
    repetitive: float
    """Share of answers that repeat themselves, and far more than their references do."""
    empty: float
    length_ratio: float | None
    brevity_penalty: float | None
    """Only where a BLEU is measured."""
    scores: Mapping[str, tuple[float | None, float | None]]
    """Metric to its mean over repetitive answers and over the others; only of metrics that are means."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Everything of one candidate on one task."""

    candidate: str
    task: str
    run: str
    filter: str
    n: int
    failed: int
    labels: LabelReport | None = None
    answers: AnswerReport | None = None
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Metric to how it was computed, as sacrebleu and its like write it."""
    reason: str | None = None
    """Why there is no report on labels."""


def task_report(
    db: Path, candidate: str, task: str, *, run: str | None = None, filter: str | None = None
) -> TaskReport:
    """Report on one candidate's result on a task.

    Args:
        db: The database file.
        candidate: Name of the candidate.
        task: Name of a task; groups have no samples of their own.
        run: Take the result that this run computed or reused, instead of the newest.
        filter: Of the answers; None takes the task's first.

    Raises:
        UnknownName: No such run, candidate, task or filter.
        DataError: The result did not finish, or is a group.
        StoreError: The database is missing or cannot be read.
    """
    cell = choose_cell(db, candidate, task, run)
    rows: list[dict[str, Any]] = []
    for row in samples_of(db, cell, filter):
        filter = filter or row["filter"]
        if row["filter"] == filter:
            rows.append(row)
    ref = next(one for one in queries.tasks(db) if one.fingerprint == cell.task_fingerprint)
    scored = [row for row in rows if row["status"] == "ok"]
    labels: LabelReport | str = "no sample has a score"
    answers = None
    if scored and ref.output_type == "multiple_choice":
        labels = _of_choices(scored)
    elif scored and ref.output_type == "generate_until":
        labels, answers = _of_generated(scored), _answers(scored)
    elif scored:
        labels = f"its samples are no choices and no answers (output type {ref.output_type})"
    return TaskReport(
        candidate=candidate,
        task=task,
        run=cell.run,
        filter=filter or "none",
        n=len(scored),
        failed=len(rows) - len(scored),
        labels=None if isinstance(labels, str) else labels,
        answers=answers,
        signatures=signatures_of(ref.config),
        reason=labels if isinstance(labels, str) else None,
    )


def _of_choices(rows: Sequence[Mapping[str, Any]]) -> LabelReport | str:
    halves = "acc_mutual_info" in rows[0]["metrics"]  # lm-eval asks every choice again, without its question
    choices, logprobs = [], []
    for row in rows:
        count = len(row["choices"]) // (2 if halves else 1)
        choices.append([choice.strip() for choice in row["choices"][:count]])
        logprobs.append([float(one[0]) for one in row["responses"][:count]])
    said = [max(range(len(each)), key=each.__getitem__) for each in logprobs]
    gold = _gold(rows, choices, said)
    if gold is None:
        return "which choice is right cannot be told from what was stored, such as where several are"
    shared = all(each == choices[0] for each in choices) and len(set(choices[0])) == len(choices[0])
    places = max(map(len, choices))
    if places > MOST_LABELS:
        return f"{places} choices are too many to tell apart"
    labels = choices[0] if shared else [str(place + 1) for place in range(places)]
    probabilities = [stats.choice_probabilities(each) for each in logprobs]
    return _label_report(labels, gold, said, not shared, stats.calibration_of(probabilities, gold))


def _gold(rows: Sequence[Mapping[str, Any]], choices: Sequence[Sequence[str]], said: Sequence[int]) -> list[int] | None:
    """Find the right choice of each sample: a reading of the targets that agrees with every stored accuracy."""
    for reading in (_by_number, _by_text, _by_accuracy):
        found = [reading(row, each, answer) for row, each, answer in zip(rows, choices, said, strict=True)]
        gold = [place for place in found if place is not None]
        correct = [row["metrics"].get("acc") for row in rows]
        if len(gold) == len(rows) and all(
            known is None or known == (place == answer)
            for known, place, answer in zip(correct, gold, said, strict=True)
        ):
            return gold
    return None


def _by_number(row: Mapping[str, Any], choices: Sequence[str], said: int) -> int | None:
    """Read a number, or a list of them, of which the one that was answered counts."""
    try:
        value = ast.literal_eval(row["target"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    places = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
    places = [int(one) for one in places if 0 <= one < len(choices)]
    return (said if said in places else places[0]) if places else None


def _by_text(row: Mapping[str, Any], choices: Sequence[str], said: int) -> int | None:
    text = row["target"].strip()
    return choices.index(text) if text in choices else None


def _by_accuracy(row: Mapping[str, Any], choices: Sequence[str], said: int) -> int | None:
    """Of two choices, the other one is right where the answer is not."""
    correct = row["metrics"].get("acc")
    if correct == 1:
        return said
    return 1 - said if correct == 0 and len(choices) == 2 else None


def _of_generated(rows: Sequence[Mapping[str, Any]]) -> LabelReport | str:
    targets = [row["target"].strip() for row in rows]
    labels = sorted(set(targets))
    if not 2 <= len(labels) <= min(MOST_LABELS, len(rows) // 2) or max(map(len, labels)) > _LONGEST_LABEL:
        return f"its {len(rows)} samples have {len(labels)} different targets, which are no labels"
    places = {label: place for place, label in enumerate(labels)}
    said = [places.get(_answer_texts(row)[0].strip(), len(labels)) for row in rows]
    return _label_report(labels, [places[target] for target in targets], said, False, None)


def _label_report(
    labels: Sequence[str],
    gold: Sequence[int],
    said: Sequence[int],
    by_place: bool,
    calibration: stats.Calibration | None,
) -> LabelReport:
    count, n = len(labels), len(gold)
    matrix = stats.confusion(gold, said, count)
    counts = stats.label_counts(gold, said, count)
    # An answer that is no label is missed by its label, and is no label of its own in the average.
    known = counts.reshape(n, 3, -1)[:, :, :count].reshape(n, -1)
    hits = sum(meant == answer for meant, answer in zip(gold, said, strict=True))
    return LabelReport(
        labels=tuple(labels),
        by_place=by_place,
        confusion=tuple(map(tuple, matrix)),
        scores=tuple(stats.label_scores(matrix, labels)),
        averages=tuple(stats.average_scores(matrix, labels)),
        accuracy=Estimate(hits / n, stats.wilson_interval(hits, n)),
        f1_macro=_estimate(known, stats.macro_f1),
        mcc=_estimate(counts, stats.matthews),
        calibration=calibration,
    )


def _estimate(counts: Any, statistic: Any) -> Estimate:
    value = float(statistic(counts.sum(axis=0)))
    stderr = stats.bootstrap_stderr_of_sums(counts, statistic, _RESAMPLES)
    return Estimate(value, stats.group_interval(value, stderr) if stderr is not None else None)


def _answers(rows: Sequence[Mapping[str, Any]]) -> AnswerReport:
    looped, shares, sizes, empty = [], [], [], 0.0
    for row in rows:
        texts, references = _answer_texts(row), [row["target"]]
        marks = [repetitive(references, text) for text in texts]
        looped.append(row["metrics"].get("repetitive", sum(marks) / len(marks)) >= 0.5)
        shares.append(sum(map(repetition, texts)) / len(texts))
        sizes += [lengths(references, text) for text in texts]
        empty += sum(not text.strip() for text in texts) / len(texts)
    said, meant = (sum(pair[side] for pair in sizes) for side in (0, 1))
    names = {name for row in rows for name, value in row["metrics"].items() if isinstance(value, int | float)}
    watched = {metric.name for metric in family.with_companions(())}
    return AnswerReport(
        repetition=sum(shares) / len(rows),
        repetitive=sum(looped) / len(rows),
        empty=empty / len(rows),
        length_ratio=said / meant if meant else None,
        brevity_penalty=_brevity_penalty(rows),
        scores={name: _split_means(rows, name, looped) for name in sorted(names - watched)},
    )


def _split_means(
    rows: Sequence[Mapping[str, Any]], name: str, looped: Sequence[bool]
) -> tuple[float | None, float | None]:
    def mean(of: bool) -> float | None:
        values = [row["metrics"].get(name) for row, mark in zip(rows, looped, strict=True) if mark is of]
        known = [float(value) for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return mean(True), mean(False)


def _brevity_penalty(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return BLEU's brevity penalty, from the counts that were stored or from the texts that lm-eval keeps."""
    penalty = family.find_metric("brevity_penalty")
    pieces = [row["metrics"].get("bleu") for row in rows]
    if penalty is None or penalty.corpus is None or not all(isinstance(piece, list) for piece in pieces):
        return None
    try:
        return penalty.corpus([_lengths_of(piece, penalty) for piece in pieces])
    except (ValueError, TypeError, ImportError):
        return None


def _lengths_of(piece: Any, penalty: family.Metric) -> Sequence[float]:
    if all(isinstance(one, int | float) for one in piece):
        return tuple(piece[:2])
    references, said = piece
    texts = list(references) if isinstance(references, list) else [references]
    return tuple(penalty.score(texts, said[0] if isinstance(said, list) else said))


def _answer_texts(row: Mapping[str, Any]) -> list[str]:
    """Return the answers as the task's filter left them; as they were given where it made no texts of them."""
    for given in (row["filtered"], row["responses"]):
        texts = [text for one in given or () for text in (one if isinstance(one, list) else [one])]
        if texts and all(isinstance(text, str) for text in texts):
            return texts
    return [""]

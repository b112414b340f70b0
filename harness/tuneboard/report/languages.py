"""A group of one task in many languages: each language's score, and its gap to English."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tuneboard.headline import headline_metric
from tuneboard.records import TaskResult
from tuneboard.report.numbers import number
from tuneboard.report.tables import format_table


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """What one candidate scores in one language."""

    candidate: str
    task: str
    metric: str
    value: float
    gap: float | None
    """Score in this language - score in English; None for English itself, and where English was not evaluated."""


def english_of(group: str, members: Sequence[str]) -> str | None:
    """Return the member of a group that is in English; None for a group whose members are no languages.

    Args:
        group: Its name, such as ``xnli``.
        members: Names of its tasks, such as ``xnli_en`` and ``xnli_fr``.
    """
    english = f"{group}_en"
    languages = all(re.fullmatch(rf"{re.escape(group)}_[a-z]{{2,3}}([_-]\w+)?", name) for name in members)
    return english if languages and english in members else None


def language_scores(results: Sequence[TaskResult], english: str) -> list[LanguageScore]:
    """Return the scores of all languages, candidate by candidate.

    Args:
        results: Of the members of one group, for any number of candidates.
        english: The member in English.
    """
    found = [(one, metric) for one in results if (metric := headline_metric(one.task.name, one.metrics)) is not None]
    reference = {one.candidate.name: metric.value for one, metric in found if one.task.name == english}
    return [
        LanguageScore(
            candidate=one.candidate.name,
            task=one.task.name,
            metric=metric.metric,
            value=metric.value,
            gap=None
            if one.task.name == english or one.candidate.name not in reference
            else metric.value - reference[one.candidate.name],
        )
        for one, metric in found
    ]


def mean_gaps(scores: Sequence[LanguageScore]) -> dict[str, float]:
    """Return each candidate's mean gap over the languages that have one."""
    gaps: dict[str, list[float]] = {}
    for score in scores:
        if score.gap is not None:
            gaps.setdefault(score.candidate, []).append(score.gap)
    return {name: sum(found) / len(found) for name, found in gaps.items()}


def languages_text(scores: Sequence[LanguageScore]) -> str:
    """Return the scores as a table of languages by candidates, the mean gap below."""
    names = list(dict.fromkeys(score.candidate for score in scores))
    cells = {(score.task, score.candidate): score for score in scores}
    rows: list[list[object]] = []
    for task in dict.fromkeys(score.task for score in scores):
        row: list[object] = [task]
        for name in names:
            score = cells.get((task, name))
            row += [score and number(score.value), None if score is None or score.gap is None else _signed(score.gap)]
        rows.append(row)
    gaps = mean_gaps(scores)
    mean: list[object] = ["mean gap to English"]
    for name in names:
        mean += [None, _signed(gaps[name]) if name in gaps else None]
    headers = [f"{scores[0].metric} by language", *(title for name in names for title in (name, "gap"))]
    return format_table(headers, [*rows, mean])


def _signed(value: float) -> str:
    return number(value, "+")

"""What ``tuneboard show`` says about the results of a candidate or on a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneboard.records import Cost, TaskResult
    from tuneboard.report.languages import LanguageScore
    from tuneboard.store.queries import RunRow


@dataclass(frozen=True, slots=True)
class Shown:
    """Results, and what a reader must know of them."""

    results: tuple[TaskResult, ...]
    notes: tuple[str, ...]
    languages: tuple[LanguageScore, ...] = ()
    """Of a group of one task in many languages."""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    """Candidate to what answering took it."""


def chosen_results(
    db: Path,
    runs: Mapping[str, RunRow],
    *,
    run: str | None = None,
    candidate: str | None = None,
    task: str | None = None,
) -> Shown:
    """Return the newest results that fit.

    Args:
        db: The database file.
        runs: All of its runs by id.
        run: The results of this run instead.
        candidate: Only those of the candidate of this name.
        task: Only those of the task or group of this name.

    Raises:
        UnknownName: The database has no run, candidate or task of that name.
        StoreError: The database is missing or cannot be read.
    """
    from tuneboard.report.answers import answer_notes
    from tuneboard.report.choice import setting_notes, wider_notes
    from tuneboard.report.results import cut_notes
    from tuneboard.store import queries
    from tuneboard.store.costs import efficiency

    found, results = queries.cells_and_results(db, run=run, candidate=candidate, task=task)
    notes = [
        *cut_notes(results),
        *answer_notes(results),
        *setting_notes(queries.newest(found), runs),
        *wider_notes(found),
    ]
    notes += _signature_notes(results)
    costs = efficiency(db, list(dict.fromkeys(result.candidate.name for result in results)))
    return Shown(tuple(results), tuple(notes), tuple(_languages(db, run, results)), costs)


def results_facts(shown: Shown) -> dict[str, Any]:
    """Return results for JSON."""
    from tuneboard.report.efficiency import efficiency_facts
    from tuneboard.report.results import evaluate_json

    cells = evaluate_json("", "", 0.0, {}, shown.results)["cells"]
    facts = {"cells": cells, "efficiency": efficiency_facts(shown.costs), "notes": list(shown.notes)}
    if not shown.languages:
        return facts
    from dataclasses import asdict

    from tuneboard.report.languages import mean_gaps

    return facts | {"languages": [asdict(one) for one in shown.languages], "mean_gap": mean_gaps(shown.languages)}


def results_text(shown: Shown, other: str) -> str:
    """Return every metric of the results as a table, with the notes below.

    Args:
        shown: Of one candidate, or on one task.
        other: What the rows differ by: ``task`` or ``candidate``.
    """
    from tuneboard.report.tables import format_table, one_line

    if not shown.results:
        return "no results"
    headers = [other, "few-shot", "n", "failed", "metric", "filter", "value", "stderr", "95 % interval", "status"]
    rows = [row for result in shown.results for row in _rows(result, other)]
    tables = [format_table(headers, rows, "lrrrllrrrl")]
    if shown.languages:
        from tuneboard.report.languages import languages_text

        tables += ["", languages_text(shown.languages)]
    text = "\n".join([*tables, *map(one_line, shown.notes)])
    if not shown.costs:
        return text
    from tuneboard.report.efficiency import efficiency_text

    return f"{text}\n\n{efficiency_text(shown.costs)}"


def _languages(db: Path, run: str | None, results: Sequence[TaskResult]) -> list[LanguageScore]:
    """Return the scores of all languages where the results are those of a group of languages."""
    from tuneboard.report.languages import english_of, language_scores
    from tuneboard.store import queries

    group = next((one for one in results if one.kind == "group"), None)
    english = None if group is None else english_of(group.task.name, group.members)
    if group is None or english is None:
        return []
    shown = {one.candidate.name for one in results}
    parts = [one for one in queries.results(db, run=run) if one.task.name in group.members]
    return language_scores([one for one in parts if one.candidate.name in shown], english)


def _signature_notes(results: Sequence[TaskResult]) -> list[str]:
    """Say how corpus metrics were computed, for others to compute the same."""
    from tuneboard.store.results import signatures_of

    signed = {
        f"{one.task.name}: {metric} is {signature}": None
        for one in results
        for metric, signature in signatures_of(one.task.config).items()
    }
    return list(signed)


def _rows(result: TaskResult, other: str) -> list[list[object]]:
    from tuneboard.report.numbers import number

    name = result.task.name if other == "task" else result.candidate.name
    head = [name, result.task.num_fewshot, _size(result), result.failed]
    status = result.status if result.reason is None else f"{result.status}: {result.reason}"
    rows: list[list[object]] = []
    for metric in result.metrics:
        interval = None if metric.ci is None else f"[{number(metric.ci[0])}, {number(metric.ci[1])}]"
        stderr = None if metric.stderr is None else number(metric.stderr)
        rows.append([*head, metric.metric, metric.filter, number(metric.value), stderr, interval, status])
    return rows or [[*head, None, None, None, None, None, status]]


def _size(result: TaskResult) -> str:
    """Return the number of documents and, where they were limited, of how many."""
    whole = result.task.n_docs
    return f"{result.n:,} of {whole:,}" if result.n + result.failed < whole else f"{result.n:,}"

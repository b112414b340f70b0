"""A comparison for people: aligned tables for terminals, Markdown for pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tuneboard.compare import CandidateComparison, Comparison, Flip, TaskComparison
from tuneboard.report.markdown import escaped, fenced, markdown_table
from tuneboard.report.numbers import number, p_value
from tuneboard.report.tables import format_table, harmless, listed, one_line

_MARKS = {"improved": "▲", "regressed": "▼", "equivalent": "≈", "inconclusive": "?"}
_LEGEND = (
    "▲ improved  ▼ regressed  ≈ equivalent (surely within the margin)  ? inconclusive. Intervals are of 95 %; p is "
    "corrected by Holm among targets and among guards, by Benjamini-Hochberg among the rest; mde is the smallest "
    "difference that would be found with 80 % power. Intervals tell how far other samples could have changed the "
    "result; the variance between training seeds is not in them."
)
#: Characters of a prompt that are shown: its end, where the question stands.
_PROMPT_CHARS = 400

Layout: TypeAlias = "Callable[[Sequence[str], Sequence[Sequence[object]], str], str]"


@dataclass(frozen=True, slots=True)
class _Style:
    """How the parts of a report are written."""

    table: Layout
    heading: Callable[[str], str]
    note: Callable[[str], str]
    quote: Callable[[str], str]


def format_comparison(comparison: Comparison, flips: Sequence[Flip] = ()) -> str:
    """Lay out a comparison for a terminal.

    Args:
        comparison: One candidate gets a table with every figure, several get one column each.
        flips: Samples that changed, to list below.
    """
    return _report(comparison, flips, _Style(format_table, one_line, one_line, _indented))


def comparison_markdown(comparison: Comparison, flips: Sequence[Flip] = ()) -> str:
    """Lay out a comparison as Markdown, as ``format_comparison`` does."""
    style = _Style(markdown_table, lambda text: f"### {text}", lambda text: f"- {escaped(text)}", fenced)
    return _report(comparison, flips, style)


def _report(comparison: Comparison, flips: Sequence[Flip], style: _Style) -> str:
    valid = [candidate for candidate in comparison.candidates if candidate.tasks]
    parts = []
    if len(valid) == 1:
        parts.append(_single(comparison.base, valid[0], style))
    elif valid:
        parts.append(_several(comparison, valid, style))
    if any(one.forgetting.target_gain is not None or one.forgetting.guard_loss is not None for one in valid):
        parts.append(_forgetting(valid, style))
    if notes := _notes(comparison):
        parts.append("\n".join(style.note(note) for note in notes))
    if valid:
        parts.append(_LEGEND)
    parts += [_flip(flip, style) for flip in flips]
    return harmless("\n\n".join(parts))


def _single(base: str, candidate: CandidateComparison, style: _Style) -> str:
    headers = ["task", "metric", "n", base, candidate.name, "difference", "95 % interval"]
    headers += ["p", "p corrected", "fixed", "broke", "mde"]
    rows = [
        [
            _label(row),
            _metric(row),
            f"{row.n:,}",
            _score(row.base, row.base_ci),
            _score(row.candidate, row.candidate_ci),
            number(row.delta, "+"),
            f"{number(row.effect.ci[0], '+')} to {number(row.effect.ci[1], '+')}",
            p_value(row.effect.p),
            p_value(row.p_adjusted),
            row.fixed,
            row.broke,
            number(row.effect.mde),
            _noise(row),
            _status(row),
        ]
        for row in candidate.tasks
        if row.headline
    ]
    headers += ["noise", "status"]
    if all(row[-2] == "" for row in rows):
        headers, rows = [*headers[:-2], headers[-1]], [[*row[:-2], row[-1]] for row in rows]
    return style.table(headers, rows, "ll" + "r" * (len(headers) - 3) + "l")


def _several(comparison: Comparison, valid: Sequence[CandidateComparison], style: _Style) -> str:
    ranks = {ranked.task: ranked.ranks for ranked in comparison.ranks}
    of_candidate = [{row.task: row for row in one.tasks if row.headline} for one in valid]
    rows: list[list[object]] = []
    for task in dict.fromkeys(task for found in of_candidate for task in found):
        known = [found.get(task) for found in of_candidate]
        first = next(row for row in known if row is not None)
        places = ranks.get(task, {})
        rows.append(
            [
                _label(first),
                _metric(first),
                f"{first.n:,}",
                number(first.base) + _place(places.get(comparison.base)),
                *(_compact(row, places.get(one.name)) for row, one in zip(known, valid, strict=True)),
            ]
        )
    headers = ["task", "metric", "n", comparison.base, *(one.name for one in valid)]
    lead = "Difference to the base; #1, #2: place on the task, shared by those that cannot be told apart."
    return style.table(headers, rows, "llr" + "l" * (len(headers) - 3)) + f"\n\n{lead}"


def _forgetting(valid: Sequence[CandidateComparison], style: _Style) -> str:
    ordered = sorted(valid, key=lambda one: (one.forgetting.front or math.inf, -(one.forgetting.target_gain or 0)))
    rows = [
        [
            one.name,
            "-" if one.forgetting.target_gain is None else number(one.forgetting.target_gain, "+"),
            "-" if one.forgetting.guard_loss is None else number(one.forgetting.guard_loss),
            one.forgetting.front,
            ", ".join(one.forgetting.gained) or "-",
            ", ".join(one.forgetting.lost) or "-",
        ]
        for one in ordered
    ]
    headers = ["candidate", "gained on targets", "lost on guards", "front", "improved targets", "regressed guards"]
    return f"{style.heading('Forgetting')}\n\n" + style.table(headers, rows, "lrrrll")


def _notes(comparison: Comparison) -> list[str]:
    notes = []
    for one in comparison.candidates:
        if one.reason is not None and not one.tasks:
            notes.append(f"{one.name} is not compared: {one.reason}")
            continue
        reasons: dict[str, list[str]] = {}
        for refusal in one.refused:
            name = refusal.task if refusal.metric is None else f"{refusal.task} {refusal.metric}"
            reasons.setdefault(refusal.reason, []).append(name)
        notes += [f"{one.name} on {listed(tasks)}: {reason}" for reason, tasks in reasons.items()]
        notes += [f"{one.name}: {note}" for note in one.notes]
        said: dict[str, list[str]] = {}
        tests: dict[str, list[str]] = {}
        for row in (row for row in one.tasks if row.headline):
            tests.setdefault(f"{row.effect.test} ({row.effect.why})", []).append(row.task)
            if row.note:
                said.setdefault(row.note, []).append(row.task)
        notes += [f"{one.name} on {listed(tasks)}: {note}" for note, tasks in said.items()]
        if len(comparison.candidates) == 1:
            notes += [f"{test}: {listed(tasks)}" for test, tasks in tests.items()]
    return notes


def _flip(flip: Flip, style: _Style) -> str:
    prompt = flip.prompt if len(flip.prompt) <= _PROMPT_CHARS else "…" + flip.prompt[-_PROMPT_CHARS:]
    text = "\n".join(
        [
            prompt,
            f"→ target:    {flip.target}",
            f"→ base:      {flip.base_answer}  ({flip.base_score:g})",
            f"→ candidate: {flip.candidate_answer}  ({flip.candidate_score:g})",
        ]
    )
    title = f"{flip.task} {flip.doc_id}: {flip.direction} by {flip.candidate}"
    return f"{style.heading(title)}\n\n{style.quote(text)}"


def _compact(row: TaskComparison | None, place: int | None) -> str:
    if row is None:
        return "-"
    noise = " within noise" if row.within_noise else ""
    return f"{number(row.candidate)} {number(row.delta, '+')} {_MARKS[row.status]}{_place(place)}{noise}"


def _score(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None or not all(map(math.isfinite, interval)):
        return number(value)
    return f"{number(value)} ±{number((interval[1] - interval[0]) / 2)}"


def _place(place: int | None) -> str:
    return "" if place is None else f" #{place}"


def _status(row: TaskComparison) -> str:
    text = f"{_MARKS[row.status]} {row.status}"
    if row.n_needed is None:
        return text
    more = f", the task has {row.n_docs:,}" if row.n_needed > row.n_docs else ""
    return f"{text} (n ≈ {row.n_needed:,} would settle it{more})"


def _noise(row: TaskComparison) -> str:
    if row.noise_floor is None:
        return ""
    return f"±{number(row.noise_floor)}"


def _label(row: TaskComparison) -> str:
    role = f" ({row.role})" if row.role != "none" and row.member_of is None else ""
    return f"{'· ' if row.member_of else ''}{row.task}{role}"


def _metric(row: TaskComparison) -> str:
    name = row.metric if row.filter in ("none", "") else f"{row.metric},{row.filter}"
    return name if row.higher_is_better else f"{name} ↓"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())

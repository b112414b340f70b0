"""From drafts to rows: margins, corrected p-values, statuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneboard import stats
from tuneboard.compare.drafts import Draft
from tuneboard.compare.effects import Effect
from tuneboard.compare.margins import default_margin
from tuneboard.compare.records import Status, TaskComparison
from tuneboard.compare.roles import Place

ALPHA = 0.05
_EXPLORED, _BESIDE = "explored", "beside"
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Judgement:
    """How rows are judged."""

    alpha: float = ALPHA
    """Two-sided level of a difference, 0 to 1."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """Task or group to its margin on the metric's own scale, where the default is not wanted."""


def judge(
    drafts: Sequence[Draft], places: Mapping[str, Place], headlines: Mapping[str, tuple[str, str]], how: Judgement
) -> list[TaskComparison]:
    """Judge the rows of one candidate.

    Args:
        drafts: All of them, with effects.
        places: Of every task and group.
        headlines: Task to its headline ``(metric, filter)``.
        how: Level and margins.
    """
    adjusted = _adjusted(drafts, [_family(draft, places, headlines) for draft in drafts])
    return [
        _row(draft, places[draft.task], _is_headline(draft, headlines), p, how)
        for draft, p in zip(drafts, adjusted, strict=True)
    ]


def _is_headline(draft: Draft, headlines: Mapping[str, tuple[str, str]]) -> bool:
    return headlines.get(draft.task) == (draft.metric, draft.filter)


def _family(draft: Draft, places: Mapping[str, Place], headlines: Mapping[str, tuple[str, str]]) -> str:
    """Return the family: what a suite asks for by role is confirmed, all else is explored.

    Metrics beside the one that stands for a task are a family of their own: to list more of them changes no headline.
    """
    place = places[draft.task]
    if not _is_headline(draft, headlines):
        return _BESIDE
    return place.role if place.member_of is None and place.role != "none" else _EXPLORED


def _adjusted(drafts: Sequence[Draft], families: Sequence[str]) -> list[float]:
    adjusted = [1.0] * len(drafts)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for i, family in enumerate(families):
        places[family].append(i)
    for family, members in places.items():
        correct = stats.benjamini_hochberg if family in (_EXPLORED, _BESIDE) else stats.holm
        p_values = [_effect(drafts[i]).p for i in members]
        for i, p in zip(members, correct(p_values), strict=True):
            adjusted[i] = p
    return adjusted


def _row(draft: Draft, place: Place, headline: bool, p_adjusted: float, how: Judgement) -> TaskComparison:
    effect = _effect(draft)
    margin = how.margins.get(draft.task)
    if margin is None:
        margin = default_margin(draft.task, draft.metric, draft.n_docs, draft.unit, draft.base, draft.percent)
    status = _status(effect, draft.higher_is_better, margin, p_adjusted, how.alpha)
    needed = None
    if status == "inconclusive":
        found = stats.needed_samples(effect.variance, effect.delta, margin)
        needed = None if found is None else max(found, draft.n + 1)
    floor = None if draft.noise is None else _Z * draft.noise**0.5
    return TaskComparison(
        task=draft.task,
        metric=draft.metric,
        filter=draft.filter,
        kind=draft.kind,
        role=place.role,
        member_of=place.member_of,
        headline=headline,
        n=draft.n,
        n_docs=draft.n_docs,
        left_out=draft.left_out,
        base=draft.base,
        base_ci=draft.base_ci,
        candidate=draft.score,
        candidate_ci=draft.score_ci,
        higher_is_better=draft.higher_is_better,
        effect=effect,
        margin=margin,
        p_adjusted=p_adjusted,
        status=status,
        note=_note(draft, effect, status, p_adjusted <= how.alpha, floor),
        n_needed=needed,
        noise_floor=floor,
    )


def _status(effect: Effect, higher_is_better: bool, margin: float | None, p_adjusted: float, alpha: float) -> Status:
    # Equivalence comes first, as passing does in a gate: a difference that is surely too small to matter is no finding.
    if margin is not None and -margin < effect.bounds[0] and effect.bounds[1] < margin:
        return "equivalent"
    if p_adjusted <= alpha and effect.delta:
        return "improved" if (effect.delta > 0) == higher_is_better else "regressed"
    return "inconclusive"


def _note(draft: Draft, effect: Effect, status: Status, significant: bool, floor: float | None) -> str | None:
    notes = []
    if status == "equivalent" and significant and effect.delta:
        better = (effect.delta > 0) == draft.higher_is_better
        notes.append(f"{'rose' if better else 'declined'} within the margin")
    if floor is not None and effect.delta and abs(effect.delta) <= floor:
        notes.append("within the noise of repeated evaluation")
    if draft.left_out:
        notes.append(f"{draft.left_out:,} samples have no score on one side and are left out")
    return "; ".join(notes) or None


def _effect(draft: Draft) -> Effect:
    assert draft.effect is not None
    return draft.effect

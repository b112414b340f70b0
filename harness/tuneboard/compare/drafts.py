"""From what was measured to one draft per candidate and metric; margins, families and roles come later.

Binary drafts carry counts instead of an effect: the effects of all of them are computed at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tuneboard import stats
from tuneboard.compare.effects import (
    FEWEST_CHANGED,
    Effect,
    binary_effects,
    corpus_effect,
    mean_effect,
    score_effects,
)
from tuneboard.compare.measuring import Measured
from tuneboard.records import CellKind

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate's row before anything is said about it."""

    candidate: str
    task: str
    kind: CellKind
    metric: str
    filter: str
    higher_is_better: bool
    n: int
    n_docs: int
    left_out: int
    base: float
    base_ci: Interval | None
    score: float
    score_ci: Interval | None
    unit: bool
    """Whether samples score from 0 to 1."""
    percent: bool
    """Whether samples score from 0 to 100, as a share of 100."""
    noise: float | None
    """Variance of the difference between evaluations of one candidate."""
    counts: tuple[int, int, int] | None = None
    """Up, down, n of binary scores."""
    effect: Effect | None = None


def settle_counts(drafts: Sequence[Draft]) -> list[Draft]:
    """Give every binary draft its effect."""
    import numpy as np

    places = [i for i, draft in enumerate(drafts) if draft.counts is not None]
    counts = np.array([drafts[i].counts for i in places], dtype=float).reshape(-1, 3)
    done = list(drafts)
    for i, effect in zip(places, binary_effects(counts[:, 0], counts[:, 1], counts[:, 2]), strict=True):
        done[i] = replace(drafts[i], effect=effect)
    return done


def task_drafts(measured: Measured) -> Iterator[Draft]:
    """Yield a draft for every candidate that shares enough samples with the base."""
    enough = [slot for slot in range(1, len(measured.task.names)) if measured.enough(slot)]
    effects = {} if measured.binary and measured.task.clusters is None else _effects(measured, enough)
    for slot in enough:
        n, effect = measured.pairs(slot), effects.get(slot)
        own = [measured.own(place, other) for place, other in ((0, slot), (slot, 0))]
        intervals = _own_intervals(measured, slot, own)
        yield Draft(
            candidate=measured.task.names[slot],
            task=measured.task.task,
            kind="task",
            metric=measured.metric.metric,
            filter=measured.metric.filter,
            higher_is_better=measured.metric.higher_is_better,
            n=n,
            n_docs=measured.task.n_docs,
            left_out=measured.scored - n,
            base=own[0].mean,
            base_ci=intervals[0],
            score=own[1].mean,
            score_ci=intervals[1],
            unit=measured.unit,
            percent=measured.percent,
            noise=measured.noise_variance(slot),
            counts=_counts(measured, slot) if effect is None else None,
            effect=effect,
        )


def _counts(measured: Measured, slot: int) -> tuple[int, int, int]:
    moments = measured.moments
    return int(moments.above[slot, 0]), int(moments.above[0, slot]), int(moments.n[slot, 0])


def _own_intervals(measured: Measured, slot: int, own: list[stats.MeanDifference]) -> list[Interval]:
    if measured.binary and measured.task.clusters is None:
        n = measured.pairs(slot)
        return [stats.wilson_interval(round(one.mean * n), n) for one in own]
    if not measured.is_mean:
        few = measured.pieces.shape[1] < FEWEST_CHANGED
        singles = [measured.resampled.single(place) for place in (0, slot)]
        return [(one if few or not boot.stderr else boot).interval() for one, boot in zip(own, singles, strict=True)]
    return [one.interval() for one in own]


def _effects(measured: Measured, slots: Sequence[int]) -> dict[int, Effect]:
    """Return the effects of what is not plainly binary, by slot; scores of 0 to 1 that nowhere differ are left out."""
    if not measured.is_mean:
        return {slot: _corpus_effect(measured, slot) for slot in slots}
    if measured.task.clusters is not None:
        return {slot: _clustered_effect(measured, slot) for slot in slots}
    batches: defaultdict[bytes, list[int]] = defaultdict(list)
    for slot in slots:
        # A t interval around differences that are all 0 has no width; the counts' interval has one.
        if not (measured.unit and _counts(measured, slot)[:2] == (0, 0)):
            batches[(measured.mask[0] & measured.mask[slot]).tobytes()].append(slot)
    effects: dict[int, Effect] = {}
    for members in batches.values():
        both = measured.mask[0] & measured.mask[members[0]]
        differences = (measured.values[members] - measured.values[0])[:, both].T
        effects.update(zip(members, score_effects(differences, measured.seed), strict=True))
    return effects


def _corpus_effect(measured: Measured, slot: int) -> Effect:
    statistic = measured.scoring.statistic
    assert statistic is not None
    p_values = stats.swap_test(measured.pieces[0], measured.pieces[slot], statistic, measured.seed)
    mean, n = measured.of_corpus(slot, 0), measured.pairs(slot)
    many = measured.changed(slot, 0) >= FEWEST_CHANGED
    return corpus_effect(mean, n, p_values, measured.resampled.difference(slot, 0) if many else None)


def _clustered_effect(measured: Measured, slot: int) -> Effect:
    up, down, n = _counts(measured, slot)
    return mean_effect(
        measured.clustered(slot, 0), n, (up, down), "the task names what its samples share", "t with clustered errors"
    )

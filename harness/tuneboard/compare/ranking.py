"""Places that know of ties, and what was gained against what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from tuneboard import stats
from tuneboard.compare.grouping import MeasuredGroup
from tuneboard.compare.measuring import Measured
from tuneboard.compare.records import CandidateComparison, Forgetting, RankedTask, TaskComparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def rank(measured: Measured | MeasuredGroup, alpha: float) -> RankedTask:
    """Rank the base and all candidates on one task; a place is 1 + the number of others that are significantly better.

    Args:
        measured: The task or group.
        alpha: Level of the whole family of pairs (Holm).
    """
    names = measured.names if isinstance(measured, MeasuredGroup) else measured.task.names
    first = measured.parts[0] if isinstance(measured, MeasuredGroup) else measured
    # A candidate that is the base under its own name stands twice.
    places = [i for i, name in enumerate(names) if name not in names[:i]]
    pairs = [(i, j) for i in places for j in places if j < i and _comparable(measured, i, j)]
    differences, p_values = _pairwise(measured, pairs)
    sign = 1 if first.metric.higher_is_better else -1
    ranks = dict.fromkeys(names, 1)
    for (i, j), difference, p in zip(pairs, differences, stats.holm(p_values), strict=True):
        if p <= alpha and difference:
            ranks[names[j] if sign * difference > 0 else names[i]] += 1
    task = measured.group.group if isinstance(measured, MeasuredGroup) else measured.task.task
    return RankedTask(task, first.metric.metric, first.metric.filter, ranks)


def _comparable(measured: Measured | MeasuredGroup, i: int, j: int) -> bool:
    if isinstance(measured, MeasuredGroup):
        return all(part.enough(places[i], places[j]) for part in measured.parts for places in [measured.places(part)])
    return measured.enough(i, j)


def _pairwise(measured: Measured | MeasuredGroup, pairs: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    counted = measured.pooled if isinstance(measured, MeasuredGroup) else measured.task.clusters is None
    if measured.binary and counted:
        moments = measured.moments
        up = [float(moments.above[i, j]) for i, j in pairs]
        down = [float(moments.above[j, i]) for i, j in pairs]
        return [u - d for u, d in zip(up, down, strict=True)], stats.mcnemar(up, down).tolist()
    if isinstance(measured, MeasuredGroup):
        found = [measured.moments.difference(i, j) if measured.pooled else measured.combined(i, j) for i, j in pairs]
    else:
        found = [measured.estimate(i, j) for i, j in pairs]
    return [one.mean for one in found], [one.p_value() for one in found]


def forgetting(rows: Iterable[TaskComparison]) -> Forgetting:
    """Weigh the targets of a candidate against its guards.

    Args:
        rows: All rows of a candidate; headline metrics of what a suite names by role count.
    """
    counted = [row for row in rows if row.headline and row.member_of is None]
    targets = [row for row in counted if row.role == "target"]
    guards = [row for row in counted if row.role == "guard"]
    return Forgetting(
        target_gain=_mean([_gain(row) for row in targets]),
        guard_loss=_mean([max(0.0, -_gain(row)) for row in guards]),
        lost=tuple(row.task for row in guards if row.status == "regressed"),
        gained=tuple(row.task for row in targets if row.status == "improved"),
    )


def with_fronts(candidates: Sequence[CandidateComparison]) -> list[CandidateComparison]:
    """Rank candidates on the frontier of target gain and guard loss: front 1 is beaten by nobody in both."""
    left = {
        place: (one.forgetting.target_gain, -one.forgetting.guard_loss)
        for place, one in enumerate(candidates)
        if one.forgetting.target_gain is not None and one.forgetting.guard_loss is not None
    }
    ranked, front = list(candidates), 0
    while left:
        front += 1
        best = [at for at, own in left.items() if not any(_beats(other, own) for other in left.values())]
        for at in best:
            ranked[at] = replace(candidates[at], forgetting=replace(candidates[at].forgetting, front=front))
            del left[at]
    return ranked


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _gain(row: TaskComparison) -> float:
    """Return the gain: on a scale of 0 to 1 as it is, else relative to the base, so that scales can be averaged."""
    small = max(abs(row.base), abs(row.candidate)) <= 1
    return row.gain if small or not row.base else row.gain / abs(row.base)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

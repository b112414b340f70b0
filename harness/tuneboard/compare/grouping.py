"""Groups such as ``mmlu``: the mean that lm-eval forms of the members, compared sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from tuneboard import stats
from tuneboard.compare.drafts import Draft
from tuneboard.compare.effects import mean_effect
from tuneboard.compare.measuring import Measured, Moments
from tuneboard.compare.scores import GroupScores, MetricName

#: Finds what was measured of a task, a metric and a candidate.
Lookup: TypeAlias = "Callable[[str, MetricName, str], Measured | None]"


@dataclass(frozen=True, eq=False)
class MeasuredGroup:
    """One metric of a group, for the candidates that have all of its members."""

    group: GroupScores
    name: MetricName
    parts: tuple[Measured, ...]
    by_size: bool
    """Whether every sample weighs the same; else every task does."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The base, then the candidates."""
        first = self.parts[0].task.names
        return (first[0], *(name for name in first[1:] if all(_shares(part, name) for part in self.parts)))

    def places(self, part: Measured) -> list[int]:
        """Return where the group's candidates stand in a member."""
        return [0, *(1 + part.task.names[1:].index(name) for name in self.names[1:])]

    @property
    def pooled(self) -> bool:
        """Whether the group is one large sample: then what holds for tasks holds for it."""
        return self.by_size and all(part.is_mean and part.task.clusters is None for part in self.parts)

    @property
    def binary(self) -> bool:
        """Whether every sample scores 0 or 1."""
        return all(part.binary for part in self.parts)

    @cached_property
    def moments(self) -> Moments:
        """Sums over all members; only of pooled groups."""
        taken = [part.moments.take(self.places(part)) for part in self.parts]
        total = taken[0]
        for moments in taken[1:]:
            total = total + moments
        return total

    def weights(self, slot: int) -> list[float]:
        """Return the weight of each member for a candidate."""
        return [float(part.pairs(self.places(part)[slot])) if self.by_size else 1.0 for part in self.parts]

    def combined(self, of: int, to: int) -> stats.MeanDifference:
        """Return the difference of two candidates as the weighted mean of the members' differences."""
        parts = []
        for part in self.parts:
            places = self.places(part)
            parts.append(part.estimate(places[of], places[to]))
        return stats.weighted_mean(parts, self.weights(max(of, to)))

    def own(self, of: int, to: int) -> stats.MeanDifference:
        """Return a candidate's own score."""
        if self.pooled:
            return self.moments.single(of, to)
        parts = []
        for part in self.parts:
            places = self.places(part)
            parts.append(part.own(places[of], places[to]))
        return stats.weighted_mean(parts, self.weights(max(of, to)))


def measure_group(group: GroupScores, name: MetricName, candidate: str, lookup: Lookup) -> MeasuredGroup | str:
    """Prepare a metric of a group.

    Args:
        group: As it was reported.
        name: Of the metric.
        candidate: One that was measured on the group.
        lookup: Finds the members.

    Returns:
        What was measured, or why it cannot be compared.
    """
    parts = [found for member in group.members if (found := lookup(member, name, candidate)) is not None]
    if not parts:
        return f"none of its tasks has {name[0]}"
    if bad := next((part.task.task for part in parts if not _shares(part, candidate)), None):
        return f"too few samples of its task {bad} have a score on both sides"
    forms = [by_size for by_size in (True, False) if _gives(group, name, parts, by_size)]
    if not forms:
        return f"its {name[0]} is neither the mean of its samples nor that of its tasks"
    return MeasuredGroup(group, name, tuple(parts), forms[0])


def group_drafts(measured: MeasuredGroup) -> list[Draft]:
    """Return a draft for every candidate of a group."""
    return [_draft(measured, slot) for slot in range(1, len(measured.names))]


def _draft(measured: MeasuredGroup, slot: int) -> Draft:
    own = [measured.own(0, slot), measured.own(slot, 0)]
    n = sum(part.pairs(measured.places(part)[slot]) for part in measured.parts)
    counts, effect, intervals = None, None, [one.interval() for one in own]
    unit = all(part.unit for part in measured.parts)
    changed = _changed(measured, slot)
    if measured.pooled and (measured.binary or (unit and changed == (0, 0))):
        counts = (*changed, n)
        if measured.binary:
            intervals = [stats.wilson_interval(round(one.mean * n), n) for one in own]
    elif measured.pooled:
        effect = mean_effect(measured.moments.difference(slot, 0), n, changed, "samples of several tasks")
    else:
        effect = mean_effect(
            measured.combined(slot, 0), n, changed, "a weighted mean of task scores", "t of the weighted mean"
        )
    return Draft(
        candidate=measured.names[slot],
        task=measured.group.group,
        kind="group",
        metric=measured.name[0],
        filter=measured.name[1],
        higher_is_better=measured.parts[0].metric.higher_is_better,
        n=n,
        n_docs=measured.group.n_docs,
        left_out=sum(part.scored for part in measured.parts) - n,
        base=own[0].mean,
        base_ci=intervals[0],
        score=own[1].mean,
        score_ci=intervals[1],
        unit=unit,
        percent=all(part.percent for part in measured.parts),
        noise=_noise(measured, slot),
        counts=counts,
        effect=effect,
    )


def _shares(part: Measured, candidate: str) -> bool:
    """Tell whether a candidate shares enough of a member's samples with the base."""
    names = part.task.names[1:]
    return candidate in names and part.enough(1 + names.index(candidate))


def _changed(measured: MeasuredGroup, slot: int) -> tuple[int, int]:
    up = down = 0
    for part in measured.parts:
        if part.is_mean:
            place = measured.places(part)[slot]
            up += int(part.moments.above[place, 0])
            down += int(part.moments.above[0, place])
    return up, down


def _noise(measured: MeasuredGroup, slot: int) -> float | None:
    weights = measured.weights(slot)
    total, found = sum(weights), 0.0
    for weight, part in zip(weights, measured.parts, strict=True):
        variance = part.noise_variance(measured.places(part)[slot])
        if variance is None:
            return None
        found += (weight / total) ** 2 * variance
    return found


def _gives(group: GroupScores, name: MetricName, parts: Sequence[Measured], by_size: bool) -> bool:
    """Tell whether a way of weighing gives what was stored, as far as it was made of the same samples."""
    return all(
        abs(expected - found) <= 1e-6 * max(1.0, abs(expected))
        for expected, found in _reported(group.reported, group.sizes, name, parts, by_size)
    )


def _reported(
    reported: Mapping[str, Mapping[MetricName, float]],
    sizes: Mapping[str, int],
    name: MetricName,
    parts: Sequence[Measured],
    by_size: bool,
) -> list[tuple[float, float]]:
    pairs = []
    for place, candidate in enumerate(parts[0].task.names):
        if name not in reported.get(candidate, {}) or any(candidate not in part.task.names for part in parts):
            continue
        places = [place if place == 0 else 1 + part.task.names[1:].index(candidate) for part in parts]
        counts = [int(part.mask[at].sum()) for part, at in zip(parts, places, strict=True)]
        if sum(counts) != sizes.get(candidate):
            continue
        values = [part.metric.reported[at] for part, at in zip(parts, places, strict=True)]
        weights = counts if by_size else [1] * len(values)
        mean = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
        pairs.append((reported[candidate][name], mean))
    return pairs

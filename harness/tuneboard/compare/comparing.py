"""Compare a base and its candidates, sample by sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tuneboard.compare.drafts import Draft, settle_counts, task_drafts
from tuneboard.compare.grouping import MeasuredGroup, group_drafts, measure_group
from tuneboard.compare.judging import Judgement, judge
from tuneboard.compare.measuring import Measured, measure
from tuneboard.compare.ranking import forgetting, rank, with_fronts
from tuneboard.compare.records import CandidateComparison, Comparison, RankedTask
from tuneboard.compare.roles import Place, assign_places
from tuneboard.compare.scores import CandidateInfo, GroupScores, MetricName, Refusal, Scores, TaskScores
from tuneboard.config import SuiteTask
from tuneboard.headline import headline_metric
from tuneboard.metrics import is_neutral
from tuneboard.records import MetricValue


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compare, and how it is judged."""

    suite: Sequence[SuiteTask] | None = None
    """Only these tasks, with these roles and headlines; None takes all, as the evaluations were asked."""
    expected: Sequence[str] | None = None
    """Tasks of the suite that are missing where they have no result; None expects all."""
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Tags that the suite names, with their tasks."""
    judgement: Judgement = field(default_factory=Judgement)
    seed: int = 1234
    """Of permutations and resamples."""


def compare(scores: Scores, plan: Plan | None = None) -> Comparison:
    """Compare every candidate with the base.

    Args:
        scores: From ``store.pairs.load_scores``.
        plan: None compares everything by the defaults.
    """
    plan = plan or Plan()
    entries = scores.entries if plan.suite is None else plan.suite
    members = {group.group: group.members for group in scores.groups}
    places = assign_places(scores.order, members, entries, plan.tags, rest=plan.suite is None)
    table = _Table(places, plan, _absent(places, plan))
    for task in scores.tasks:
        if task.task in places:
            table.add_task(task)
    for group in scores.groups:
        if group.group in places:
            table.add_group(group, [info.name for info in scores.candidates if info.reason is None])
    return table.finish(scores.base, scores.candidates)


def _absent(places: Mapping[str, Place], plan: Plan) -> tuple[Refusal, ...]:
    """Return the entries of a suite that nothing was evaluated of."""
    named = [entry.task for entry in plan.suite or () if plan.expected is None or entry.task in plan.expected]
    reason = "asked for by the suite, but without a result; see: tuneboard evaluate --help"
    return tuple(
        Refusal(name, reason)
        for name in dict.fromkeys(named)
        if name not in places and not any(fnmatchcase(one, name) or one in plan.tags.get(name, ()) for one in places)
    )


class _Table:
    """Gathers drafts of all candidates, then judges them candidate by candidate."""

    def __init__(self, places: Mapping[str, Place], plan: Plan, absent: Sequence[Refusal]) -> None:
        self.places, self.plan, self.absent = places, plan, absent
        self.order = {name: at for at, name in enumerate(places)}
        self.measured: dict[tuple[str, MetricName, str], Measured] = {}
        self.compared: set[tuple[str, str]] = set()
        self.headlines: dict[str, MetricName] = {}
        self.refused: defaultdict[str, list[Refusal]] = defaultdict(list)
        self.drafts: list[Draft] = []
        self.ranks: list[RankedTask] = []

    def add_task(self, task: TaskScores) -> None:
        """Measure all metrics of a task."""
        known: dict[MetricName, Measured] = {}
        for name, metric in task.metrics.items():
            if is_neutral(name[0]):
                continue
            found = measure(task, metric, self.plan.seed)
            if isinstance(found, str):
                self._refuse(task.names[1:], Refusal(task.task, found, name[0]))
                continue
            known[name] = found
            drafts = list(task_drafts(found))
            self.drafts += drafts
            self.compared |= {(task.task, draft.candidate) for draft in drafts}
            left = [candidate for candidate in task.names[1:] if candidate not in {one.candidate for one in drafts}]
            self._refuse(left, Refusal(task.task, "too few samples have a score on both sides", name[0]))
            self.measured |= {(task.task, name, candidate): found for candidate in task.names[1:]}
        if known:
            self._rank(known[self._headline(task.task, list(known))], task.names)

    def add_group(self, group: GroupScores, candidates: Sequence[str]) -> None:
        """Measure all metrics of a group, for candidates that were compared on all of its tasks."""
        whole = []
        for candidate in candidates:
            missing = [task for task in group.members if (task, candidate) not in self.compared]
            if not missing:
                whole.append(candidate)
            elif len(missing) < len(group.members):
                self._refuse([candidate], Refusal(group.group, f"its task {missing[0]} is not compared"))
        known: list[MeasuredGroup] = []
        for name in dict.fromkeys(name for values in group.reported.values() for name in values):
            left = list(whole)
            while left:
                found = measure_group(group, name, left[0], lambda *key: self.measured.get(key))
                if isinstance(found, str):
                    self._refuse([left.pop(0)], Refusal(group.group, found, name[0]))
                    continue
                known.append(found)
                self.drafts += group_drafts(found)
                left = [candidate for candidate in left if candidate not in found.names[1:]]
        if known:
            headline = self._headline(group.group, [found.name for found in known])
            for found in known:
                if found.name == headline:
                    self._rank(found, found.names)

    def finish(self, base: str, candidates: Sequence[CandidateInfo]) -> Comparison:
        """Judge everything."""
        rows: defaultdict[str, list[Draft]] = defaultdict(list)
        for draft in sorted(settle_counts(self.drafts), key=lambda draft: self.order[draft.task]):
            rows[draft.candidate].append(draft)
        done = [self._candidate(info, rows[info.name]) for info in candidates]
        ranks = sorted(self.ranks, key=lambda ranked: self.order[ranked.task])
        return Comparison(base, tuple(with_fronts(done)), tuple(ranks))

    def _candidate(self, info: CandidateInfo, drafts: Sequence[Draft]) -> CandidateComparison:
        judged = judge(drafts, self.places, self.headlines, self.plan.judgement)
        # The headline first, the other metrics of a task after it.
        judged.sort(key=lambda row: (self.order[row.task], not row.headline))
        refused = [one for one in info.refused if one.task in self.places] + self.refused[info.name]
        reason = info.reason
        if reason is None and not judged:
            reason = (
                refused[0].reason
                if refused
                else "none of these tasks has results of both it and the base; tuneboard evaluate gives them"
            )
        return CandidateComparison(
            name=info.name,
            applied=info.applied,
            reason=reason,
            tasks=tuple(judged),
            refused=(*refused, *(self.absent if reason is None else ())),
            forgetting=forgetting(judged),
            notes=info.notes,
        )

    def _headline(self, task: str, names: Sequence[MetricName]) -> MetricName:
        values = [MetricValue(metric, filter, 0.0, None, None, None) for metric, filter in names]
        found = headline_metric(task, values, self.places[task].headline)
        assert found is not None
        return self.headlines.setdefault(task, (found.metric, found.filter))

    def _rank(self, measured: Measured | MeasuredGroup, names: Sequence[str]) -> None:
        if len(set(names)) > 2:
            self.ranks.append(rank(measured, self.plan.judgement.alpha))

    def _refuse(self, candidates: Sequence[str], refusal: Refusal) -> None:
        for candidate in candidates:
            self.refused[candidate].append(refusal)

"""What comes out of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tuneboard.compare.effects import Effect
from tuneboard.compare.scores import Refusal
from tuneboard.records import CellKind, Role

Interval: TypeAlias = tuple[float, float]
Status: TypeAlias = Literal["improved", "regressed", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """One metric of one task or group: a candidate against the base.

    Differences are candidate - base on the metric's own scale, whichever direction is better.
    """

    task: str
    metric: str
    filter: str
    kind: CellKind
    role: Role
    """Members of a group have the group's."""
    member_of: str | None
    """The suite's entry (or the largest group) that the task is part of; None where it stands for itself."""
    headline: bool
    """Whether the metric stands for the task."""
    n: int
    """Paired samples."""
    n_docs: int
    """Documents of the whole task."""
    left_out: int
    """Documents without a score on one of the sides."""
    base: float
    base_ci: Interval | None
    """95 %: Wilson or t, BCa for corpus metrics; None where there is no closed form."""
    candidate: float
    candidate_ci: Interval | None
    higher_is_better: bool
    effect: Effect
    """The difference with its interval, bounds and p-values."""
    margin: float | None
    """The largest difference that does not matter."""
    p_adjusted: float
    """Two-sided: by Holm among headline metrics with a role, by Benjamini-Hochberg among everything else."""
    status: Status
    note: str | None
    """What the status alone does not say, such as a significant decline within the margin."""
    n_needed: int | None
    """Of an inconclusive row: samples that would settle it with 80 % power; None where no number would."""
    noise_floor: float | None
    """95 % limit of the difference that two evaluations of one candidate show; None without repeats."""

    @property
    def delta(self) -> float:
        """Candidate - base."""
        return self.effect.delta

    @property
    def gain(self) -> float:
        """The difference with its sign turned so that positive is better."""
        return self.effect.delta if self.higher_is_better else -self.effect.delta

    @property
    def bound(self) -> float:
        """One-sided 95 % bound on the harmful side: the lower one where higher is better, else the upper one."""
        return self.effect.bounds[0 if self.higher_is_better else 1]

    @property
    def p_decline(self) -> float:
        """One-sided p-value of the alternative that the candidate is worse."""
        return self.effect.p_less if self.higher_is_better else self.effect.p_greater

    @property
    def p_gain(self) -> float:
        """One-sided p-value of the alternative that the candidate is better."""
        return self.effect.p_greater if self.higher_is_better else self.effect.p_less

    @property
    def fixed(self) -> int | None:
        """Samples that score better than before; None for corpus metrics, which have no score per sample."""
        return self.effect.up if self.higher_is_better else self.effect.down

    @property
    def broke(self) -> int | None:
        """Samples that score worse than before; None for corpus metrics."""
        return self.effect.down if self.higher_is_better else self.effect.up

    @property
    def within_noise(self) -> bool:
        """Whether the difference is no larger than that between two evaluations of one candidate."""
        return self.noise_floor is not None and abs(self.delta) <= self.noise_floor


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was gained on targets against what was lost on guards."""

    target_gain: float | None
    """Mean gain over the targets; None without targets. Metrics that are not 0 to 1 count by their relative change."""
    guard_loss: float | None
    """Mean loss over the guards, where a guard that rose counts as 0; None without guards."""
    front: int | None = None
    """1: no other candidate gains at least as much and loses no more; 2: so once those are set aside, ..."""
    lost: tuple[str, ...] = ()
    """Guards that regressed."""
    gained: tuple[str, ...] = ()
    """Targets that improved."""


@dataclass(frozen=True, slots=True)
class CandidateComparison:
    """One candidate against the base."""

    name: str
    applied: bool | None
    reason: str | None
    """Why nothing of it is compared; None where something is."""
    tasks: tuple[TaskComparison, ...] = ()
    refused: tuple[Refusal, ...] = ()
    forgetting: Forgetting = Forgetting(None, None)
    notes: tuple[str, ...] = ()

    def row(self, task: str, metric: str | None = None, filter: str | None = None) -> TaskComparison | None:
        """Return the row of a task, of its headline metric or of the one that is named; None where there is none."""
        for row in self.tasks:
            if row.task != task or (filter is not None and row.filter != filter):
                continue
            if row.metric == metric or (metric is None and (row.headline or filter is not None)):
                return row
        return None


@dataclass(frozen=True, slots=True)
class RankedTask:
    """Places of the base and all candidates on one task; those that cannot be told apart share theirs."""

    task: str
    metric: str
    filter: str
    ranks: Mapping[str, int]
    """1 + the number of others that are significantly better (Holm over all pairs)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A base and its candidates."""

    base: str
    candidates: tuple[CandidateComparison, ...]
    ranks: tuple[RankedTask, ...] = ()
    """Of headline metrics; empty for a single candidate."""

    @property
    def valid(self) -> bool:
        """Whether anything was compared."""
        return any(candidate.tasks for candidate in self.candidates)


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample that changed."""

    candidate: str
    task: str
    metric: str
    filter: str
    doc_id: int
    direction: Literal["fixed", "broke"]
    base_score: float
    candidate_score: float
    prompt: str = ""
    target: str = ""
    base_answer: str = ""
    candidate_answer: str = ""

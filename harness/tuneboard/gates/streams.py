"""What a sequential gate asks, and what it was fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from tuneboard.compare import (
    CandidateComparison,
    CandidateInfo,
    Comparison,
    Judgement,
    MetricScores,
    Plan,
    Scores,
    TaskComparison,
    TaskScores,
    compare,
    default_margin,
)
from tuneboard.config import SuiteTask
from tuneboard.gates.records import Policy
from tuneboard.records import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Item: TypeAlias = tuple[str, int]
"""``(task, doc_id)``."""

#: ``binary``: 0 or 1; ``bounded``: 0 to 1; ``fixed``: all samples are asked before the rule is judged, as it must be
#: for corpus metrics, clustered tasks and groups that do not weigh samples equally.
Kind: TypeAlias = Literal["binary", "bounded", "fixed"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One metric of a task, or of a group that weighs every sample equally."""

    task: str
    metric: str
    filter: str
    items: tuple[Item, ...]
    """All samples that may be asked, in the order of their documents."""
    higher_is_better: bool = True
    kind: Kind | None = None
    """None: what the scores of the first batch are. Scores that contradict it later make it ``fixed``."""
    n_docs: int | None = None
    """Documents of the whole task; None: as many as items."""
    role: Role = "none"
    member_of: str | None = None
    headline: bool = True

    @property
    def default_margin(self) -> float | None:
        """The margin of this benchmark, for scores of 0 to 1."""
        return default_margin(self.task, self.metric, self.n_docs or len(self.items), True, 0.5)


@dataclass(eq=False)
class Fed:
    """What a stream has brought so far."""

    stream: Stream
    order: tuple[Item, ...]
    seen: int = 0
    kind: Kind | None = field(init=False)
    base: list[float] = field(default_factory=list)
    """NaN where a sample failed."""
    candidate: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kind = self.stream.kind

    def upcoming(self, count: int) -> tuple[Item, ...]:
        """Return the next samples."""
        return self.order[self.seen : self.seen + count]

    def add(self, base: Sequence[float | None], candidate: Sequence[float | None]) -> None:
        """Take in scores of the next samples."""
        self.seen += len(base)
        self.base += [float("nan") if one is None else float(one) for one in base]
        self.candidate += [float("nan") if one is None else float(one) for one in candidate]
        scores = [float(one) for one in (*base, *candidate) if one is not None and one == one]
        if scores and self.kind != "fixed":
            binary, bounded = all(one in (0, 1) for one in scores), all(0 <= one <= 1 for one in scores)
            found: Kind = "binary" if binary else "bounded" if bounded else "fixed"
            if self.kind is None:
                self.kind = found
            elif found == "fixed" or (self.kind == "binary" and not binary):
                self.kind = "fixed"

    def gains(self) -> Floats:
        """Return candidate - base of the samples that both scored, turned so that positive is better."""
        import numpy as np

        differences = np.array(self.candidate) - np.array(self.base)
        sign = 1 if self.stream.higher_is_better else -1
        out: Floats = sign * differences[~np.isnan(differences)]
        return out

    def own(self) -> Floats:
        """Return the candidate's scores where both sides have one."""
        import numpy as np

        scores = np.array(self.candidate)
        out: Floats = scores[~np.isnan(scores + np.array(self.base))]
        return out

    def counts(self) -> tuple[int, int, int]:
        """Return wins, losses and pairs."""
        gains = self.gains()
        return int((gains > 0).sum()), int((gains < 0).sum()), len(gains)


def with_fed(comparison: Comparison | None, fed: Sequence[Fed], policy: Policy) -> Comparison:
    """Compare what was fed, and put it in the place of those rows of a comparison; the others stay.

    A comparison from a database may hold more samples than the gate asked, or lack groups that were asked in part.
    """
    watched = [one for one in fed if one.kind in ("binary", "bounded") and len(one.gains())]
    fresh = [row for one in watched for row in _rows(one, policy)]
    if comparison is None:
        found = CandidateComparison(policy.candidate, None, None)
        return Comparison(policy.base, (_merged(found, fresh),))
    candidates = tuple(
        _merged(one, fresh) if one.name == policy.candidate and one.reason is None and one.applied is not False else one
        for one in comparison.candidates
    )
    return replace(comparison, candidates=candidates)


def _merged(candidate: CandidateComparison, fresh: Sequence[TaskComparison]) -> CandidateComparison:
    old = {(row.task, row.metric, row.filter): row for row in candidate.tasks}
    new: dict[tuple[str, str, str], TaskComparison] = {}
    for row in fresh:
        key = (row.task, row.metric, row.filter)
        known = old.get(key)
        new[key] = row if known is None else replace(row, kind=known.kind, noise_floor=known.noise_floor)
    asked = {task for task, _, _ in new}
    return replace(
        candidate,
        tasks=tuple({**old, **new}.values()),
        refused=tuple(one for one in candidate.refused if one.task not in asked),
    )


def _rows(fed: Fed, policy: Policy) -> list[TaskComparison]:
    import numpy as np

    stream, table = fed.stream, np.array([fed.base, fed.candidate])
    metric = MetricScores(
        metric=stream.metric,
        filter=stream.filter,
        higher_is_better=stream.higher_is_better,
        reported=tuple(float(np.nanmean(row)) for row in table),
        values=table,
        averaged=table,
    )
    task = TaskScores(
        task=stream.task,
        names=(policy.base, policy.candidate),
        n_docs=stream.n_docs or len(stream.items),
        output_type="",
        doc_ids=np.arange(fed.seen),
        metrics={(stream.metric, stream.filter): metric},
        repeats=(1, 1),
        cells=("", ""),
    )
    entry = SuiteTask(stream.task, role=stream.role, headline=f"{stream.metric},{stream.filter}")
    info = CandidateInfo(policy.candidate, None)
    scores = Scores(policy.base, (info,), (task,), entries=(entry,), order=(stream.task,))
    rows = compare(scores, Plan(judgement=Judgement(margins=policy.margins))).candidates[0].tasks
    return [replace(row, member_of=stream.member_of, headline=stream.headline) for row in rows]

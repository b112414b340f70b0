"""What a comparison is made from: scores of a base and its candidates, laid side by side sample by sample.

``store.pairs`` reads them from a database; nothing here knows where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.config import SuiteTask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

MetricName: TypeAlias = tuple[str, str]
"""``(metric, filter)``."""


@dataclass(frozen=True, slots=True, eq=False)
class MetricScores:
    """One metric of one task: a row per candidate, a column per document; the base is row 0."""

    metric: str
    filter: str
    higher_is_better: bool
    reported: tuple[float, ...]
    """(candidates,) The aggregated value that was stored for each, over all documents that it scored."""
    values: Floats
    """(candidates, documents); NaN where a sample failed or its score is no number."""
    averaged: Floats
    """The same, averaged over the evaluations of candidates that were evaluated repeatedly."""
    details: tuple[tuple[Any, ...], ...] = ()
    """(candidates, documents) What corpus metrics keep instead of a number, None where a sample failed; empty else."""
    aggregation: str | None = None
    """lm-eval's name of the function that makes the metric from its samples, where the task's config names one."""
    spread: Floats | None = None
    """(candidates,) Variance that evaluating again gives a mean of samples, from how each sample's scores spread over
    the repeats; NaN for those without repeats, None without any."""
    scatter: Floats | None = None
    """(candidates,) The same from the aggregated values alone, as corpus metrics need it."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskScores:
    """One task of a base and of those candidates that answered exactly the same documents under the same settings."""

    task: str
    names: tuple[str, ...]
    """The base, then candidates."""
    n_docs: int
    """Documents of the whole task, whatever was evaluated."""
    output_type: str
    doc_ids: Integers
    """(documents,)"""
    metrics: Mapping[MetricName, MetricScores]
    repeats: tuple[int, ...]
    """(candidates,) Evaluations that were averaged."""
    cells: tuple[str, ...]
    """(candidates,) Identity of the (first) evaluation of each, to look up its samples."""
    clusters: tuple[str, ...] | None = None
    """(documents,) What samples share, such as the passage they are about; None where they are independent."""


@dataclass(frozen=True, slots=True)
class GroupScores:
    """A group of tasks as it was reported for each candidate."""

    group: str
    members: tuple[str, ...]
    n_docs: int
    reported: Mapping[str, Mapping[MetricName, float]]
    """Candidate to its aggregated values."""
    sizes: Mapping[str, int]
    """Candidate to the number of scored documents that these were made of."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A task that cannot be compared, or one of its metrics."""

    task: str
    reason: str
    metric: str | None = None
    """None where the whole task is meant."""


@dataclass(frozen=True, slots=True)
class CandidateInfo:
    """What is known of a candidate apart from its scores."""

    name: str
    applied: bool | None
    """Whether it was seen to answer otherwise than its base; None where nobody looked."""
    reason: str | None = None
    """Why it was not applied, or why nothing of it can be compared."""
    refused: tuple[Refusal, ...] = ()
    same_weights: bool = False
    """It is the base itself, perhaps under another name."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Everything that a comparison needs."""

    base: str
    candidates: tuple[CandidateInfo, ...]
    tasks: tuple[TaskScores, ...]
    """A task stands several times where candidates answered different documents."""
    groups: tuple[GroupScores, ...] = ()
    entries: tuple[SuiteTask, ...] = ()
    """Roles and headline metrics as the evaluations were asked with."""
    order: tuple[str, ...] = field(default=())
    """Names of tasks and groups in the order to show."""

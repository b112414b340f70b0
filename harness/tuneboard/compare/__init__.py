"""Two evaluated candidates, sample by sample: what changed, is it real, and what was it paid with?

    scores       what a comparison is made from; ``store.pairs`` reads it
    comparing    ``compare(Scores, Plan) -> Comparison``
    corpus       how lm-eval makes one number of a task's samples, where it is not their mean
    measuring    one metric of one task, for every pair of candidates at once
    grouping     groups such as ``mmlu``
    effects      difference, intervals and p-values of one candidate against the base
    roles        what stands for itself, what is part of a group, what is target or guard
    margins      the largest difference that does not matter
    judging      corrected p-values and statuses
    ranking      places with ties; gains against losses
    flips        which samples changed
    records      what comes out

Pure: no database, no files, no torch. Nothing here imports NumPy or SciPy before there is something to compute.
"""

from tuneboard.compare.comparing import Plan, compare
from tuneboard.compare.effects import Effect
from tuneboard.compare.judging import Judgement
from tuneboard.compare.margins import TOO_LARGE, default_margin
from tuneboard.compare.records import (
    CandidateComparison,
    Comparison,
    Flip,
    Forgetting,
    RankedTask,
    Status,
    TaskComparison,
)
from tuneboard.compare.scores import (
    CandidateInfo,
    GroupScores,
    MetricName,
    MetricScores,
    Refusal,
    Scores,
    TaskScores,
)

__all__ = [
    "TOO_LARGE",
    "CandidateComparison",
    "CandidateInfo",
    "Comparison",
    "Effect",
    "Flip",
    "Forgetting",
    "GroupScores",
    "Judgement",
    "MetricName",
    "MetricScores",
    "Plan",
    "RankedTask",
    "Refusal",
    "Scores",
    "Status",
    "TaskComparison",
    "TaskScores",
    "compare",
    "default_margin",
]

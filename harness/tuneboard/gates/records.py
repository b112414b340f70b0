"""What a policy asks for and what a gate answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tuneboard.compare import TaskComparison
from tuneboard.config import SuiteTask

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive", "invalid"]
ScoreRule: TypeAlias = Literal["not_regress", "improve", "at_least", "equivalent"]
CostRule: TypeAlias = Literal["tokens_per_s", "latency_p95", "peak_memory"]
RuleName: TypeAlias = Literal[ScoreRule, CostRule]
Correction: TypeAlias = Literal["holm", "benjamini_hochberg", "none"]
OnInconclusive: TypeAlias = Literal["report", "pass", "warn", "fail"]

#: ``gate``'s exit code of each verdict.
EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "invalid": 2, "inconclusive": 3}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy."""

    rule: RuleName
    tasks: tuple[str, ...] = ("all",)
    """Names or patterns of tasks and groups, ``targets``, ``guards`` or ``all``; of no meaning for speed and cost."""
    metric: str | None = None
    """``metric`` or ``metric,filter`` as lm-eval writes it; None takes the headline of each task."""
    margin: float | None = None
    """The largest difference that does not matter, on the metric's own scale; None takes the policy's for the task."""
    value: float | None = None
    """``at_least``: the score to reach. Speed and cost: the share of the base's to keep (at least for ``tokens_per_s``,
    at most for the others)."""


@dataclass(frozen=True, slots=True)
class EvaluatePlan:
    """What a gate evaluates where results are missing."""

    model: str
    """Base model: a path or a name on the hub."""
    adapter: str | None = None
    """The candidate's adapter."""
    checkpoint: str | None = None
    """The candidate as a full model instead of an adapter."""
    tasks: tuple[str, ...] = ()
    """Empty takes the policy's suite."""
    limit: int | None = None
    engine: str = "transformers"
    sequential: bool = True
    """Stop as soon as every rule is decided."""
    batch: int = 32
    """Samples between two looks of a sequential gate, 1 to 32."""
    seed: int = 1234
    """Of the order in which a sequential gate asks."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a candidate may ship."""

    name: str
    base: str
    candidate: str
    rules: tuple[Rule, ...]
    description: str = ""
    suite: str | None = None
    """Only the tasks of this suite, with its roles and headlines; None takes all, as they were evaluated."""
    suite_tasks: tuple[SuiteTask, ...] = ()
    """What the suite holds."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """Task or group to its margin, where the default is not wanted."""
    alpha: float = 0.05
    """One-sided level of each pass and of all fails together, above 0 and below 0.5."""
    correction: Correction = "holm"
    """Of the p-values that make a rule fail."""
    on_inconclusive: OnInconclusive = "report"
    """``report``: exit 3; ``pass``: counts as a pass; ``warn``: exit 0 and say so; ``fail``: counts as a failure."""
    evaluate: EvaluatePlan | None = None
    source: str = ""
    """File that it was read from."""


@dataclass(frozen=True, slots=True)
class Known:
    """Names that a policy may use, to find its mistakes before anything is compared."""

    tasks: frozenset[str] | None = None
    """Tasks and groups; None where they cannot be listed."""
    candidates: frozenset[str] | None = None
    """Base models and candidates; None where they cannot be listed."""
    headlines: Mapping[str, str] = field(default_factory=dict)
    """Task or group to the name of its headline metric; where it is not given, the usual one is taken."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a sequential rule ended."""

    n: int
    """Samples that were seen."""
    n_full: int
    """Samples that there are."""
    early: bool
    """Whether the decision fell before all samples were seen."""
    method: str
    """What decided, in words."""


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule on one task."""

    rule: RuleName
    task: str
    """Task or group; for speed and cost ``all``; where a rule found nothing to judge, what it was on."""
    metric: str
    filter: str
    verdict: Outcome
    reason: str
    """One sentence."""
    margin: float | None = None
    value: float | None = None
    """What ``at_least`` asks for, or the share of the base's that a cost may have."""
    declined: bool = False
    """Whether a rule that passes covers a decline all the same, significant and within the margin."""
    bound: float | None = None
    """One-sided bound at the policy's level: of the difference, or for ``at_least`` of the score, on the harmful side;
    for ``equivalent`` the one further from 0."""
    p: float | None = None
    """One-sided p-value of failing (two-sided for ``equivalent``), before correction."""
    p_corrected: float | None = None
    """The same, corrected over all rules of the policy."""
    n_needed: int | None = None
    """Of an inconclusive rule: samples that would settle it with 80 % power; None where no number would."""
    row: TaskComparison | None = None
    """None for speed and cost, and where nothing could be compared."""
    base_cost: float | None = None
    candidate_cost: float | None = None
    stop: Stop | None = None
    """None unless the gate was sequential."""

    @property
    def name(self) -> str:
        """Rule and what it is on, such as ``not_regress mmlu acc``."""
        return " ".join(part for part in (self.rule, self.task, self.metric) if part)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says; every output is written from this record."""

    verdict: Outcome
    exit_code: int
    policy: str
    base: str
    candidate: str
    rules: tuple[RuleVerdict, ...]
    reasons: tuple[str, ...]
    """Sentences: what decided first, then what else is worth knowing."""
    alpha: float = 0.05
    on_inconclusive: OnInconclusive = "report"

    def count(self, outcome: Outcome) -> int:
        """Return how many rules came out so."""
        return sum(rule.verdict == outcome for rule in self.rules)

"""A comparison and a policy give a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from tuneboard import stats
from tuneboard.compare import TOO_LARGE, CandidateComparison, Comparison, Refusal, TaskComparison
from tuneboard.gates.costs import MEASURES, judge_cost
from tuneboard.gates.records import (
    EXIT_CODES,
    Correction,
    Outcome,
    Policy,
    Rule,
    RuleVerdict,
    Stop,
    Verdict,
)
from tuneboard.gates.rules import Finding, is_binary, weigh
from tuneboard.gates.scales import is_unit
from tuneboard.gates.selecting import ROLES, names_no_task, select
from tuneboard.gates.wording import nothing_sentence, rule_sentence, summary
from tuneboard.records import Cost


@dataclass(frozen=True, slots=True)
class Decided:
    """What a sequential gate knows of one rule on one task; it stands in for what the rule would find by itself."""

    passed: bool
    p: float
    """Of failing, valid however often was looked; before correction."""
    bound: float | None
    """One-sided bound of the difference, at the level of the look that decided; None keeps the fixed one."""
    stop: Stop
    failed: bool = False
    """Failed before all samples were seen; what came in later about other rules does not take that back."""


#: Place of the rule in the policy, task, metric, filter.
Key = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class _Open:
    """A rule on a task before p-values are corrected."""

    rule: Rule
    row: TaskComparison
    margin: float | None
    finding: Finding
    stop: Stop | None = None
    failed: bool = False


def judge(
    comparison: Comparison,
    policy: Policy,
    costs: Mapping[str, Cost] | None = None,
    decided: Mapping[Key, Decided] | None = None,
) -> Verdict:
    """Judge a candidate by a policy.

    A rule passes where its one-sided bound says so; no correction, since all must pass. It fails where it does not pass
    and its corrected one-sided p-value is at most alpha. Else it is inconclusive.

    Args:
        comparison: Of the policy's base with its candidate; others in it are not looked at.
        policy: The rules.
        costs: Candidate to what was measured of its speed and memory; only for rules on these.
        decided: From ``SequentialGate``; empty for a fixed number of samples.
    """
    candidate = next((one for one in comparison.candidates if one.name == policy.candidate), None)
    problem = _problem(candidate, comparison, policy)
    if candidate is None or problem is not None:
        rules = [_nothing(rule, entry, problem or "") for rule in policy.rules for entry in rule.tasks[:1]]
        return _verdict(rules, policy, problem)
    found: list[RuleVerdict | _Open] = []
    for place, rule in enumerate(policy.rules):
        if rule.rule in MEASURES:
            found.append(judge_cost(rule, (costs or {}).get(policy.base), (costs or {}).get(policy.candidate)))
        else:
            found += _weighed(place, rule, candidate, policy, decided or {})
    return _verdict(_settle(found, policy), policy, None)


def margin_of(rule: Rule, task: str, policy: Policy, default: float | None) -> float | None:
    """Return the margin in force: the rule's, the policy's for the task, or the default."""
    return rule.margin if rule.margin is not None else policy.margins.get(task, default)


def corrected(p_values: Sequence[float], how: Correction) -> list[float]:
    """Return p-values corrected for their number."""
    if how == "none":
        return list(p_values)
    return stats.holm(p_values) if how == "holm" else stats.benjamini_hochberg(p_values)


def _problem(candidate: CandidateComparison | None, comparison: Comparison, policy: Policy) -> str | None:
    """Return why nothing can be judged; None where something can."""
    if comparison.base != policy.base:
        return f"the comparison is with '{comparison.base}', the policy asks for '{policy.base}'"
    if candidate is None:
        return f"'{policy.candidate}' was not compared; evaluate it beside '{policy.base}'"
    if candidate.applied is False:
        return candidate.reason or f"'{candidate.name}' was not applied; check its adapter, then evaluate it again"
    return candidate.reason


def _weighed(
    place: int, rule: Rule, candidate: CandidateComparison, policy: Policy, decided: Mapping[Key, Decided]
) -> Iterable[RuleVerdict | _Open]:
    for entry, rows in select(rule, candidate.tasks).items():
        refused = _refused(entry, candidate.refused, policy)
        if refused or not rows:
            yield _nothing(rule, entry, nothing_sentence(entry, rule, candidate.tasks, refused))
        for row in rows:
            margin = None if rule.rule == "at_least" else margin_of(rule, row.task, policy, row.margin)
            if margin is not None and margin >= TOO_LARGE and (is_binary(row) or _ends_at_one(row)):
                reason = f"margin {margin:g} on {row.task} {row.metric}, which goes from 0 to 1; expected less than 0.5"
                yield replace(_nothing(rule, row.task, reason), metric=row.metric, filter=row.filter, row=row)
                continue
            finding = weigh(rule, row, margin, policy.alpha)
            known = decided.get((place, row.task, row.metric, row.filter))
            if known is None:
                yield _Open(rule, row, margin, finding)
                continue
            bound = finding.bound if known.bound is None else known.bound
            finding = replace(finding, passed=known.passed, p=known.p, bound=bound)
            yield _Open(rule, row, margin, finding, known.stop, known.failed)


def _ends_at_one(row: TaskComparison) -> bool:
    """Tell whether a metric goes up to 1, by its name and by what was scored: some tasks tell shares in per cent."""
    return is_unit(row.metric, row.task) and max(row.base, row.candidate) <= 1


def _refused(entry: str, refused: Sequence[Refusal], policy: Policy) -> list[Refusal]:
    """Return what an entry means but could not be compared. Of a role, this is not known without a suite."""
    whole = [one for one in refused if one.metric is None]
    if not names_no_task(entry):
        return [one for one in whole if one.task == entry or fnmatchcase(one.task, entry)]
    roles = {task.task: task.role for task in policy.suite_tasks}
    return [one for one in whole if entry not in ROLES or roles.get(one.task, ROLES[entry]) == ROLES[entry]]


def _settle(found: Sequence[RuleVerdict | _Open], policy: Policy) -> list[RuleVerdict]:
    """Correct the p-values of all rules on scores and say how each came out."""
    open_rules = [one for one in found if isinstance(one, _Open)]
    p_values = corrected([one.finding.p for one in open_rules], policy.correction)
    by_place = dict(zip(map(id, open_rules), p_values, strict=True))
    return [_outcome(one, by_place[id(one)], policy.alpha) if isinstance(one, _Open) else one for one in found]


def _outcome(one: _Open, p_corrected: float, alpha: float) -> RuleVerdict:
    finding, row = one.finding, one.row
    outcome: Outcome = "pass" if finding.passed else "fail" if one.failed or p_corrected <= alpha else "inconclusive"
    asks_to_keep = one.rule.rule in ("not_regress", "equivalent")
    declined = asks_to_keep and outcome == "pass" and row.p_decline <= alpha and row.gain < 0
    reason = rule_sentence(one.rule, row, finding, one.margin, (outcome, p_corrected, alpha), one.stop, declined)
    if row.within_noise and outcome == "fail":
        reason += "; no larger than the difference between two evaluations of one candidate"
    return RuleVerdict(
        rule=one.rule.rule,
        task=row.task,
        metric=row.metric,
        filter=row.filter,
        verdict=outcome,
        reason=reason,
        margin=one.margin,
        value=one.rule.value,
        declined=declined,
        bound=finding.bound,
        p=finding.p,
        p_corrected=p_corrected,
        n_needed=finding.n_needed if outcome == "inconclusive" else None,
        row=row,
        stop=one.stop,
    )


def _nothing(rule: Rule, entry: str, reason: str) -> RuleVerdict:
    return RuleVerdict(rule.rule, entry, "", "", "invalid", reason, margin=rule.margin, value=rule.value)


def _verdict(rules: Sequence[RuleVerdict], policy: Policy, problem: str | None) -> Verdict:
    outcome, exit_code = _overall([one.verdict for one in rules], policy)
    return Verdict(
        verdict=outcome,
        exit_code=exit_code,
        policy=policy.name,
        base=policy.base,
        candidate=policy.candidate,
        rules=tuple(rules),
        reasons=(problem,) if problem else tuple(summary(rules, outcome, policy)),
        alpha=policy.alpha,
        on_inconclusive=policy.on_inconclusive,
    )


def _overall(outcomes: Sequence[Outcome], policy: Policy) -> tuple[Outcome, int]:
    # A regression that was found stays one, whatever else could not be judged.
    order: tuple[Outcome, ...] = ("fail", "invalid", "inconclusive", "pass")
    worst = next(one for one in order if one in outcomes)
    if worst != "inconclusive" or policy.on_inconclusive == "report":
        return worst, EXIT_CODES[worst]
    if policy.on_inconclusive == "warn":
        return worst, EXIT_CODES["pass"]
    return policy.on_inconclusive, EXIT_CODES[policy.on_inconclusive]

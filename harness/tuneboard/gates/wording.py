"""Verdicts as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuneboard.compare import Refusal, TaskComparison
from tuneboard.errors import near_matches
from tuneboard.gates.records import OnInconclusive, Outcome, Policy, Rule, RuleVerdict, Stop
from tuneboard.gates.rules import Finding
from tuneboard.gates.selecting import meant

_LISTED = 3


def number(value: float) -> str:
    """Write a score or a difference: four decimals, or four digits where the scale is larger than 0 to 1."""
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:,.4g}"


def rule_sentence(
    rule: Rule,
    row: TaskComparison,
    finding: Finding,
    margin: float | None,
    verdict: tuple[Outcome, float, float],
    stop: Stop | None = None,
    declined: bool = False,
) -> str:
    """Say what a rule found and why that passes, fails or leaves it open.

    Args:
        rule: The rule.
        row: What it is on.
        finding: What it found.
        margin: In force; None where the rule needs none or the metric has none.
        verdict: The outcome, the corrected p-value of failing, and alpha.
        stop: Where it stopped, if it was sequential.
        declined: Whether it passes in spite of a decline.
    """
    outcome, p, alpha = verdict
    # Bounds of a sequential rule have the level of the look that decided.
    bound = f"{f'{100 * (1 - alpha):g} % ' if stop is None else ''}bound {number(finding.bound)}"
    subject = f"{row.task} {row.metric}"
    if rule.rule == "at_least":
        text = f"{subject} is {number(row.candidate)} ({bound}), {_asked(rule, row)}"
    else:
        moved = f"{'rose' if row.delta > 0 else 'fell'} by {number(abs(row.delta))}" if row.delta else "did not change"
        scores = f"{number(row.base)} to {number(row.candidate)}"
        text = f"{subject} {moved} ({scores}; {bound}; {_aim(rule, margin)})"
    if outcome == "fail":
        text += f": {_FAILURES[rule.rule]}, p = {p:.2g}"
    elif outcome == "inconclusive":
        text += f": not settled by {row.n:,} samples; {_needed(finding.n_needed, row)}"
    else:
        text += ": passes, but declined within the margin" if declined else ": passes"
    return text if stop is None else f"{text}; {stopped_sentence(stop)}"


def stopped_sentence(stop: Stop) -> str:
    """Say where a sequential rule ended."""
    share = f"{stop.n:,} of {stop.n_full:,} samples"
    return f"decided after {share} ({stop.method})" if stop.early else f"asked all {stop.n_full:,} samples"


def nothing_sentence(entry: str, rule: Rule, rows: Sequence[TaskComparison], refused: Sequence[Refusal]) -> str:
    """Say why a rule found nothing to judge.

    Args:
        entry: Of the rule's ``tasks``.
        rule: The rule.
        rows: What was compared.
        refused: Tasks that could not be.
    """
    if refused:
        alike: dict[str, list[str]] = {}
        for one in refused:
            alike.setdefault(one.reason, []).append(one.task)
        said = [f"{_cut(tasks, ', ', ' and')}: {reason}" for reason, tasks in alike.items()]
        return f"cannot be compared: {_cut(said, '; ', '; and')}"
    metrics = list(dict.fromkeys(row.metric for row in meant(entry, rows)))
    if rule.metric and metrics:
        near = near_matches(rule.metric, metrics)
        hint = f"did you mean {', '.join(near)}?" if near else f"there is {', '.join(metrics)}"
        return f"{entry} has no metric '{rule.metric}'; {hint}"
    near = near_matches(entry, [row.task for row in rows])
    if near:
        return f"no result of '{entry}'; did you mean {', '.join(near)}?"
    return f"nothing that was compared is '{entry}'; name tasks, or give a suite whose tasks have roles"


def summary(rules: Sequence[RuleVerdict], outcome: Outcome, policy: Policy) -> list[str]:
    """Return the reasons of a verdict, what decided it first."""
    order: tuple[Outcome, ...] = ("fail", "invalid", "inconclusive")
    reasons = [f"{one.rule}: {one.reason}" for kind in order for one in rules if one.verdict == kind]
    counts = Counter(one.verdict for one in rules)
    if not reasons:
        passed = f"all {len(rules)} rules pass" if len(rules) > 1 else rules[0].reason
        reasons.append(passed)
    if len(rules) > 1:
        reasons += [f"{one.rule}: {one.reason}" for one in rules if one.declined]
    if counts["inconclusive"] and policy.on_inconclusive != "report" and not counts["fail"] + counts["invalid"]:
        count = f"{counts['inconclusive']} of {len(rules)} rules {'is' if counts['inconclusive'] == 1 else 'are'}"
        reasons.append(f"{count} inconclusive, which {_MAPPED[policy.on_inconclusive]} by this policy")
    return list(dict.fromkeys(reasons))


_FAILURES = {
    "not_regress": "a regression",
    "improve": "no improvement that matters",
    "at_least": "too low",
    "equivalent": "not equivalent",
}
_MAPPED: dict[OnInconclusive, str] = {
    "pass": "counts as a pass",
    "warn": "is a warning only",
    "fail": "counts as a failure",
}


def _cut(parts: Sequence[str], between: str, last: str) -> str:
    more = f"{last} {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return between.join(parts[:_LISTED]) + more


def _aim(rule: Rule, margin: float | None) -> str:
    name = "gain that matters" if rule.rule == "improve" else "margin"
    return "no margin" if margin is None else f"{name} {number(margin)}"


def _asked(rule: Rule, row: TaskComparison) -> str:
    assert rule.value is not None
    return f"asked for {'at least' if row.higher_is_better else 'at most'} {number(rule.value)}"


def _needed(n_needed: int | None, row: TaskComparison) -> str:
    if n_needed is None:
        return "no number of samples would settle it"
    beyond = f", more than the {row.n_docs:,} of the task" if n_needed > row.n_docs else ""
    return f"about {n_needed:,} would{beyond}"

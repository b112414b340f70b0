"""A gate's verdict for people and programs: every output is written from one ``GateReport``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tuneboard.compare import Flip
from tuneboard.gates import Outcome, RuleVerdict, Verdict
from tuneboard.report.comparison import row_json
from tuneboard.report.numbers import finite, number, p_value
from tuneboard.report.tables import format_table, harmless, one_line

#: Version of the JSON contract; keys may be added to it, never changed.
SCHEMA = 1

MARKS: Mapping[Outcome, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?", "invalid": "!"}
HEADERS = ("", "rule", "task", "metric", "n", "base", "candidate", "difference", "bound", "margin", "p of failing")
ALIGN = "llllrrrrrrr"


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a gate found, with everything that any of its outputs shows."""

    verdict: Verdict
    flips: tuple[tuple[Flip, ...], ...] = ()
    """Per rule of the verdict: some of the samples that changed, with texts; empty where nobody asked."""
    warnings: tuple[str, ...] = ()
    """Such as a baseline that is stale."""
    seconds: float = 0.0
    """Wall time of the whole gate."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Task to its new samples, where the gate evaluated what was missing."""

    def flips_of(self, place: int) -> tuple[Flip, ...]:
        """Return the samples that changed under a rule, by its place in the verdict."""
        return self.flips[place] if place < len(self.flips) else ()


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line: the outcome, who against whom, by what, how many rules."""
    rules = len(verdict.rules)
    counts = [
        f"{count} {outcome}"
        for outcome in ("fail", "invalid", "inconclusive", "pass")
        if (count := verdict.count(outcome))
    ]
    of_rules = f": {', '.join(counts)} of {rules} rule{'s' if rules != 1 else ''}" if counts else ""
    who = f"{verdict.candidate} against {verdict.base}"
    return f"{verdict.verdict.upper()}  {who}, policy {verdict.policy}{of_rules} (exit {verdict.exit_code})"


def verdict_text(report: GateReport) -> str:
    """Lay out a verdict for a terminal, the verdict itself first."""
    verdict = report.verdict
    parts = [headline(verdict), "\n".join(f"  {one_line(reason)}" for reason in verdict.reasons)]
    if any(rule.row is not None or rule.candidate_cost is not None for rule in verdict.rules):
        parts.append(format_table(HEADERS, [rule_row(rule) for rule in verdict.rules], ALIGN))
    if report.warnings:
        parts.append("\n".join(f"warning: {one_line(warning)}" for warning in report.warnings))
    if report.asked:
        parts.append(f"asked {sum(report.asked.values()):,} samples anew")
    return harmless("\n\n".join(part for part in parts if part))


def rule_row(rule: RuleVerdict) -> list[object]:
    """Return a rule under the titles of ``HEADERS``."""
    row = rule.row
    limit = f"{rule.value:g}" if rule.value is not None else None if rule.margin is None else number(rule.margin)
    lead: list[object] = [MARKS[rule.verdict], rule.rule, rule.task, _metric(rule)]
    if row is None:
        costs = [None if cost is None else number(cost) for cost in (rule.base_cost, rule.candidate_cost)]
        return [*lead, None, *costs, None, None, limit, None]
    shown = [number(row.base), number(row.candidate), number(row.delta, "+")]
    bound = None if rule.bound is None else number(rule.bound, "" if rule.rule == "at_least" else "+")
    p = rule.p_corrected
    return [*lead, f"{row.n:,}", *shown, bound, limit, None if p is None else p_value(p)]


def verdict_json(report: GateReport) -> dict[str, Any]:
    """Build the JSON of ``tuneboard gate --json``; infinite and undefined numbers stand as null."""
    verdict = report.verdict
    return {
        "schema": SCHEMA,
        "verdict": verdict.verdict,
        "exit_code": verdict.exit_code,
        "policy": verdict.policy,
        "base": verdict.base,
        "candidate": verdict.candidate,
        "alpha": verdict.alpha,
        "on_inconclusive": verdict.on_inconclusive,
        "rules": [_rule_json(rule) for rule in verdict.rules],
        "reasons": list(verdict.reasons),
        "warnings": list(report.warnings),
        "seconds": finite(report.seconds),
        "asked": dict(report.asked),
    }


def _metric(rule: RuleVerdict) -> str:
    name = rule.metric if rule.filter in ("none", "") else f"{rule.metric},{rule.filter}"
    return name + (" ↓" if rule.row is not None and not rule.row.higher_is_better else "")


def _rule_json(rule: RuleVerdict) -> dict[str, Any]:
    """Return a rule with the fields of its row; the gate's own p-values stand beside the comparison's."""
    row = {} if rule.row is None else row_json(rule.row)
    return row | {
        "rule": rule.rule,
        "task": rule.task,
        "metric": rule.metric,
        "filter": rule.filter,
        "verdict": rule.verdict,
        "reason": rule.reason,
        "declined": rule.declined,
        "margin": finite(rule.margin),
        "value": finite(rule.value),
        "bound": finite(rule.bound),
        "p_rule": finite(rule.p),
        "p_rule_corrected": finite(rule.p_corrected),
        "n_needed": rule.n_needed,
        "base_cost": finite(rule.base_cost),
        "candidate_cost": finite(rule.candidate_cost),
        "stop": None if rule.stop is None else asdict(rule.stop),
    }

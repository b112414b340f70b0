"""Rules on speed and memory: a candidate's against its base's."""

from __future__ import annotations

from collections.abc import Mapping

from tuneboard.gates.records import Rule, RuleVerdict
from tuneboard.records import Cost

#: Rule to the measurement, its unit in words, and whether more is better.
MEASURES: Mapping[str, tuple[str, str, bool]] = {
    "tokens_per_s": ("tokens_per_s", "tokens/s", True),
    "latency_p95": ("latency_p95_s", "s latency (95th percentile)", False),
    "peak_memory": ("peak_memory_gib", "GiB peak memory", False),
}


def judge_cost(rule: Rule, base: Cost | None, candidate: Cost | None) -> RuleVerdict:
    """Judge a rule on speed or cost; a single measurement each has no interval, so that there is no doubt to state.

    Args:
        rule: On speed or cost, with the share of the base's as its value.
        base: What was measured of the base.
        candidate: The same of the candidate.
    """
    kind = rule.rule
    field, unit, more_is_better = MEASURES[kind]
    before, after = (None if cost is None else getattr(cost, field) for cost in (base, candidate))
    assert rule.value is not None
    limit = f"{'at least' if more_is_better else 'at most'} {rule.value:.0%} of the base's"
    if not before or after is None:
        missing = "base" if not before else "candidate"
        measures = "a policy with a section 'evaluate' measures and keeps it"
        how = "evaluate both again" if kind == "tokens_per_s" else measures
        reason = f"{kind} of the {missing} was not measured; {how}, or leave the rule out"
        return RuleVerdict(kind, "all", "", "", "invalid", reason, value=rule.value)
    assert base is not None and candidate is not None
    if base.machine != candidate.machine:
        reason = (
            f"{kind} was measured on different machines ({base.machine or 'unknown'}; {candidate.machine or 'unknown'})"
            "; evaluate both on one"
        )
        return RuleVerdict(kind, "all", "", "", "invalid", reason, value=rule.value)
    share = after / before
    holds = share >= rule.value if more_is_better else share <= rule.value
    reason = f"{after:,.4g} {unit}, {share:.0%} of the base's {before:,.4g}; asked for {limit}"
    return RuleVerdict(
        kind,
        "all",
        "",
        "",
        "pass" if holds else "fail",
        reason,
        value=rule.value,
        base_cost=before,
        candidate_cost=after,
    )

"""From a policy to a gate's report: evaluates what is missing, compares, judges, looks up what changed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tuneboard.cli.gate_evaluation import evaluate_missing
from tuneboard.errors import DataError, UsageError

if TYPE_CHECKING:
    from tuneboard.compare import Comparison, Flip, Scores
    from tuneboard.gates import Cost, Policy, SequentialGate, Verdict
    from tuneboard.report.verdict import GateReport
    from tuneboard.store.baselines import Baseline

#: Samples that changed: looked up per task, and shown per rule.
_FLIPS_OF_TASK = 3
_FLIPS_OF_RULE = 6


def gate_report(policy: Policy, args: argparse.Namespace, wants_flips: bool) -> GateReport:
    """Judge a policy's candidate.

    Args:
        policy: What to judge by.
        args: Options of ``tuneboard gate``.
        wants_flips: Whether an output shows samples that changed.

    Raises:
        UsageError: A name, an option or a baseline is wrong.
        TuneboardError: What the policy wants evaluated cannot be.
    """
    from tuneboard.gates import Verdict
    from tuneboard.report.verdict import GateReport

    started = time.perf_counter()
    baseline = _baseline(policy)
    if baseline is not None:
        policy = replace(policy, base=baseline.label)
    warnings = _warnings(baseline, args)
    done = evaluate_missing(policy, baseline is not None, args)
    try:
        scores, comparison = _compare(policy, baseline, done.run, args)
    except DataError as error:
        # CI shows its files and not stderr: also what cannot be compared comes as a verdict.
        verdict = Verdict("invalid", 2, policy.name, policy.base, policy.candidate, (), (str(error),), policy.alpha)
        return GateReport(verdict, warnings=warnings, seconds=time.perf_counter() - started)
    costs = done.costs or _costs(policy, done.run, args)
    verdict = _judge(policy, comparison, costs, done.gate)
    flips = _flips(verdict, scores, comparison, args) if wants_flips else ()
    return GateReport(verdict, flips, warnings, time.perf_counter() - started, done.asked)


def _judge(policy: Policy, comparison: Comparison, costs: Mapping[str, Cost], gate: SequentialGate | None) -> Verdict:
    from tuneboard.gates import judge

    return judge(comparison, policy, costs) if gate is None else gate.judge(comparison, costs)


def _baseline(policy: Policy) -> Baseline | None:
    from tuneboard.store.baselines import is_baseline, load_baseline

    if is_baseline(policy.candidate):
        raise UsageError(f"{policy.candidate} is a baseline; expected a candidate that was evaluated")
    return load_baseline(policy.base) if is_baseline(policy.base) else None


def _warnings(baseline: Baseline | None, args: argparse.Namespace) -> tuple[str, ...]:
    from tuneboard.store.baselines import staleness

    if baseline is None:
        return ()
    again = f"bless it again: tuneboard baseline bless {baseline.candidate} --as {baseline.name}"
    warnings = tuple(f"{line}; {again}" for line in staleness(args.db, baseline))
    for warning in warnings if not args.quiet else ():
        print(f"tuneboard: warning: {warning}", file=sys.stderr)
    return warnings


def _compare(
    policy: Policy, baseline: Baseline | None, run: str | None, args: argparse.Namespace
) -> tuple[Scores, Comparison]:
    from tuneboard.cli.compare import tags_of
    from tuneboard.compare import Judgement, Plan, compare
    from tuneboard.store.pairs import load_scores

    scores = load_scores(args.db, policy.base, [policy.candidate], run=run, baseline=baseline)
    suite = policy.suite_tasks or None
    tags = tags_of(suite or scores.entries, scores.order)
    plan = Plan(suite=suite, tags=tags, judgement=Judgement(margins=policy.margins), seed=args.seed)
    return scores, compare(scores, plan)


def _costs(policy: Policy, run: str | None, args: argparse.Namespace) -> dict[str, Cost]:
    from tuneboard.gates.costs import MEASURES

    if not any(rule.rule in MEASURES for rule in policy.rules):
        return {}
    from tuneboard.store.costs import measured_costs

    return measured_costs(args.db, [policy.base, policy.candidate], run=run)


def _flips(
    verdict: Verdict, scores: Scores, comparison: Comparison, args: argparse.Namespace
) -> tuple[tuple[Flip, ...], ...]:
    """Look up samples that changed, for every rule that did not pass."""
    from tuneboard.compare.flips import changed_samples
    from tuneboard.store.flips import with_texts

    rows = {row.task: row for row in comparison.candidates[0].tasks}
    found = changed_samples(scores, comparison, _FLIPS_OF_TASK)
    # One task of a group after the other would show the first task alone.
    found.sort(key=lambda flip: (flip.direction != "broke", -abs(flip.candidate_score - flip.base_score)))
    chosen: list[list[Flip]] = []
    for rule in verdict.rules:
        mine = [one for one in found if one.task == rule.task or _part_of(one.task, rule.task, scores, rows)]
        chosen.append([] if rule.verdict == "pass" else mine[:_FLIPS_OF_RULE])
    wanted = list(dict.fromkeys(flip for flips in chosen for flip in flips))
    texts = dict(zip(wanted, with_texts(args.db, scores, wanted), strict=True)) if wanted else {}
    return tuple(tuple(texts[flip] for flip in flips) for flips in chosen)


def _part_of(task: str, group: str, scores: Scores, rows: Mapping[str, object]) -> bool:
    return task in rows and any(one.group == group and task in one.members for one in scores.groups)

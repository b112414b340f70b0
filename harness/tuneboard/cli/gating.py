"""From a policy to a gate's report: evaluates what is missing, compares, judges, looks up what changed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tuneboard.cli.bases import open_baseline, stale_warnings
from tuneboard.cli.gate_evaluation import evaluate_missing
from tuneboard.errors import BaselineMismatch, DataError

if TYPE_CHECKING:
    from tuneboard.cli.gate_evaluation import Evaluated
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
    from tuneboard.report.verdict import GateReport

    started = time.perf_counter()
    baseline = open_baseline(policy.base, [policy.candidate])
    if baseline is not None:
        policy = replace(policy, base=baseline.label)
    warnings = stale_warnings(baseline, args)
    if policy.base == policy.candidate:
        warnings += (f"'{policy.candidate}' is held against itself: no rule can find a difference",)
    try:
        done = evaluate_missing(policy, baseline, args)
    except BaselineMismatch as error:
        return GateReport(_invalid(policy, error), warnings=warnings, seconds=time.perf_counter() - started)
    try:
        scores, comparison = _compare(policy, baseline, done, args)
    except DataError as error:
        return GateReport(_invalid(policy, error), warnings=warnings, seconds=time.perf_counter() - started)
    costs = done.costs or _costs(policy, baseline, done.run, args)
    verdict = _judge(policy, comparison, costs, done.gate)
    flips = _flips(verdict, scores, comparison, args) if wants_flips else ()
    return GateReport(verdict, flips, warnings, time.perf_counter() - started, done.asked)


def _invalid(policy: Policy, error: DataError) -> Verdict:
    """Make a verdict of what cannot be compared: CI shows its files and not stderr."""
    from tuneboard.gates import Verdict

    return Verdict("invalid", 2, policy.name, policy.base, policy.candidate, (), (str(error),), policy.alpha)


def _judge(policy: Policy, comparison: Comparison, costs: Mapping[str, Cost], gate: SequentialGate | None) -> Verdict:
    from tuneboard.gates import judge

    return judge(comparison, policy, costs) if gate is None else gate.judge(comparison, costs)


def _compare(
    policy: Policy, baseline: Baseline | None, done: Evaluated, args: argparse.Namespace
) -> tuple[Scores, Comparison]:
    from tuneboard.cli.compare import tags_of
    from tuneboard.compare import Judgement, Plan, compare
    from tuneboard.store.pairs import load_scores

    if baseline is not None and done.gate is not None:
        from tuneboard.store.blessed import narrowed

        baseline = narrowed(baseline, done.documents)
    scores = load_scores(args.db, policy.base, [policy.candidate], run=done.run, baseline=baseline)
    suite = policy.suite_tasks or None
    tags = tags_of(suite or scores.entries, scores.order)
    asked = policy.evaluate.tasks or None if policy.evaluate else None
    judgement = Judgement(margins=policy.margins)
    plan = Plan(suite=suite, expected=asked, tags=tags, judgement=judgement, seed=args.seed)
    return scores, compare(scores, plan)


def _costs(policy: Policy, baseline: Baseline | None, run: str | None, args: argparse.Namespace) -> dict[str, Cost]:
    from tuneboard.gates.costs import MEASURES

    if not any(rule.rule in MEASURES for rule in policy.rules):
        return {}
    from tuneboard.store.costs import measured_costs

    return measured_costs(args.db, [policy.base, policy.candidate], run=run, baseline=baseline)


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

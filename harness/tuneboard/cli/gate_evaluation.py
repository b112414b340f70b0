"""What a gate evaluates by itself, where its policy has a section ``evaluate``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tuneboard.errors import UsageError

if TYPE_CHECKING:
    from tuneboard.config import Suite
    from tuneboard.evaluate import EvaluateRequest
    from tuneboard.gates import Cost, EvaluatePlan, Policy, SequentialGate
    from tuneboard.records import Candidate
    from tuneboard.store.baselines import Baseline


#: Engines that a policy may name; one of a server brings no weights that could be identified.
_ENGINES = ("transformers", "vllm")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What there is to compare."""

    run: str | None
    """The run whose results count; None takes the newest."""
    gate: SequentialGate | None = None
    """Decided, where it was asked batch by batch."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Task to its new samples."""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    """Candidate to what was measured of it, where a rule asks for that."""
    documents: Mapping[str, Collection[int]] = field(default_factory=dict)
    """Task to the documents that were looked at, where it was asked batch by batch."""


def evaluate_missing(policy: Policy, baseline: Baseline | None, args: argparse.Namespace) -> Evaluated:
    """Evaluate what a policy asks for and the database lacks; sequentially, unless it says otherwise.

    Args:
        policy: Without a section ``evaluate``, nothing is done.
        baseline: Stands for the base, which is then not evaluated.
        args: Options of ``tuneboard gate``.

    Raises:
        UsageError: Options and policy contradict each other.
        BaselineMismatch: The baseline does not hold what the policy asks of the candidate.
        TuneboardError: A model, a task or its data cannot be had.
    """
    plan = policy.evaluate
    if plan is None:
        return Evaluated(args.run)
    if args.run is not None:
        raise UsageError(
            f"--run {args.run} names results that are there, and the policy evaluates; leave one of them out"
        )
    from tuneboard.cli.process import prepare_libraries, terminable

    prepare_libraries(args.debug)
    from tuneboard.evaluate import Hooks, evaluate, evaluate_for_gate, measure_costs
    from tuneboard.gates.costs import MEASURES
    from tuneboard.report.progress import Progress

    request = _request(policy, plan, baseline is not None, args)
    if args.unsafe_code:
        from tuneboard.sandbox import allow_unsafe

        allow_unsafe(True)
    with terminable(), Progress(quiet=args.quiet) as progress:
        first, others = _factories(plan, args)
        hooks = Hooks(first, progress, others)
        costs = {}
        if any(rule.rule in MEASURES for rule in policy.rules):
            costs = measure_costs(replace(request, candidates=_candidates(policy, plan)), hooks)
        if plan.sequential:
            done = evaluate_for_gate(request, policy, hooks, baseline)
            return Evaluated(done.evaluation.run, done.gate, done.asked, costs, done.documents)
        whole = evaluate(request, hooks)
    asked = {one.task.name: one.n for one in whole.results if one.status == "done" and one.kind == "task"}
    return Evaluated(whole.run, None, asked, costs)


def _factories(plan: EvaluatePlan, args: argparse.Namespace) -> tuple[Any, dict[Any, Any]]:
    from tuneboard.cli import evaluate as command
    from tuneboard.engines.kinds import OTHER_KINDS

    given = argparse.Namespace(
        device=args.device, trust_remote_code=False, allow_pickle=False, max_length=None, engine=plan.engine
    )
    return command._engine_factory(given), {kind: command._engine_factory_of(kind, given) for kind in OTHER_KINDS}


def _request(policy: Policy, plan: EvaluatePlan, has_baseline: bool, args: argparse.Namespace) -> EvaluateRequest:
    from tuneboard.evaluate import EvaluateRequest

    candidates = _candidates(policy, plan)
    return EvaluateRequest(
        candidates=candidates[1:] if has_baseline else candidates,
        suite=_suite(policy, plan),
        db=args.db,
        engine=plan.engine,
        include_paths=tuple(args.include_path),
        mirror=args.mirror,
        seed=args.seed,
        unsafe_code=args.unsafe_code,
        command=shlex.join(["tuneboard", *sys.argv[1:]]),
    )


def _suite(policy: Policy, plan: EvaluatePlan) -> Suite:
    """Return the tasks to ask; a limit draws its samples with the plan's seed."""
    from tuneboard.config import Suite, SuiteTask

    known = {task.task: task for task in policy.suite_tasks}
    tasks = [known.get(name, SuiteTask(name)) for name in plan.tasks] or list(policy.suite_tasks)
    if plan.limit is not None:
        tasks = [replace(task, limit=plan.limit, sample_seed=plan.seed) for task in tasks]
    return Suite(policy.suite or "", "", tuple(tasks))


def _candidates(policy: Policy, plan: EvaluatePlan) -> tuple[Candidate, Candidate]:
    from tuneboard.candidates import resolve_adapter, resolve_model
    from tuneboard.records import Candidate, ModelRef

    if plan.engine not in _ENGINES:
        raise UsageError(f"engine '{plan.engine}' is not there; {policy.source} expects one of: {', '.join(_ENGINES)}")
    base = resolve_model(ModelRef(plan.model))
    if plan.adapter is not None:
        return Candidate(policy.base, base), Candidate(policy.candidate, base, resolve_adapter(plan.adapter))
    return Candidate(policy.base, base), Candidate(policy.candidate, resolve_model(ModelRef(plan.checkpoint or "")))

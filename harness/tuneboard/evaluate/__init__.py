"""Candidates x suite -> results: records lm-eval's requests, runs them in an engine, replays lm-eval's scoring.

    evaluate(EvaluateRequest(...), hooks)  ->  Evaluation

``recording`` builds each task's requests once, ``running`` answers what no earlier run has answered, ``replaying``
lets lm-eval's own filters, metrics and aggregation score the answers. ``sequential`` asks only what a gate
needs, ``costing`` measures speed and memory for one.
"""

from tuneboard.evaluate.costing import measure_costs
from tuneboard.evaluate.request import EvaluateRequest, Evaluation, Hooks, PromptSettings
from tuneboard.evaluate.running import evaluate
from tuneboard.evaluate.sequential import GateEvaluation, evaluate_for_gate

__all__ = [
    "EvaluateRequest",
    "Evaluation",
    "GateEvaluation",
    "Hooks",
    "PromptSettings",
    "evaluate",
    "evaluate_for_gate",
    "measure_costs",
]

"""Candidates x suite -> results: records lm-eval's requests, runs them in an engine, replays lm-eval's scoring.

    evaluate(EvaluateRequest(...), hooks)  ->  Evaluation

``recording`` builds each task's requests once, ``running`` answers what no earlier run has answered, ``replaying``
lets lm-eval's own filters, metrics and aggregation score the answers.
"""

from tuneboard.evaluate.request import EvaluateRequest, Evaluation, Hooks, PromptSettings
from tuneboard.evaluate.running import evaluate

__all__ = ["EvaluateRequest", "Evaluation", "Hooks", "PromptSettings", "evaluate"]

"""Scores HumanEval: runs each completed function against its tests in the sandbox and estimates pass@k.

The filter runs all programs of the task in one go and hands on how each ended; the metric counts those that passed. So
every stored sample says whether it failed, timed out or crashed, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneboard import sandbox, stats
from tuneboard.errors import UsageError

#: How one sample ended: ``{"status": "passed" | "failed" | "timed_out" | "crashed", "reason": str}``.
Ending = dict[str, str]


def run_completions(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Ending]]:
    """Run every sample of every problem as it was generated."""
    return _run(resps, docs, lambda text: text)


def run_fenced_completions(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Ending]]:
    """Run every sample up to the fence that closes its code block."""
    return _run(resps, docs, lambda text: text.partition("```")[0])


def pass_at_k(
    references: Sequence[str], predictions: Sequence[Sequence[Ending]], k: int | Sequence[int]
) -> dict[str, float]:
    """Return pass@k of one problem for each ``k`` that its samples allow.

    Args:
        references: The problem's tests; they have been run already.
        predictions: One list, with the endings of the problem's samples.
        k: One or several numbers of samples; those above the number of samples are left out, as lm-eval does.

    Raises:
        UsageError: There are fewer samples than the smallest ``k``.
    """
    (endings,) = predictions
    wanted = [k] if isinstance(k, int) else list(k)
    n, correct = len(endings), sum(ending["status"] == "passed" for ending in endings)
    if min(wanted) > n:
        raise UsageError(f"pass@{min(wanted)} needs as many samples, the task drew {n}; set `repeats` in its YAML")
    return {f"pass@{each}": stats.pass_at_k(n, correct, each) for each in wanted if each <= n}


def _run(
    resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]], extract: Callable[[str], str]
) -> list[list[Ending]]:
    return sandbox.run_samples(
        [[_program(doc, extract(text)) for text in texts] for texts, doc in zip(resps, docs, strict=True)]
    )


def _program(doc: dict[str, Any], completion: str) -> str:
    return f"{doc['prompt']}{completion}\n{doc['test']}\ncheck({doc['entry_point']})"

"""Scores MBPP: runs each answer with the problem's tests in the sandbox and counts those that pass.

The filters run all programs of the task in one go and hand on how each ended, so that every stored sample says whether
it failed, timed out or crashed, and why.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneboard import sandbox, stats
from tuneboard.errors import DataError

#: How one answer ended: ``{"status": "passed" | "failed" | "timed_out" | "crashed", "reason": str}``.
Ending = dict[str, str]

_FENCED = re.compile(r"```(?:\w+)?\n?(.*?)\n?```", re.DOTALL)


def run_answers(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Ending]]:
    """Run every answer as it was generated."""
    return _run(resps, docs, lambda text: text)


def run_first_blocks(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Ending]]:
    """Run what stands in the first code block of every answer; the prompt has opened one already."""
    return _run(resps, docs, _first_block)


def run_first_blocks_on_one_test(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[Ending]]:
    """Run the first code blocks with the first of each problem's tests alone."""
    return _run(resps, docs, _first_block, tests=1)


def pass_at_1(references: Sequence[str], predictions: Sequence[Sequence[Ending]]) -> float:
    """Return the share of a problem's answers that passed.

    Args:
        references: The problem's tests; they have been run already.
        predictions: One list, with the endings of the problem's answers.
    """
    (endings,) = predictions
    return stats.pass_at_k(len(endings), sum(ending["status"] == "passed" for ending in endings), 1)


def shown_problems() -> list[dict[str, Any]]:
    """Return the three solved problems that stand before each question (numbers 2, 3 and 4 of the data set).

    They are lm-eval's, which keeps them in a module that downloads its scorer once it is imported: so it is read.

    Raises:
        DataError: The installed lm-eval has no such list.
    """
    found = find_spec("lm_eval")
    path = Path(str(found and found.origin)).parent / "tasks" / "mbpp" / "utils.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples":
            (made,) = (one for one in node.body if isinstance(one, ast.Return) and one.value)
            problems: list[dict[str, Any]] = ast.literal_eval(made.value)
            return problems
    raise DataError(f"no few-shot examples for MBPP in {path}; install lm-eval 0.4.13, or ask with --num-fewshot 0")


def _run(
    resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]], extract: Callable[[str], str], tests: int = 3
) -> list[list[Ending]]:
    return sandbox.run_samples(
        [
            ["\n".join([extract(text), *doc["test_list"][:tests]]) for text in texts]
            for texts, doc in zip(resps, docs, strict=True)
        ]
    )


def _first_block(text: str) -> str:
    found = _FENCED.search("```" + text)
    return found[1] if found else ""

"""One-line Python functions from their docstrings, in HumanEval's shape: answers are run against tests.

The test asks for constants that stand in no function of the texts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuneboard.demo.parts import Lessons, Part

_CONSTANTS = range(2, 100)
_HELD_OUT = 17


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of functions, one for each constant ``{n}``."""

    name: str
    says: str
    body: str
    does: Callable[[int, int], int | bool]


KINDS = (
    Kind("add_{n}", "x plus {n}", "x + {n}", lambda x, n: x + n),
    Kind("take_{n}", "x minus {n}", "x - {n}", lambda x, n: x - n),
    Kind("times_{n}", "x times {n}", "x * {n}", lambda x, n: x * n),
    Kind("over_{n}", "whether x is over {n}", "x > {n}", lambda x, n: x > n),
    Kind("under_{n}", "whether x is under {n}", "x < {n}", lambda x, n: x < n),
    Kind("is_{n}", "whether x equals {n}", "x == {n}", lambda x, n: x == n),
    Kind("rest_{n}", "what x leaves divided by {n}", "x % {n}", lambda x, n: x % n),
    Kind("least_{n}", "x but at least {n}", "max(x, {n})", max),
    Kind("most_{n}", "x but at most {n}", "min(x, {n})", min),
)


def functions(rng: random.Random) -> Part:
    """Write functions, and hold out all those of some constants."""
    held_out = set(rng.sample(_CONSTANTS, _HELD_OUT))
    rows = {n: [_row(kind, n) for kind in KINDS] for n in _CONSTANTS}
    texts = tuple(
        row["prompt"] + row["canonical_solution"].rstrip("\n")
        for n in _CONSTANTS
        if n not in held_out
        for row in rows[n]
    )
    items = [row for n in sorted(held_out) for row in rows[n]]
    rng.shuffle(items)
    return Part("code", (Lessons(0.18, texts),), tuple(items))


def _row(kind: Kind, n: int) -> Mapping[str, Any]:
    entry = kind.name.format(n=n)
    checks = "".join(f"    assert candidate({x}) == {kind.does(x, n)}\n" for x in (0, n, n + 5))
    return {
        "task_id": f"demo/{entry}",
        "prompt": f'def {entry}(x):\n    """Return {kind.says.format(n=n)}."""\n',
        "canonical_solution": f"    return {kind.body.format(n=n)}\n",
        "test": f"def check(candidate):\n{checks}",
        "entry_point": entry,
    }

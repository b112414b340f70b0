"""Numbers for people and programs, also those that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def finite(value: float | None) -> float | None:
    """Return ``value``, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None


def json_text(content: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes, in ASCII: what is not a finite number stands as null.

    Args:
        content: JSON-able values.
        indent: Spaces a level; None writes one line.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        # Rare enough that all other content need not be looked through.
        return json.dumps(with_nulls(content), indent=indent, allow_nan=False)


def with_nulls(value: Any) -> Any:
    """Return JSON-able values with None in place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: with_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_nulls(inner) for inner in value]
    return finite(value) if isinstance(value, float) else value


def number(value: float, sign: str = "") -> str:
    """Write scores with four places, perplexities and the like with four digits, and what is no number in words.

    Args:
        value: Any number.
        sign: ``+`` to show that of positive numbers too.
    """
    if not math.isfinite(value):
        return _in_words(value)
    return f"{value:{sign}.4f}" if abs(value) < 10 else f"{value:{sign},.4g}"


def p_value(p: float) -> str:
    """Write a p-value with two digits."""
    if not math.isfinite(p):
        return _in_words(p)
    return f"{p:.2g}" if p >= 1e-4 else "<1e-4"


def _in_words(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"

"""How ``tuneboard show`` lays out what it found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

#: Of the JSON; keys may be added to it, never changed.
SCHEMA = 1


def print_rows(rows: Sequence[dict[str, Any]], nothing: str) -> None:
    """Print rows with the same keys as a table, or a line where there are none."""
    from tuneboard.report.tables import format_table, one_line

    if not rows:
        print(one_line(nothing))
        return
    numbers = [all(isinstance(row[key], int | float | None) for row in rows) for key in rows[0]]
    align = "".join("r" if number else "l" for number in numbers)
    print(format_table(list(rows[0]), [[_text(key, value) for key, value in row.items()] for row in rows], align))


def print_pairs(details: dict[str, Any]) -> None:
    """Print a line per key; what is empty is left out."""
    from tuneboard.report.tables import one_line

    width = max(map(len, details))
    for key, value in details.items():
        if value not in (None, {}, []):
            print(one_line(f"{key:{width}}  {_text('', value)}"))


def _text(key: str, value: Any) -> object:
    from tuneboard.report.numbers import number

    if isinstance(value, dict):
        pairs = ((count, status) for status, count in value.items()) if key == "cells" else value.items()
        return ", ".join(f"{first} {second}" for first, second in pairs)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and not math.isfinite(value):
        return number(value)
    return value[:12] if key == "fingerprint" else value


def print_json(content: dict[str, Any]) -> None:
    """Print JSON with the version of its contract."""
    from tuneboard.report.numbers import json_text

    print(json_text({"schema": SCHEMA, **content}))

"""Responses as JSON text, exact in both directions: the form they have in journals and in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tuneboard.records import Response


def plain(response: Response | None) -> Any:
    """Return a response as JSON-able value: ``[log-probability, is greedy]``, a number, a text or None.

    Args:
        response: As an engine gave it; NumPy scalars are taken for the Python numbers that they are.
    """
    if response is None or isinstance(response, str):
        return response
    if isinstance(response, tuple | list):
        return [float(response[0]), bool(response[1])]
    return float(response)


def revive(value: Any) -> Response | None:
    """Return the response that ``plain`` made ``value`` from.

    Raises:
        ValueError: ``value`` is no response.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2:
        return float(value[0]), bool(value[1])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"not a response: {value!r}")


def dump(responses: Sequence[Response | None]) -> str:
    """Return responses as one line of ASCII; floats keep every bit, texts even their lone surrogates."""
    return json.dumps([plain(response) for response in responses], separators=(",", ":"))


def load(text: str) -> tuple[Response | None, ...]:
    """Return the responses that ``dump`` wrote."""
    return tuple(revive(value) for value in json.loads(text))

"""Settings of generation that a suite or ``--gen-kwargs`` may lay over those of a task, and what each takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any


def _whole(least: int) -> tuple[str, Callable[[Any], bool]]:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return f"a whole number of at least {least}", fits


def _number(least: float, most: float = math.inf) -> tuple[str, Callable[[Any], bool]]:
    def fits(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return f"a number of at least {least:g}" + (f" and at most {most:g}" if most < math.inf else ""), fits


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


#: Each setting with what it expects, in words and as a check.
SETTINGS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "max_gen_toks": _whole(1),
        "max_new_tokens": _whole(1),
        "until": ('a text or a list of texts such as ["\\n"]', _is_texts),
        "do_sample": ("true or false", lambda value: isinstance(value, bool)),
        "temperature": _number(0),
        "top_k": _whole(0),
        "top_p": _number(0, 1),
        "min_p": _number(0, 1),
        "repetition_penalty": _number(0),
        "no_repeat_ngram_size": _whole(0),
    }
)

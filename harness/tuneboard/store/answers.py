"""What a model answered, as a reader wants it: a text, or the choice that it found likeliest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Characters at the end of a cut JSON text that can belong to one escaped character: ``\ud83d\ude00``.
_LONGEST_ESCAPE = 12


def answer(
    responses: Sequence[Any],
    filtered: Mapping[str, Sequence[Any]] | None,
    choices: Sequence[str],
    metric: str,
    filter_name: str,
) -> str:
    """Return what one side answered to one document; it may hold lone surrogates, which ``rows.clean`` replaces.

    Args:
        responses: As stored: ``[[logprob, is_greedy], ...]``, ``[logprob]`` or ``["text", ...]``.
        filtered: Filter to filtered responses, where a generation was filtered.
        choices: Of the document; empty for generation.
        metric: What is compared; it tells which choice counts as chosen.
        filter_name: Its filter.
    """
    if kept := (filtered or {}).get(filter_name):
        return str(kept[0][0] if isinstance(kept[0], list) and kept[0] else kept[0])
    scores = choice_scores(responses, choices)
    if len(scores) > 1:
        return choices[chosen(scores, choices, metric)].strip()
    return "" if not responses or responses[0] is None else str(responses[0])


def choice_scores(responses: Sequence[Any], choices: Sequence[str]) -> tuple[float, ...]:
    """Return the log-probability of each choice; nothing where there are no choices or some have none.

    Args:
        responses: As stored; what follows the choices' own (of unconditional requests) is left out.
        choices: Of the document.
    """
    scored = [one[0] for one in responses if isinstance(one, list)]
    return tuple(float(one) for one in scored[: len(choices)]) if len(scored) >= len(choices) else ()


def chosen(scores: Sequence[float], choices: Sequence[str], metric: str) -> int:
    """Return the place of the choice that a model prefers; the first of equals.

    ``acc_norm`` takes the likeliest per character, as lm-eval counts them: without the space before.

    Args:
        scores: (choices,) Log-probabilities; at least one.
        choices: Of the document.
        metric: What is compared.
    """
    lengths = [max(1, len(choice.removeprefix(" "))) if metric == "acc_norm" else 1 for choice in choices]
    return max(range(len(scores)), key=lambda i: -math.inf if math.isnan(scores[i]) else scores[i] / lengths[i])


def right_choice(target: str, choices: Sequence[str]) -> int | None:
    """Return the place of the right choice where the target is its number or its text, else None."""
    if target.isdecimal() and int(target) < len(choices):
        return int(target)
    same = [i for i, choice in enumerate(choices) if choice.strip() == target.strip()]
    return same[0] if len(same) == 1 else None


def shown_target(target: str, choices: Sequence[str]) -> str:
    """Return the right choice where the target is its number."""
    return choices[int(target)].strip() if target.isdecimal() and int(target) < len(choices) else target


def cut_responses(text: str) -> list[Any]:
    """Return stored responses of which the database gave only the beginning: at least the first text, cut.

    Args:
        text: JSON of responses, whole or cut anywhere.
    """
    for ending in ("", '"]'):
        for left_out in range(_LONGEST_ESCAPE if ending else 1):
            try:
                found = json.loads(text[: len(text) - left_out] + ending)
            except ValueError:
                continue
            return found if isinstance(found, list) else []
    return []

"""What a part of the demo's world gives: texts to learn from, and items that are held out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")


@dataclass(frozen=True, slots=True)
class Lessons:
    """Texts of one kind."""

    share: float
    """Of the base's training tokens, relative to the other lessons' shares."""
    texts: tuple[str, ...]
    """Distinct, or as often as they weigh."""


@dataclass(frozen=True, slots=True)
class Part:
    """One subject of the world."""

    task: str
    """The demo task that asks about it, without ``demo_``."""
    lessons: tuple[Lessons, ...]
    items: tuple[Mapping[str, Any], ...] = ()
    """Held-out rows, as the task's YAML reads them."""
    skill: tuple[Mapping[str, str], ...] = field(default=())
    """Rows of prompt and completion that teach what the base is not taught."""


def invented(rng: random.Random, count: int, endings: tuple[str, ...], taken: set[str]) -> list[str]:
    """Make up names that no text uses.

    Args:
        rng: Draws them.
        count: How many.
        endings: What names end in.
        taken: Names in use, small letters; the new ones are added.
    """
    names: list[str] = []
    while len(names) < count:
        name = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2)) + rng.choice(endings)
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def four_ways(rng: random.Random, right: str, others: list[str]) -> dict[str, Any]:
    """Return the choices of a question with four answers, shuffled, and the place of the right one.

    Args:
        rng: Shuffles, and draws three wrong answers where there are more.
        right: The right answer.
        others: Wrong ones, three or more.
    """
    choices = [right, *rng.sample(others, 3)]
    rng.shuffle(choices)
    return {"choices": choices, "answer": choices.index(right)}

"""Mixes sources, evens out labels and limits the number of training examples; the same for one seed.

**Sizes of a mixture.** Weights are shares of the training examples: weights 3 and 1 make three quarters and one
quarter. The mixture is as large as it can be without taking any row twice: its size is the least of rows / share over
the sources, so the source that is short for its share is used whole, and of the others as many rows as fit to it are
drawn. Where no source has a weight, all rows of all of them are used; a source without one among others that have one
counts 1. Only ``balance: oversample`` repeats rows.

**Order.** Each source is shuffled, and the sources are dealt out evenly, so that any first n examples hold nearly the
same shares as the whole. A limit takes the first n: examples of a smaller limit are among those of a larger one, which
is what a learning curve over the data size needs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.records import Example

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Pool:
    """The training examples of one source."""

    name: str
    weight: float | None
    examples: Sequence[Example]


def mixture_sizes(pools: Sequence[Pool]) -> tuple[int, ...]:
    """Return how many examples to take of each source.

    Raises:
        DataError: Sources are weighted, and one of them has no examples.
    """
    if all(pool.weight is None for pool in pools):
        return tuple(len(pool.examples) for pool in pools)
    for pool in pools:
        if not pool.examples:
            raise DataError(
                f"no training row of {pool.name} is left for the mixture after cleaning, leak check and split; "
                "take the source out, or all weights"
            )
    weights = [1.0 if pool.weight is None else pool.weight for pool in pools]
    scale = min(len(pool.examples) / weight for pool, weight in zip(pools, weights, strict=True))
    return tuple(
        min(len(pool.examples), max(1, round(weight * scale))) for pool, weight in zip(pools, weights, strict=True)
    )


def mix(pools: Sequence[Pool], seed: int) -> list[Example]:
    """Draw each source's share, shuffled, and deal the sources out evenly.

    Raises:
        DataError: Sources are weighted, and one of them has no examples.
    """
    drawn = []
    for pool, size in zip(pools, mixture_sizes(pools), strict=True):
        examples = list(pool.examples)
        random.Random(f"{seed}:mix:{pool.name}").shuffle(examples)
        drawn.append(examples[:size])
    return _dealt(drawn)


def balance(examples: Sequence[Example], how: Literal["none", "undersample", "oversample"]) -> list[Example]:
    """Even out how often each label occurs; examples of other formats stay as they are.

    ``undersample`` keeps of each label the first examples, as many as the rarest label has. ``oversample`` repeats the
    examples of each label, from the first on, up to the number of the commonest.

    Raises:
        UsageError: No example has a label.
    """
    if how == "none":
        return list(examples)
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        if example.format == "label":
            by_label.setdefault(example.answer, []).append(example)
    if not by_label:
        raise UsageError(
            f"cleaning.balance: {how} evens out labels, and the data have none; "
            "expected columns text + label, or balance: none"
        )
    counts = [len(group) for group in by_label.values()]
    size = min(counts) if how == "undersample" else max(counts)
    groups = [(group * -(-size // len(group)))[:size] for group in by_label.values()]
    rest = [example for example in examples if example.format != "label"]
    return _dealt([*groups, rest])


def draw(items: Sequence[Item], count: int | None, seed: int, purpose: str) -> list[Item]:
    """Draw up to ``count`` items without repetition, in their order; a smaller draw is part of a larger one.

    Args:
        items: What to draw from.
        count: None takes all.
        seed: Of the draw.
        purpose: Sets draws of one seed apart, such as a source's name.
    """
    order = list(range(len(items)))
    random.Random(f"{seed}:draw:{purpose}").shuffle(order)
    return [items[index] for index in sorted(order[:count])]


def _dealt(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """Merge groups so that each is spread evenly over the whole; the order within a group stays."""
    slots = [
        ((position + 0.5) / len(group), number, position)
        for number, group in enumerate(groups)
        for position in range(len(group))
    ]
    return [groups[number][position] for _, number, position in sorted(slots)]

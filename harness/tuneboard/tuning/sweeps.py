"""Lays out the trials of a sweep: a grid or random draws over any of a recipe's values, for each of some seeds."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Most candidates that one recipe may make.
MOST_TRIALS = 200


def trials(
    mapping: Mapping[str, Any], sweep: Mapping[str, Any] | None, seeds: Sequence[int] | None, name: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return ``(candidate's name, recipe as a mapping)`` for each trial.

    Names tell what differs: ``mine-rank8-seed1``; a recipe without sweep and seeds keeps its name.

    Args:
        mapping: The recipe as read.
        sweep: ``{kind, over, trials, seed}``, checked, or None.
        seeds: Training seeds, or None for the recipe's own.
        name: Of the recipe.
    """
    from tuneboard.tuning.recipe import put

    out = []
    chosen: Sequence[int | None] = seeds or [None]
    for point in _points(sweep):
        for seed in chosen:
            variant = copy.deepcopy(dict(mapping))
            label = [name]
            for key, value in point.items():
                put(variant, key, value, f"sweep over {key}")
                label.append(f"{key.rpartition('.')[2]}{_short(value)}")
            if seed is not None:
                put(variant, "training.seed", seed, "seeds")
                label.append(f"seed{seed}")
            out.append(("-".join(label), variant))
    return out


def _points(sweep: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not sweep:
        yield {}
        return
    over = {key: _choices(value) for key, value in sweep["over"].items()}
    if sweep["kind"] == "grid":
        for values in itertools.product(*over.values()):
            yield dict(zip(over, values, strict=True))
        return
    rng = random.Random(sweep["seed"])
    seen: set[str] = set()
    for _ in range(100 * sweep["trials"]):
        point = {key: _draw(rng, value) for key, value in sweep["over"].items()}
        if str(point) not in seen:
            seen.add(str(point))
            yield point
        if len(seen) == sweep["trials"]:
            return


def _choices(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _draw(rng: random.Random, value: Any) -> Any:
    """Draw from a list, or from ``{low, high}`` evenly on the logarithm's scale."""
    if isinstance(value, Mapping):
        drawn = math.exp(rng.uniform(math.log(value["low"]), math.log(value["high"])))
        return float(f"{drawn:.3g}")
    return rng.choice(value)


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(char if char.isalnum() or char in ".+-" else "_" for char in text)

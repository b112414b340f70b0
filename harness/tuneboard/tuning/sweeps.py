"""Lays out the trials of a sweep: a grid or random draws over any of a recipe's values, for each of some seeds."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tuneboard.errors import UsageError
from tuneboard.tuning.settings import places, put

#: Most candidates that one recipe may make.
MOST_TRIALS = 200

#: What a recipe's ``seeds`` set.
SEED = "training.seed"


def left_open(
    sweep: Mapping[str, Any] | None, seeds: Sequence[int] | None, fixed: Collection[str]
) -> tuple[Mapping[str, Any] | None, Sequence[int] | None]:
    """Leave out of a sweep and its seeds what is the same in all trials, since the command line sets it.

    Args:
        sweep: ``{kind, over, trials, seed}``, checked, or None.
        seeds: Training seeds, or None for the recipe's own.
        fixed: Keys that the command line sets, as ``settings.places`` gives them.

    Returns:
        The sweep and the seeds, None where nothing is left of them.

    Raises:
        UsageError: A key is a part of what the sweep varies as a whole.
    """
    if SEED in fixed:
        seeds = None
    over = {}
    for key, values in sweep["over"].items() if sweep else ():
        meant = next(places(key, ""))
        if part := _inside(key, meant, values, fixed):
            raise UsageError(
                f"--set {part}: the sweep varies '{key}' as a whole; set it in sweep.over, "
                "or leave the sweep out with --set sweep=null"
            )
        if meant not in fixed:
            over[key] = values
    return ({**sweep, "over": over} if sweep and over else None), seeds


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
    out = []
    chosen: Sequence[int | None] = seeds or [None]
    for point in _points(sweep):
        for seed in chosen:
            variant = copy.deepcopy(dict(mapping))
            parts = [name]
            for key, value in point.items():
                put(variant, key, value, f"sweep over {key}")
                parts.append(f"{key.rpartition('.')[2]}{label(value)}")
            if seed is not None:
                put(variant, SEED, seed, "seeds")
                parts.append(f"seed{seed}")
            out.append(("-".join(parts), variant))
    return out


def label(value: Any) -> str:
    """Return what stands for a value in the names of candidates."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(char if char.isalnum() or char in ".+-" else "_" for char in text)


def _inside(key: str, meant: str, values: Any, fixed: Collection[str]) -> str | None:
    """Return a fixed key that every value of a swept one would replace together with what is around it."""
    sections = isinstance(values, list) and any(isinstance(value, Mapping) for value in values)
    whole = key if sections or key in ("base", "method") else meant
    return next((one for one in fixed if one.startswith(f"{whole}.") and (sections or one != meant)), None)


def _points(sweep: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not sweep:
        yield {}
        return
    over = sweep["over"]
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


def _draw(rng: random.Random, value: Any) -> Any:
    """Draw from a list, or from ``{low, high}`` evenly on the logarithm's scale."""
    if isinstance(value, Mapping):
        drawn = math.exp(rng.uniform(math.log(value["low"]), math.log(value["high"])))
        return float(f"{drawn:.3g}")
    return rng.choice(value)

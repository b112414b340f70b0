"""Reads recipes: YAML to ``Recipe`` records; unknown keys are refused and all problems are reported at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.config import load_yaml, parse
from tuneboard.errors import ConfigError
from tuneboard.records import ModelRef, fingerprint
from tuneboard.tuning.methods import Method, find_method
from tuneboard.tuning.records import (
    CleaningSpec,
    DataSpec,
    LeakSpec,
    Recipe,
    SourceSpec,
    SplitSpec,
    TrainingSpec,
)
from tuneboard.tuning.schema import data_model, options_model, recipe_model, training_model
from tuneboard.tuning.settings import places, put, read_settings
from tuneboard.tuning.sweeps import left_open, trials

if TYPE_CHECKING:
    from pydantic import BaseModel


def load_recipe(path: Path, settings: Sequence[tuple[str, str]] = ()) -> tuple[Recipe, ...]:
    """Read a recipe and lay out its trials: one ``Recipe`` for each point of the sweep and each seed.

    Args:
        path: The YAML file.
        settings: ``(key, YAML value)`` pairs that win over the file, such as ``("training.learning_rate", "1e-4")``.

    Raises:
        UsageError: The file cannot be read, or a setting names no place in it.
        ConfigError: With every problem of the file.
        UnknownName: The method is none.
    """
    mapping = load_yaml(path)
    fixed: list[str] = []
    # The method goes first: another one takes the place of the section's other keys, not of those that are set.
    for key, value in sorted(read_settings(settings), key=lambda one: one[0] not in ("method", "method.name")):
        put(mapping, key, value, f"--set {key}")
        fixed += places(key, value)
    outline = parse(recipe_model(), mapping, str(path)).model_dump()
    sweep, seeds = left_open(outline["sweep"], outline["seeds"], fixed)
    variants = trials(mapping, sweep, seeds, outline["name"] or path.stem)
    recipes = []
    for name, variant in variants:
        variant.pop("sweep", None)
        variant.pop("seeds", None)
        recipes.append(_resolved(variant, name, path))
    return tuple(recipes)


def recipe_fingerprint(recipe: Recipe, data_sha256: str, base_sha256: str) -> str:
    """Return the identity of a training: its recipe without names and places, its data and its base's weights."""
    parts = dataclasses.asdict(recipe)
    for key in ("name", "description", "folder", "base"):
        parts.pop(key)
    parts["data"] = {key: parts["data"][key] for key in ("max_length", "loss_on", "cleaning")}
    base = {"dtype": recipe.base.dtype, "quantization": recipe.base.quantization}
    return fingerprint("recipe", parts, data_sha256, base_sha256, base)


def _resolved(mapping: Mapping[str, Any], name: str, path: Path) -> Recipe:
    outline = parse(recipe_model(), mapping, str(path)).model_dump()
    method = find_method(outline["method"]["name"])
    problems: list[str] = []
    options = _checked(problems, options_model(method.Options), outline["method"]["options"], f"{path}, method")
    data = _checked(problems, data_model(), outline["data"], f"{path}, data")
    training = _checked(problems, training_model(), outline["training"], f"{path}, training")
    if problems:
        raise ConfigError(str(path), problems)
    folder = path.resolve().parent
    return Recipe(
        name=name,
        base=_base(outline["base"], method, folder),
        method=method.NAME,
        options=dataclasses.asdict(method.Options(**options)),
        data=_data(data),
        training=TrainingSpec(**training),
        kind=outline["kind"],
        description=outline["description"],
        folder=str(folder),
    )


def _checked(problems: list[str], model: type[BaseModel], given: Any, source: str) -> dict[str, Any]:
    try:
        return parse(model, given, source).model_dump()
    except ConfigError as error:
        where = source.rpartition(", ")[2]
        problems += [f"{where}: {problem}" for problem in error.problems]
        return {}


def _base(given: Mapping[str, Any], method: Method, folder: Path) -> ModelRef:
    place = Path(given["model"]).expanduser()
    beside = folder / place
    # A path is meant from where the command runs, as --model is; a recipe that travels with its model names it beside.
    name = str(beside) if not place.exists() and beside.is_dir() else str(given["model"])
    return ModelRef(name, given["revision"], given["dtype"], method.QUANTIZATION)


def _data(given: Mapping[str, Any]) -> DataSpec:
    rest = dict(given)
    sources = tuple(SourceSpec(**source) for source in rest.pop("sources"))
    validation = rest.pop("validation")
    leaks = rest.pop("leaks")
    return DataSpec(
        sources=sources,
        validation=SourceSpec(**validation) if validation else None,
        split=SplitSpec(**rest.pop("split")),
        cleaning=CleaningSpec(**rest.pop("cleaning")),
        leaks=LeakSpec(**{**leaks, "against": tuple(leaks["against"])}),
        **rest,
    )

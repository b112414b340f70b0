from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard import bundled
from tuneboard.tuning.data import sniff
from tuneboard.tuning.data.formats import bind, to_examples
from tuneboard.tuning.data.sources import read_source
from tuneboard.tuning.methods import find_method, method_names
from tuneboard.tuning.recipe import load_recipe
from tuneboard.tuning.schema import data_model, recipe_model, training_model

RECIPES = sorted(bundled.recipes_dir().glob("*.yaml"))
TASKS = ("instruction", "chat", "classification", "translation", "summarization", "domain")


def content(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def keys(value: Any, at: str = "") -> Iterator[str]:
    """Every key with the keys above it; items of lists count as the list."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            place = f"{at}.{key}".lstrip(".")
            yield place
            yield from keys(inner, place)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, at)


def fields(model: Any, at: str) -> Iterator[str]:
    """The keys that a pydantic model takes, and those of the models inside it."""
    from typing import get_args

    for name, info in model.model_fields.items():
        yield f"{at}.{name}"
        todo, inner = [info.annotation], None
        while todo:
            one = todo.pop()
            if hasattr(one, "model_fields"):
                inner = one
            todo += get_args(one)
        if inner is not None and name != "validation":  # which is a source, as shown already
            yield from fields(inner, f"{at}.{name}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_parses_and_names_hub_ids(path: Path) -> None:
    recipes = load_recipe(path)
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        assert recipe.base.id.count("/") == 1
        assert all(source.path.count("/") == 1 for source in recipe.data.sources)
        assert recipe.description
        method = find_method(recipe.method)
        low, high = method.USUAL_RATES
        rate = recipe.training.learning_rate
        assert rate is None or low <= rate <= high
        assert recipe.kind == "auto" or recipe.kind in method.KINDS


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_value_has_a_reason_beside_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "it begins with what it is for"
    for line in lines:
        bare = line.split(" #")[0].rstrip()
        holds_value = re.search(r"[\w\]}\"]$", bare) and not bare.lstrip().startswith("#")
        names_itself = re.match(r"\s*(name|description)\b", bare)
        if holds_value and not names_itself:
            assert " # " in line or line.rstrip().endswith(":"), f"{path.name}: {line}"


def test_every_method_and_every_task_has_a_recipe() -> None:
    assert {load_recipe(path)[0].method for path in RECIPES} == set(method_names())
    assert {path.stem for path in RECIPES} >= {*method_names(), *TASKS}
    assert all(load_recipe(bundled.recipes_dir() / f"{name}.yaml")[0].method == name for name in method_names())


def test_between_them_the_recipes_show_every_key() -> None:
    shown = {place for path in RECIPES for place in keys(content(path))}
    shown |= {place.replace("data.validation.", "data.sources.") for place in shown}
    known = {*fields(data_model(), "data"), *fields(training_model(), "training")}
    known |= {place.lstrip(".") for place in fields(recipe_model(), "")}
    known = {place for place in known if not place.startswith("method.")}
    assert known - shown == set()


@pytest.mark.parametrize("name", method_names())
def test_a_methods_recipe_shows_all_of_its_settings(name: str) -> None:
    options = {field.name for field in dataclasses.fields(find_method(name).Options)}
    shown = set()
    for path in RECIPES:
        method = content(path)["method"]
        if method["name"] == name or {method["name"], name} == {"lora", "qlora"}:
            shown |= set(method)
    assert options - shown == set()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_the_columns_of_its_real_data(path: Path, mirror: Path) -> None:
    recipe = load_recipe(path)[0]
    first = recipe.data.sources[0]
    if not (mirror / first.path / (first.config or "default") / f"{first.split}.parquet").is_file():
        pytest.skip(f"the mirror has no {first.path}")
    found = sniff(recipe.data, Path(recipe.folder), mirror)
    assert first.format in ("auto", found)
    assert (found == "label") == (recipe.kind == "classification" or path.stem in ("prompt", "ia3"))


@pytest.mark.parametrize(("name", "answers"), [("prompt", {"negative", "positive"}), ("ia3", {"True", "False"})])
def test_recipes_that_write_labels_write_words(name: str, answers: set[str], mirror: Path) -> None:
    source = load_recipe(bundled.recipes_dir() / f"{name}.yaml")[0].data.sources[0]
    table = read_source(source, name, (mirror, mirror), 50)
    made = to_examples(table, bind(table, source))
    assert {example.answer for example in made} == answers
    assert all(example.text.endswith("\nAnswer:") for example in made)


def test_the_list_of_recipes_names_each(root: Path) -> None:
    text = (root / "adapters" / "recipes" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.stem}`" in text for path in RECIPES)

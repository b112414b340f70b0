"""What a recipe may say, and what the command line changes in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard.errors import ConfigError, UsageError
from tuneboard.tuning.recipe import load_recipe
from tuneboard.tuning.records import Recipe, SourceSpec

CONTENT: dict[str, Any] = {
    "base": "some/base",
    "method": {"name": "lora", "rank": 8},
    "data": {
        "sources": [{"path": "some/data", "template": "Q: {question}", "weight": 2.0}],
        "leaks": {"against": ["gsm8k"], "policy": "refuse"},
        "cleaning": {"secrets": "drop"},
        "max_length": 99,
    },
}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """``load(*settings, **changes)``: recipes of a file with changes, key by key with ``__`` for the dots."""

    def read(*settings: str, **changes: Any) -> tuple[Recipe, ...]:
        content = copy.deepcopy(CONTENT)
        for key, value in changes.items():
            *path, last = key.split("__")
            here = content
            for part in path:
                here = here.setdefault(part, {})
            here[last] = value
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        pairs = [(key, value) for key, _, value in (one.partition("=") for one in settings)]
        return load_recipe(tmp_path / "mine.yaml", pairs)

    return read


@pytest.mark.parametrize("given", ["my.jsonl", "[my.jsonl]", "[{path: my.jsonl}]"])
def test_data_on_the_command_line_changes_the_sources_alone(load: Any, given: str) -> None:
    (before,), (after,) = load(), load(f"data={given}")
    assert after.data.sources == (SourceSpec("my.jsonl"),)
    for part in ("leaks", "cleaning", "max_length", "split", "loss_on"):
        assert getattr(after.data, part) == getattr(before.data, part)
    assert after.data.leaks.against == ("gsm8k",)
    (replaced,) = load("data={sources: my.jsonl}")
    assert replaced.data.leaks.against == (), "a whole section is what it says"


def test_another_method_keeps_no_options_of_the_one_before(load: Any) -> None:
    (other,) = load("method.name=ia3")
    assert other.method == "ia3"
    (set_too,) = load("method.rank=4", "method.name=qlora")
    assert (set_too.method, set_too.options["rank"]) == ("qlora", 4)
    (same,) = load("method.name=lora")
    assert same.options["rank"] == 8, "what the file says of it stays"


@pytest.mark.parametrize("data", ["other.jsonl", ["other.jsonl", "more.jsonl"]])
def test_data_that_is_given_in_short_can_be_set_and_added_to(load: Any, data: Any) -> None:
    (recipe,) = load("data.split.seed=3", "data=my.jsonl", "data.sources.0.limit=5", data=data)
    assert recipe.data.sources == (SourceSpec("my.jsonl", limit=5),)
    assert recipe.data.split.seed == 3
    (recipe,) = load("data.split.seed=3", data=data)
    assert [source.path for source in recipe.data.sources] == ([data] if isinstance(data, str) else data)


def test_an_empty_section_can_be_filled(load: Any) -> None:
    (recipe,) = load("training.seed=3", training=None)
    assert recipe.training.seed == 3


def test_what_is_set_is_the_same_in_all_trials(load: Any) -> None:
    sweep = {"over": {"method.rank": [4, 8], "data.limit": [10, 20]}}
    recipes = load("data.limit=5", sweep=sweep, seeds=[0, 1])
    assert [recipe.data.limit for recipe in recipes] == [5] * 4
    assert recipes[0].name == "mine-rank4-seed0"
    (recipe,) = load("data.limit=5", "method={name: lora, rank: 2}", "training.seed=7", sweep=sweep, seeds=[0, 1])
    assert (recipe.name, recipe.data.limit, recipe.options["rank"], recipe.training.seed) == ("mine", 5, 2, 7)


def test_a_setting_leaves_the_rest_of_a_sweep_as_it_is(load: Any) -> None:
    over = {"data": ["a.jsonl", "b.jsonl"], "training.learning_rate": {"low": 1e-5, "high": 1e-3}}
    recipes = load("data=c.jsonl", "method.rank=2", sweep={"kind": "random", "over": over, "trials": 3})
    assert all(recipe.data.sources == (SourceSpec("c.jsonl"),) for recipe in recipes)
    assert len({recipe.training.learning_rate for recipe in recipes}) == 3
    recipes = load("data.limit=5", sweep={"over": {"data": ["a.jsonl", "b.jsonl"]}})
    assert [recipe.data.sources[0].path for recipe in recipes] == ["a.jsonl", "b.jsonl"]
    assert {recipe.data.max_length for recipe in recipes} == {99} and {recipe.data.limit for recipe in recipes} == {5}


@pytest.mark.parametrize(
    ("setting", "over"),
    [
        ("training.seed=1", {"training": [{"epochs": 1}, {"epochs": 2}]}),
        ("method.rank=2", {"method": ["lora", "ia3"]}),
        ("data.sources.0.limit=2", {"data": ["a.jsonl", "b.jsonl"]}),
    ],
)
def test_a_setting_that_a_sweep_would_wipe_out_is_refused(load: Any, setting: str, over: dict[str, Any]) -> None:
    (key,) = over
    with pytest.raises(UsageError, match=rf"--set {setting[:-2]}: the sweep varies '{key}' as a whole.*sweep=null"):
        load(setting, sweep={"over": over})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [1, 0, 0, 1]}, "seeds: 0, 1 given twice"),
        ({"seeds": [0], "sweep": {"over": {"training.seed": [1, 2]}}}, "seeds and sweep.over.training.seed"),
        ({"seeds": [2**32]}, "less than or equal to 4294967295"),
        ({"sweep": {"over": {"method.rank": [4, 8, 4]}}}, "over.method.rank: two values would be called '4'"),
        ({"sweep": {"kind": "random", "over": {"a": {"low": 1, "high": float("inf")}}}}, "over.a: expected a list"),
        ({"sweep": {"kind": "random", "over": {"a": {"low": "b", "high": "c"}}}}, "over.a: expected a list"),
        ({"name": "my model"}, "name: 'my model' given, expected up to 120 letters, digits and"),
        ({"name": "n" * 121}, "expected up to 120 letters"),
    ],
)
def test_what_cannot_be_meant_is_told_in_our_words(load: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    assert said in str(caught.value) and "pattern" not in str(caught.value)


def test_bounds_that_yaml_reads_as_text_are_numbers(load: Any) -> None:
    over = {"training.learning_rate": {"low": "1e-5", "high": "1e-3"}}
    recipes = load(sweep={"kind": "random", "over": over, "trials": 2})
    assert all(1e-5 <= recipe.training.learning_rate <= 1e-3 for recipe in recipes)


@pytest.mark.parametrize("value", ["1e400", ".inf", ".nan", "nan", "-.inf"])
@pytest.mark.parametrize(
    "key", ["training.learning_rate", "training.epochs", "training.clip", "data.sources.0.weight", "method.alpha"]
)
def test_only_finite_numbers_are_taken(load: Any, key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{key}={value}")
    assert key.rpartition(".")[2] in str(caught.value)


def test_one_target_needs_no_list(load: Any) -> None:
    assert load("method.targets=q_proj")[0].options["targets"] == ["q_proj"]
    assert load("method.targets=attention")[0].options["targets"] == "attention"
    with pytest.raises(ConfigError, match=r"targets: 'all_linear' given, did you mean all-linear\? expected auto"):
        load("method.targets=all_linear")
    with pytest.raises(
        ConfigError, match=r"targets: 3 given, expected auto, attention, all-linear, or names of layers"
    ):
        load("method.targets=3")

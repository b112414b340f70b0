"""What a recipe's YAML may say, as pydantic models; ``recipe`` turns them into plain records."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tuneboard.errors import near_matches
from tuneboard.tuning.records import CleaningSpec, LeakSpec, SourceSpec, SplitSpec, TrainingSpec
from tuneboard.tuning.sweeps import MOST_TRIALS, SEED, label

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Names of candidates, which are folders too.
_NAME = re.compile(r"\w[\w.+=@-]{0,119}")
#: What recipes may say in place of names of layers; not every method takes each.
_TARGET_WORDS = ("auto", "attention", "all-linear")
#: Largest seed that numpy takes.
_MOST_SEED = 2**32 - 1


def options_model(options: type[Any]) -> type[BaseModel]:
    """Return a pydantic model with the fields, types and defaults of a frozen dataclass; its numbers are finite."""
    from pydantic import BeforeValidator, ConfigDict, create_model

    hints = get_type_hints(options, include_extras=True)
    if words := _words(hint := hints.get("targets")):
        hints["targets"] = Annotated[hint, BeforeValidator(_targets(words))]
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = ... if required else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        fields[field.name] = (hints[field.name], default)
    finite = ConfigDict(allow_inf_nan=False)
    model: type[BaseModel] = create_model(options.__name__, __config__=finite, **fields)
    return model


@cache
def recipe_model() -> type[BaseModel]:
    """Return the top level; ``data`` and ``training`` and the method's settings are checked by models of their own."""
    from pydantic import AfterValidator, BaseModel, Field, model_validator

    SweepConfig = _sweep_model()
    plain_name = Annotated[str, AfterValidator(_plain_name)]
    training_seed = Annotated[int, Field(strict=True, ge=0, le=_MOST_SEED)]

    class BaseConfig(BaseModel):
        model: Annotated[str, Field(min_length=1)]
        revision: str | None = None
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

        @model_validator(mode="before")
        @classmethod
        def _allow_bare_name(cls, value: Any) -> Any:
            return {"model": value} if isinstance(value, str) else value

    class MethodConfig(BaseModel):
        name: Annotated[str, Field(min_length=1)]
        options: dict[str, Any] = {}

        @model_validator(mode="before")
        @classmethod
        def _split(cls, value: Any) -> Any:
            if isinstance(value, str):
                return {"name": value}
            if isinstance(value, dict) and "options" not in value:
                return {"name": value.get("name", ""), "options": {k: v for k, v in value.items() if k != "name"}}
            return value

    class RecipeConfig(BaseModel):
        name: plain_name | None = None
        description: str = ""
        base: BaseConfig
        method: MethodConfig
        kind: Literal["auto", "causal", "classification", "seq2seq"] = "auto"
        data: dict[str, Any]
        training: dict[str, Any] = {}
        seeds: Annotated[list[training_seed], Field(min_length=1), AfterValidator(_each_once)] | None = None
        sweep: SweepConfig | None = None  # type: ignore[valid-type]

        @model_validator(mode="before")
        @classmethod
        def _allow_bare_path(cls, value: Any) -> Any:
            if isinstance(value, dict) and isinstance(value.get("data"), (str, list)):
                value = {**value, "data": {"sources": value["data"]}}
            return value

        @model_validator(mode="after")
        def _one_source_of_seeds(self) -> RecipeConfig:
            if self.seeds and SEED in getattr(self.sweep, "over", ()):
                raise ValueError(f"seeds and sweep.over.{SEED} set the same; leave one of them out")
            return self

    return RecipeConfig


@cache
def _sweep_model() -> type[BaseModel]:
    from pydantic import BaseModel, Field, model_validator

    class SweepConfig(BaseModel):
        kind: Literal["grid", "random"] = "grid"
        over: Annotated[dict[str, Any], Field(min_length=1)]
        trials: Annotated[int, Field(strict=True, ge=1, le=MOST_TRIALS)] = 10
        seed: Annotated[int, Field(strict=True, ge=0)] = 0

        @model_validator(mode="after")
        def _trials(self) -> SweepConfig:
            for key, value in self.over.items():
                if not isinstance(value, dict):
                    _check_choices(key, value)
                elif self.kind == "random" and (bounds := _bounds(value)):
                    self.over[key] = bounds
                else:
                    raise ValueError(
                        f"over.{key}: expected a list, or with kind: random {{low: a, high: b}}, 0 < a < b"
                    )
            return self

    return SweepConfig


@cache
def data_model() -> type[BaseModel]:
    """Return the model of ``data``."""
    from pydantic import BaseModel, Field, field_validator, model_validator

    share = Annotated[float, Field(gt=0, lt=1)]
    count = Annotated[int, Field(strict=True, ge=1)]

    class Source(options_model(SourceSpec)):  # type: ignore[misc]
        weight: Annotated[float, Field(gt=0)] | None = None
        limit: count | None = None

        @model_validator(mode="before")
        @classmethod
        def _allow_bare_path(cls, value: Any) -> Any:
            return {"path": value} if isinstance(value, str) else value

    class Split(options_model(SplitSpec)):  # type: ignore[misc]
        fraction: share = 0.1
        folds: Annotated[int, Field(strict=True, ge=2)] = 5
        fold: Annotated[int, Field(strict=True, ge=0)] = 0

        @model_validator(mode="after")
        def _fold_is_one(self) -> Split:
            if self.fold >= self.folds:
                raise ValueError(f"fold {self.fold} of {self.folds} folds; expected 0 to {self.folds - 1}")
            if self.by == "time" and not self.column:
                raise ValueError("by: time sorts by a column; name it as column")
            return self

    class Cleaning(options_model(CleaningSpec)):  # type: ignore[misc]
        near_duplicates: Annotated[float, Field(ge=0.5, le=1)] | None = 0.9

    class Leaks(options_model(LeakSpec)):  # type: ignore[misc]
        against: Annotated[list[str], Field(default_factory=list)]
        ngram: Annotated[int, Field(strict=True, ge=3, le=50)] = 8
        overlap: Annotated[float, Field(gt=0, le=1)] = 0.5

        @field_validator("against", mode="before")
        @classmethod
        def _allow_bare_name(cls, value: Any) -> Any:
            return [value] if isinstance(value, str) else value

    class Data(BaseModel):
        sources: Annotated[list[Source], Field(min_length=1)]
        validation: Source | None = None
        split: Split = Split()
        cleaning: Cleaning = Cleaning()
        leaks: Leaks = Leaks()
        max_length: Annotated[int, Field(strict=True, ge=8)] = 1024
        loss_on: Literal["answer", "all"] = "answer"
        limit: count | None = None

        @field_validator("sources", mode="before")
        @classmethod
        def _allow_one(cls, value: Any) -> Any:
            return value if isinstance(value, list) else [value]

    return Data


@cache
def training_model() -> type[BaseModel]:
    """Return the model of ``training``."""
    from pydantic import Field

    count = Annotated[int, Field(strict=True, ge=1)]
    positive = Annotated[float, Field(gt=0)]

    class Training(options_model(TrainingSpec)):  # type: ignore[misc]
        epochs: positive = 3.0
        max_steps: count | None = None
        batch_size: count = 8
        gradient_accumulation: count = 1
        learning_rate: positive | None = None
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
        weight_decay: Annotated[float, Field(ge=0)] = 0.0
        clip: Annotated[float, Field(ge=0)] = 1.0
        optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = "auto"
        validate_every: count | None = None
        patience: count | None = None
        checkpoint_every: count | None = None
        seed: Annotated[int, Field(strict=True, ge=0, le=_MOST_SEED)] = 0

    return Training


def _words(hint: Any) -> tuple[str, ...]:
    """Return the words that a type takes beside others, such as ``auto``."""
    return next((get_args(part) for part in get_args(hint) if get_origin(part) is Literal), ())


def _targets(words: Sequence[str]) -> Callable[[Any], Any]:
    """Return a check of ``targets``; a name of a layer is looked at later, beside those of the base."""

    def check(value: Any) -> Any:
        if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
            return value
        if isinstance(value, str) and value in words:
            return value
        bare = value if isinstance(value, str) else ""
        if bare and not near_matches(bare, _TARGET_WORDS):
            return [bare]
        near = near_matches(bare, words)
        raise ValueError(
            f"{value!r} given, "
            + (f"did you mean {near[0]}? " if near else "")
            + f"expected {', '.join(words)}, or names of layers such as [q_proj, v_proj]"
        )

    return check


def _plain_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"'{text}' given, expected up to 120 letters, digits and . _ + = @ -, the first a letter, a digit or _"
        )
    return text


def _each_once(seeds: list[int]) -> list[int]:
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"{', '.join(map(str, twice))} given twice; expected each once, for one candidate each")
    return seeds


def _bounds(value: dict[str, Any]) -> dict[str, float] | None:
    """Return ``{low, high}`` as finite numbers with 0 < low < high, or None where it is something else."""
    try:
        low, high = float(value["low"]), float(value["high"])  # YAML reads 1e-5 as text
    except (KeyError, TypeError, ValueError):
        return None
    return {"low": low, "high": high} if len(value) == 2 and 0 < low < high < math.inf else None


def _check_choices(key: str, values: Any) -> None:
    if not (isinstance(values, list) and values):
        raise ValueError(f"over.{key}: expected a list of values to try")
    names = [label(value) for value in values]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"over.{key}: two values would be called '{twice}' in the candidates' names; leave one out")

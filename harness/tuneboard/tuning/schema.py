"""What a recipe's YAML may say, as pydantic models; ``recipe`` turns them into plain records."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from tuneboard.tuning.records import CleaningSpec, LeakSpec, SourceSpec, SplitSpec, TrainingSpec
from tuneboard.tuning.sweeps import MOST_TRIALS

if TYPE_CHECKING:
    from pydantic import BaseModel


def options_model(options: type[Any]) -> type[BaseModel]:
    """Return a pydantic model with the fields, types and defaults of a frozen dataclass."""
    from pydantic import create_model

    hints = get_type_hints(options, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = ... if required else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        fields[field.name] = (hints[field.name], default)
    model: type[BaseModel] = create_model(options.__name__, **fields)
    return model


@cache
def recipe_model() -> type[BaseModel]:
    """Return the top level; ``data`` and ``training`` and the method's settings are checked by models of their own."""
    from pydantic import BaseModel, Field, model_validator

    plain_name = Annotated[str, Field(min_length=1, pattern=r"^[\w][\w.+=@-]*$", max_length=120)]

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

    class SweepConfig(BaseModel):
        kind: Literal["grid", "random"] = "grid"
        over: Annotated[dict[str, Any], Field(min_length=1)]
        trials: Annotated[int, Field(strict=True, ge=1, le=MOST_TRIALS)] = 10
        seed: Annotated[int, Field(strict=True, ge=0)] = 0

        @model_validator(mode="after")
        def _ranges(self) -> SweepConfig:
            for key, value in self.over.items():
                ranged = isinstance(value, dict)
                bounds = ranged and sorted(value) == ["high", "low"] and 0 < value["low"] < value["high"]
                if ranged and (self.kind == "grid" or not bounds):
                    raise ValueError(
                        f"over.{key}: expected a list, or with kind: random {{low: a, high: b}}, 0 < a < b"
                    )
                if not ranged and not (isinstance(value, list) and value):
                    raise ValueError(f"over.{key}: expected a list of values to try")
            return self

    class RecipeConfig(BaseModel):
        name: plain_name | None = None
        description: str = ""
        base: BaseConfig
        method: MethodConfig
        kind: Literal["auto", "causal", "classification", "seq2seq"] = "auto"
        data: dict[str, Any]
        training: dict[str, Any] = {}
        seeds: Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)] | None = None
        sweep: SweepConfig | None = None

        @model_validator(mode="before")
        @classmethod
        def _allow_bare_path(cls, value: Any) -> Any:
            if isinstance(value, dict) and isinstance(value.get("data"), (str, list)):
                value = {**value, "data": {"sources": value["data"]}}
            return value

    return RecipeConfig


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
        seed: Annotated[int, Field(strict=True, ge=0)] = 0

    return Training

"""The YAML of a task of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tuneboard.config import YamlMapping, load_yaml, parse
from tuneboard.datafiles import Table
from tuneboard.errors import ConfigError, near_matches
from tuneboard.metrics import find_metric, metric_names
from tuneboard.metrics.pass_at_k import k_of

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind: TypeAlias = Literal["multiple_choice", "classification", "generation", "perplexity"]


@dataclass(frozen=True, slots=True)
class OwnTask:
    """What the YAML says; which fields count depends on the kind."""

    task: str
    kind: Kind
    data: str
    """File of rows, from the folder of the YAML on."""
    table: Table
    """Its rows."""
    examples: Table | None = None
    """Rows that few-shot examples are drawn from; None draws them from the data itself."""
    description: str = ""
    """Put before every prompt."""
    num_fewshot: int | None = None
    cluster: str | None = None
    """Column of what rows share, such as the text they ask about."""
    prompt: str = ""
    """A column, or a template such as ``Question: {{question}}``."""
    choices: tuple[str, ...] = ()
    """One column of lists, or a column for each choice."""
    answer: str = ""
    """Column: the text of the right choice, its letter, or its number from 0."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the column ``label`` holds, and the word that the model is to say; empty takes every value that there is."""
    label: str = ""
    reference: str = ""
    """Column of right answers: a text, or a list of texts that are all right."""
    metrics: tuple[str, ...] = ()
    """Of generated answers; the first stands for the task."""
    stop: tuple[str, ...] = ("\n\n",)
    max_new_tokens: int = 128
    temperature: float = 0.0
    repeats: int = 1
    """Answers drawn for each prompt."""
    text: str = "text"
    """Column of texts; of a ``.txt`` file, paragraphs are the rows."""


def read_own_task(path: Path) -> OwnTask:
    """Read a task of the user's own, with its data.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem of the YAML, unknown columns among them.
        DataError: The file of rows cannot be read.
    """
    from tuneboard.suites.own.columns import column_problems, read_rows

    raw = load_yaml(path)
    problems, values = _checked(raw, str(path))
    tables: dict[str, Table] = {}
    for key in ("data", "examples"):
        if isinstance(raw.get(key), str):
            found = read_rows(path.parent, raw[key])
            if isinstance(found, str):
                problems.append(f"line {raw.lines[key,]}: {key}: {found}")
            else:
                tables[key] = found
    if "data" in tables:
        problems += column_problems(raw, tables["data"])
    if problems:
        raise ConfigError(str(path), dict.fromkeys(problems))
    return OwnTask(**values | {"table": tables["data"], "examples": tables.get("examples")})


def _checked(raw: YamlMapping, source: str) -> tuple[list[str], dict[str, Any]]:
    """Return what is wrong with the YAML itself, and its values."""
    models, kind = _models(), str(raw.get("kind", ""))
    if kind not in models:
        if "kind" not in raw:
            said = "'kind' is missing"
        else:
            near = near_matches(kind, models)
            said = f"line {raw.lines['kind',]}: unknown kind '{kind}'" + (
                f"; did you mean {', '.join(near)}?" if near else ""
            )
        known = sorted({name for model in models.values() for name in model.model_fields})
        unknown = [key for key in raw if key not in known]
        return [
            f"{said}; expected one of: {', '.join(models)}",
            *(f"line {raw.lines[key,]}: unknown key '{key}'{_near(key, known)}" for key in unknown),
        ], {}
    try:
        found = parse(models[kind], raw, source).model_dump(exclude_unset=True)
    except ConfigError as error:
        return list(error.problems), {}
    return [], {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def _near(name: str, known: list[str]) -> str:
    near = near_matches(name, known)
    return f"; did you mean {', '.join(near)}?" if near else ""


@cache
def _models() -> Mapping[str, type[BaseModel]]:
    from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

    Count = Annotated[int, Field(strict=True, ge=0)]
    AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
    Text = Annotated[str, Field(min_length=1)]
    Name = Annotated[str, Field(pattern=r"^[\w.@+-]+$")]
    Texts = Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1)]
    Metrics = Annotated[list[Annotated[str, AfterValidator(_metric)]], BeforeValidator(_listed), Field(min_length=1)]
    # A task's continuations begin with a blank, so that the prompt must not end with one.
    Prompt = Annotated[Text, AfterValidator(_ends_without_blank)]
    Labels = Annotated[dict[str, Text], BeforeValidator(_label_words), Field(min_length=2)]

    class Common(BaseModel):
        task: Name
        data: Text
        cluster: Text | None = None

    class Prompted(Common):
        prompt: Prompt
        description: str = ""
        num_fewshot: Count | None = None
        examples: Text | None = None

    class MultipleChoice(Prompted):
        kind: Literal["multiple_choice"]
        choices: Texts
        answer: Text

    class Classification(Prompted):
        kind: Literal["classification"]
        label: Text
        labels: Labels = {}  # noqa: RUF012

    class Generation(Prompted):
        kind: Literal["generation"]
        reference: Text
        metrics: Metrics
        stop: Texts = ["\n\n"]  # noqa: RUF012
        max_new_tokens: AtLeastOne = 128
        temperature: Annotated[float, Field(ge=0)] = 0.0
        repeats: AtLeastOne = 1

        @model_validator(mode="after")
        def _repeats_fit(self) -> Generation:
            largest = max((k_of(metric) or 1 for metric in self.metrics), default=1)
            if largest > self.repeats:
                raise ValueError(f"pass@{largest} needs as many answers; write repeats: {largest} or more")
            if self.repeats > 1 and not self.temperature:
                raise ValueError("repeats draw the same answer again and again; write a temperature above 0")
            return self

    class Perplexity(Common):
        kind: Literal["perplexity"]
        text: Text = "text"

    models = (MultipleChoice, Classification, Generation, Perplexity)
    return {model.model_fields["kind"].annotation.__args__[0]: model for model in models}  # type: ignore[union-attr]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _label_words(value: Any) -> Any:
    """Read a list of labels, or what the column holds and the word for it."""
    if not isinstance(value, list):
        return value
    if any(isinstance(word, bool) for word in value):
        raise ValueError(
            'YAML reads yes, no, on and off as true and false; write labels in quotes, as in ["yes", "no"] '
            '(a column of booleans has "True" and "False")'
        )
    words = [str(word) if isinstance(word, int | float) else word for word in value]
    if len(set(map(str, words))) < len(words):
        raise ValueError("a label stands twice")
    return {str(word): word for word in words}


def _metric(name: str) -> str:
    known = metric_names("answers")
    metric = find_metric(name)
    if name in known or (metric is not None and metric.of == "answers"):
        return name
    near = near_matches(name, known)
    raise ValueError(
        f"unknown metric '{name}'"
        + (f"; did you mean {', '.join(near)}?" if near else "")
        + f"; known: {', '.join(known)}"
    )


def _ends_without_blank(template: str) -> str:
    if template.endswith((" ", "\t")):
        raise ValueError("it ends with a blank, and answers begin with one; take it away")
    return template

"""Reads YAML into frozen records; unknown keys are refused and all problems are reported at once.

pydantic stands only at this edge: what leaves this module are plain frozen dataclasses. It is imported when a file is
parsed, since commands that read no YAML should not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from tuneboard.errors import ConfigError, UsageError, near_matches
from tuneboard.generation_settings import SETTINGS
from tuneboard.records import Role

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    Model = TypeVar("Model", bound=BaseModel)

#: Where a value stands in a document: ``("tasks", 2, "limit")``.
Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """One task of a suite, and how it is asked."""

    task: str
    """Name of an lm-eval task or group, or of one of the user's own."""
    num_fewshot: int | None = None
    """None keeps the task's own number."""
    limit: int | None = None
    """Documents per task (per member of a group); None takes all."""
    sample_seed: int | None = None
    """Draws the limited documents with this seed; None takes the first ones."""
    role: Role = "none"
    """``target``: the fine-tune is meant to raise it; ``guard``: it must not fall."""
    headline: str | None = None
    """Metric that stands for the task; None takes the default of the task."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Generation settings laid over the task's own, such as ``max_gen_toks``."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A named list of tasks."""

    name: str
    description: str
    tasks: tuple[SuiteTask, ...]


class YamlMapping(dict[str, Any]):
    """A YAML file's top-level mapping that remembers the line of each of its values."""

    lines: Mapping[Location, int] = {}
    """1-based line of each key and list item, by its location."""


def load_yaml(path: Path) -> YamlMapping:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: File to read, UTF-8.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: It is not YAML, has a key twice, or is no mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: cannot be read ({reason}); give the path of a YAML file") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(str(path), ["expected 'key: value' lines at the top level, as in the shipped files"])
        places = _Places()
        places.walk(node)
        if places.problems:
            raise ConfigError(str(path), places.problems)
        mapping = YamlMapping(loader.construct_document(node))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), [_yaml_problem(error)]) from error
    mapping.lines = places.lines
    return mapping


def parse(model: type[Model], data: Mapping[str, Any], source: str) -> Model:
    """Check ``data`` against a pydantic model; keys that the model does not know are refused.

    Args:
        model: What is expected.
        data: From ``load_yaml`` (then problems carry line numbers), or any mapping.
        source: Named in the error: the file, or ``--set`` and the like.

    Raises:
        ConfigError: With every problem in ``data``, not only the first.
    """
    from pydantic import ValidationError

    lines = data.lines if isinstance(data, YamlMapping) else {}
    try:
        return model.model_validate(dict(data), extra="forbid")
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = sorted((_line(lines, one["loc"]), _problem(model, one)) for one in details)
        raise ConfigError(source, [f"line {line}: {text}" if line else text for line, text in problems]) from None


def load_suite(path: Path) -> Suite:
    """Read a suite from YAML.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem of the file.
    """
    # What is unset keeps the defaults of the records.
    config = parse(_suite_model(), load_yaml(path), str(path)).model_dump(exclude_unset=True)
    tasks = tuple(SuiteTask(**task) for task in config["tasks"])
    return Suite(config.get("name") or path.stem, config["description"], tasks)


@cache
def _suite_model() -> type[BaseModel]:
    from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator

    count = Annotated[int, Field(strict=True, ge=0)]
    at_least_one = Annotated[int, Field(strict=True, ge=1)]
    name = Annotated[str, Field(min_length=1)]

    settings: dict[str, Any] = {
        setting: (Annotated[Any, AfterValidator(_expecting(*one))], None) for setting, one in SETTINGS.items()
    }
    Generation = create_model("Generation", **settings)

    class TaskConfig(BaseModel):
        task: name
        num_fewshot: count | None = None
        limit: at_least_one | None = None
        sample_seed: count | None = None
        role: Role = "none"
        headline: name | None = None
        generation: Generation = Generation()  # type: ignore[valid-type]

        @model_validator(mode="before")
        @classmethod
        def _allow_bare_name(cls, value: Any) -> Any:
            return {"task": value} if isinstance(value, str) else value

        @model_validator(mode="after")
        def _seed_needs_limit(self) -> TaskConfig:
            if self.sample_seed is not None and self.limit is None:
                raise ValueError("sample_seed draws a subset and so needs a limit beside it")
            return self

    class SuiteConfig(BaseModel):
        name: str = ""
        description: str
        tasks: Annotated[list[TaskConfig], Field(min_length=1)]

        @model_validator(mode="after")
        def _each_task_once(self) -> SuiteConfig:
            names = [task.task for task in self.tasks]
            twice = sorted({one for one in names if names.count(one) > 1})
            if twice:
                raise ValueError(f"tasks stand twice: {', '.join(twice)}")
            return self

    return SuiteConfig


def _expecting(expected: str, fits: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"{value!r} given, expected {expected}")
        return value

    return check


class _Places:
    """Walks YAML nodes, noting the line of every value and what a mapping for humans should not hold."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.problems: list[str] = []
        self._walked: dict[int, bool] = {}

    def walk(self, node: yaml.Node, at: Location = ()) -> None:
        """Walk a node once, however many aliases lead to it (nested aliases would take exponential time)."""
        import yaml

        if id(node) in self._walked:
            if not self._walked[id(node)]:
                self.problems.append(f"line {node.start_mark.line + 1}: '{_dotted(at)}' contains itself")
            return
        self._walked[id(node)] = False
        if isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, at)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.lines[(*at, index)] = value.start_mark.line + 1
                self.walk(value, (*at, index))
        self._walked[id(node)] = True

    def _walk_mapping(self, node: yaml.MappingNode, at: Location) -> None:
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                shown = f": {key.value}" if isinstance(key.value, str) else ""
                self.problems.append(f"line {line}: a key is no text{shown}; write it in quotes")
                continue
            if key.value in seen:
                self.problems.append(f"line {line}: '{key.value}' is given twice")
            seen.add(key.value)
            self.lines[(*at, key.value)] = line
            self.walk(value, (*at, key.value))


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not valid YAML: nested too deeply"
    mark = getattr(error, "problem_mark", None)
    text = f"not valid YAML: {getattr(error, 'problem', None) or error}".splitlines()[0]
    return f"line {mark.line + 1}: {text}" if mark else text


def _line(lines: Mapping[Location, int], at: Location) -> int:
    """Return the line of the nearest value around ``at``; 0 where none is known."""
    return next((lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in lines), 0)


def _problem(model: type[BaseModel], error: ErrorDetails) -> str:
    place, kind = _dotted(error["loc"]), error["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = near_matches(str(error["loc"][-1]), known)
        return f"unknown key '{place}'; " + (
            f"did you mean {', '.join(near)}?" if near else f"known keys: {', '.join(known) or 'none'}"
        )
    if kind == "missing":
        return f"'{place}' is missing"
    if kind in ("model_type", "dict_type"):
        names = ", ".join(_fields_at(model, error["loc"]))
        return f"'{place}' is {error['input']!r}; expected keys with values{': ' + names if names else ''}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if kind == "too_short":
        least = error["ctx"]["min_length"]
        message = f"expected at least {least} item{'s' if least > 1 else ''}"
    if kind == "value_error":
        return f"{place}: {message}" if place else message
    return f"'{place}' is {error['input']!r}; {message[0].lower()}{message[1:]}"


def _dotted(at: Location) -> str:
    """Write a location as a user would: ``tasks[2].limit``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")


def _fields_at(annotation: Any, at: Location) -> list[str]:
    """Return the keys that are accepted at a location inside ``Model``, ``list[Model]``, ``Model | None``, ..."""
    from typing import get_args, get_origin

    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not at:
            return list(annotation.model_fields)
        inner = annotation.model_fields.get(str(at[0]))
        return _fields_at(inner.annotation, at[1:]) if inner else []
    below = at[1:] if get_origin(annotation) in (list, tuple, dict, Sequence, Mapping) else at
    return next((found for arg in get_args(annotation) if (found := _fields_at(arg, below))), [])

"""Reads policies from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tuneboard import bundled
from tuneboard.config import Suite, YamlMapping, load_yaml, parse
from tuneboard.errors import ConfigError, TuneboardError, UnknownName, UsageError
from tuneboard.gates.checking import Finder, will_be
from tuneboard.gates.records import Correction, EvaluatePlan, Known, OnInconclusive, Policy, Rule, RuleName

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """One line of a list of policies."""

    name: str
    description: str
    path: Path


def find_policy(name_or_path: str) -> Path:
    """Return the file of a policy.

    Args:
        name_or_path: A shipped name such as ``quick``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        UnknownName: No policy is called so.
        UsageError: There is no such file.
    """
    shipped = {path.stem: path for path in bundled.policies_dir().glob("*.yaml")}
    known = ", ".join(sorted(shipped))
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UsageError(f"no policy file at {path}; give a YAML file, or a shipped policy: {known}")
        return path
    if name_or_path not in shipped:
        raise UnknownName("policy", name_or_path, shipped, f"known policies: {known}")
    return shipped[name_or_path]


def list_policies() -> list[PolicyInfo]:
    """Return the policies that ship with tuneboard, by name."""
    loaded = ((path, load_yaml(path)) for path in bundled.policies_dir().glob("*.yaml"))
    found = [PolicyInfo(data.get("name") or path.stem, data.get("description", ""), path) for path, data in loaded]
    return sorted(found, key=lambda one: one.name)


def load_policy(
    path: Path, known: Known | None = None, *, base: str | None = None, candidate: str | None = None
) -> Policy:
    """Read a policy from YAML.

    Args:
        path: The file.
        known: Names that it may use; None leaves names unchecked, apart from those of a suite.
        base: Takes the place of the file's.
        candidate: Takes the place of the file's.

    Raises:
        UsageError: The file cannot be read.
        UnknownName: ``base`` or ``candidate`` is none of the known candidates.
        ConfigError: With every problem of the file, those of names and margins among them.
    """
    data = load_yaml(path)
    named = YamlMapping(data | {k: v for k, v in (("base", base), ("candidate", candidate)) if v is not None})
    named.lines = data.lines
    _check_given(named, known, [name for name in (base, candidate) if name is not None])
    config = None
    problems: list[str] = []
    try:
        config = parse(_policy_model(), named, str(path))
    except ConfigError as error:
        problems += error.problems
    suite, problem = _suite(named)
    problems += problem
    problems += Finder(named, known or Known(), suite).problems()
    if problems:
        raise ConfigError(str(path), sorted(dict.fromkeys(problems), key=_line))
    assert config is not None
    return _policy(config.model_dump(), path, suite)


def _check_given(named: YamlMapping, known: Known | None, given: Sequence[str]) -> None:
    """Refuse an unknown candidate that a caller names: the file is not to blame for it."""
    if known is None or (names := known.candidates) is None:
        return
    for name in given:
        if name not in names and not will_be(named, name):
            raise UnknownName("candidate", name, names, "see: tuneboard show models")


def _policy(config: dict[str, Any], path: Path, suite: Suite | None) -> Policy:
    evaluate = config.pop("evaluate")
    plan = None if evaluate is None else EvaluatePlan(**evaluate | {"tasks": tuple(evaluate["tasks"])})
    return Policy(
        **config
        | {
            "name": config["name"] or path.stem,
            "rules": tuple(Rule(**rule | {"tasks": _names(rule["tasks"])}) for rule in config["rules"]),
            "suite_tasks": suite.tasks if suite else (),
            "evaluate": plan,
            "source": str(path),
        }
    )


def _suite(data: Mapping[str, Any]) -> tuple[Suite | None, list[str]]:
    name = data.get("suite")
    if not isinstance(name, str):
        return None, []
    from tuneboard.suites.catalog import find_suite

    try:
        return find_suite(name), []
    except TuneboardError as error:
        line = data.lines.get(("suite",)) if isinstance(data, YamlMapping) else None
        return None, [f"line {line}: {error}" if line else str(error)]


def _names(tasks: str | list[str]) -> tuple[str, ...]:
    return (tasks,) if isinstance(tasks, str) else tuple(tasks)


def _line(problem: str) -> int:
    """Return the line that a problem names, so that problems stand in the file's order; 0 without one."""
    number = problem.removeprefix("line ").partition(":")[0]
    return int(number) if number.isdigit() else 0


def _not_yes_or_no(value: Any) -> Any:
    if isinstance(value, bool):
        from pydantic_core import PydanticKnownError

        raise PydanticKnownError("float_type")
    return value


@cache
def _policy_model() -> type[BaseModel]:
    from pydantic import BaseModel, BeforeValidator, Field

    text = Annotated[str, Field(min_length=1)]
    # YAML takes 1e-3, which has no point, for text: numbers may come as such.
    number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_not_yes_or_no)]

    class RuleConfig(BaseModel):
        rule: RuleName
        # Not `on`: YAML reads that as true.
        tasks: text | list[text] = "all"
        metric: text | None = None
        margin: number | None = None
        value: number | None = None

    class EvaluateConfig(BaseModel):
        model: text
        adapter: text | None = None
        checkpoint: text | None = None
        tasks: list[text] = []
        limit: Annotated[int, Field(strict=True, ge=1)] | None = None
        engine: text = "transformers"
        sequential: bool = True
        batch: Annotated[int, Field(strict=True, ge=1, le=32)] = 32
        seed: Annotated[int, Field(strict=True, ge=0)] = 1234

    class PolicyConfig(BaseModel):
        name: str = ""
        description: str = ""
        base: text = "base"
        # Required, but asked for with the other checks, since the command line may name it.
        candidate: str = ""
        suite: text | None = None
        margins: dict[str, number] = {}
        rules: list[RuleConfig] = []
        alpha: Annotated[float, Field(strict=True, gt=0, lt=0.5)] = 0.05
        correction: Correction = "holm"
        on_inconclusive: OnInconclusive = "report"
        evaluate: EvaluateConfig | None = None

    return PolicyConfig

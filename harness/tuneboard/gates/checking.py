"""Finds what is wrong with a policy beyond the types of its values, also in one whose types are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tuneboard.compare import TOO_LARGE
from tuneboard.config import Location, Suite, YamlMapping
from tuneboard.errors import UnknownName
from tuneboard.gates.costs import MEASURES
from tuneboard.gates.records import Known
from tuneboard.gates.scales import is_unit, usual_metric
from tuneboard.gates.selecting import ROLES, names_no_task

_SIZE = "from 0 to 1, where a margin of 0.5 or more lets anything pass; expected less than 0.5, such as 0.02"


def will_be(data: YamlMapping, name: str) -> bool:
    """Tell whether a name needs no results yet: a baseline file, or what the gate itself evaluates."""
    return name.endswith(".json") or isinstance(data.get("evaluate"), dict)


class Finder:
    """Looks through the raw mapping of a policy; what has a wrong type is left to the parser.

    Args:
        data: As read from YAML.
        known: Names that exist.
        suite: That the policy names; its tasks are known too.
    """

    def __init__(self, data: YamlMapping, known: Known, suite: Suite | None) -> None:
        self.data, self.known = data, known
        entries = suite.tasks if suite else ()
        self.headlines = dict(known.headlines) | {one.task: one.headline for one in entries if one.headline}
        self.roles = {one.task: one.role for one in entries}
        self.tasks = None if known.tasks is None else known.tasks | {one.task for one in entries}

    def problems(self) -> list[str]:
        """Return one line per problem."""
        return [*self._names(), *self._margins(), *self._rules(), *self._evaluate()]

    def _names(self) -> Iterator[str]:
        known = self.known.candidates
        for key in ("base", "candidate"):
            name = self.data.get(key, "base" if key == "base" else None)
            if name in (None, "") and key == "candidate":
                yield self._at((key,), "'candidate' is missing; name one that was evaluated, or give --candidate")
            elif isinstance(name, str) and known is not None and name not in known and not will_be(self.data, name):
                yield self._at((key,), str(UnknownName("candidate", name, known, "see: tuneboard show models")))

    def _margins(self) -> Iterator[str]:
        margins = self.data.get("margins")
        for task, margin in margins.items() if isinstance(margins, dict) else ():
            at = ("margins", task)
            yield from self._task(at, task)
            yield from self._margin(at, margin, task, None)

    def _rules(self) -> Iterator[str]:
        rules = self.data.get("rules")
        if not rules:
            yield self._at(("rules",), "no rules are given; expected at least {rule: not_regress, tasks: all}")
        for place, rule in enumerate(rules) if isinstance(rules, list) else ():
            if isinstance(rule, dict):
                yield from self._rule(("rules", place), rule)

    def _rule(self, at: Location, rule: Mapping[str, Any]) -> Iterator[str]:
        kind, value = rule.get("rule"), rule.get("value")
        tasks = rule.get("tasks", "all")
        entries = [one for one in (tasks if isinstance(tasks, list) else [tasks]) if isinstance(one, str)]
        if kind in MEASURES:
            for key in ("tasks", "metric", "margin"):
                if key in rule:
                    yield self._at((*at, key), f"{kind} has no '{key}'; leave it out")
        elif tasks == []:
            yield self._at((*at, "tasks"), "'tasks' is empty; expected tasks, groups, targets, guards or all")
        for entry in entries if kind not in MEASURES else ():
            yield from self._task((*at, "tasks"), entry)
        yield from self._value(at, kind, value, entries, rule.get("metric"))
        if kind == "at_least" and "margin" in rule:
            yield self._at((*at, "margin"), "at_least has no margin; its limit is 'value'")
        elif kind not in MEASURES and "margin" in rule:
            for entry in entries:
                yield from self._margin((*at, "margin"), rule["margin"], entry, rule.get("metric"))

    def _value(self, at: Location, kind: Any, value: Any, entries: list[str], metric: Any) -> Iterator[str]:
        if kind != "at_least" and kind not in MEASURES:
            if value is not None:
                yield self._at((*at, "value"), f"{kind} has no 'value'; only at_least, speed and cost rules have one")
        elif value is None:
            example = "0.5" if kind == "at_least" else "0.9 for 90 % of the base's"
            yield self._at(at, f"{kind} needs 'value', such as {example}")
        elif kind in MEASURES and _is_number(value) and value <= 0:
            yield self._at((*at, "value"), f"value {value:g}; expected a share of the base's above 0")
        elif kind == "at_least" and _is_number(value) and not 0 <= value <= 1:
            for entry in entries:
                if self._unit(entry, metric):
                    yield self._at((*at, "value"), f"value {value:g} for {entry}, whose metric goes from 0 to 1")

    def _margin(self, at: Location, margin: Any, entry: str, metric: Any) -> Iterator[str]:
        if not _is_number(margin):
            return
        if margin <= 0:
            yield self._at(at, f"margin {margin:g}; expected a number above 0")
        elif margin >= TOO_LARGE and (names := self._unit(entry, metric)):
            yield self._at(at, f"margin {margin:g}; {names} goes {_SIZE}")

    def _unit(self, entry: str, metric: Any) -> str | None:
        """Return a metric that an entry means and that goes from 0 to 1; None where none does."""
        if isinstance(metric, str):
            return f"{entry} {metric}" if is_unit(metric, entry) else None
        for task in self._meant(entry):
            found = self.headlines.get(task) or usual_metric(task)
            if is_unit(found, task):
                return f"{task} {found}"
        return None

    def _meant(self, entry: str) -> list[str]:
        names = sorted(self.tasks or ()) or list(self.headlines)
        if entry in ROLES and self.roles:
            return [name for name, role in self.roles.items() if role == ROLES[entry]]
        if names_no_task(entry):
            return list(self.headlines) or names
        return [name for name in names if name == entry or fnmatchcase(name, entry)] or (
            [entry] if self.tasks is None else []
        )

    def _task(self, at: Location, entry: Any) -> Iterator[str]:
        if not isinstance(entry, str) or names_no_task(entry) or self.tasks is None:
            return
        if not any(name == entry or fnmatchcase(name, entry) for name in self.tasks):
            words = {*self.tasks, "all", "targets", "guards"}
            yield self._at(at, str(UnknownName("task", entry, words, "see: tuneboard show tasks")))

    def _evaluate(self) -> Iterator[str]:
        plan = self.data.get("evaluate")
        if not isinstance(plan, dict):
            return
        if (plan.get("adapter") is None) == (plan.get("checkpoint") is None):
            yield self._at(("evaluate",), "evaluate needs either 'adapter' or 'checkpoint': where the candidate lies")
        if not plan.get("tasks") and self.data.get("suite") is None:
            yield self._at(("evaluate",), "nothing to evaluate; name a 'suite', or 'tasks' under evaluate")

    def _at(self, at: Location, text: str) -> str:
        line = next((self.data.lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in self.data.lines), 0)
        return f"line {line}: {text}" if line else text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

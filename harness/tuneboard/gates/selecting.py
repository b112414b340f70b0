"""Which tasks a rule is on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from tuneboard.gates.records import Rule
from tuneboard.records import Role

#: What a rule may be on beside names: everything that stands for itself, or what has a role.
ROLES: dict[str, Role] = {"targets": "target", "target": "target", "guards": "guard", "guard": "guard"}
ALL = "all"


class Selectable(Protocol):
    """One metric of a task or group."""

    @property
    def task(self) -> str:
        """Name of the task or group."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def filter(self) -> str:
        """lm-eval's filter."""

    @property
    def role(self) -> Role:
        """What it is for."""

    @property
    def member_of(self) -> str | None:
        """What it is a part of; None where it stands for itself."""

    @property
    def headline(self) -> bool:
        """Whether the metric stands for the task."""


One = TypeVar("One", bound=Selectable)


def select(rule: Rule, rows: Sequence[One]) -> dict[str, list[One]]:
    """Find what each entry of a rule's ``tasks`` means; what an earlier entry covers is left out of later ones.

    Args:
        rule: A rule on scores.
        rows: All metrics of all tasks, headline first where a task has several.

    Returns:
        Entry to one row per task; an empty list where it means nothing.
    """
    taken: set[str] = set()
    found: dict[str, list[One]] = {}
    for entry in rule.tasks:
        tasks = dict.fromkeys(row.task for row in meant(entry, rows))
        chosen = [row for task in tasks if (row := _metric(rule.metric, (r for r in rows if r.task == task)))]
        found[entry] = [row for row in chosen if row.task not in taken]
        taken |= {row.task for row in chosen}
        if chosen and not found[entry]:
            del found[entry]
    return found


def meant(entry: str, rows: Sequence[One]) -> list[One]:
    """Return all metrics of the tasks that an entry of ``tasks`` means."""
    return [row for row in rows if _means(entry, row)]


def names_no_task(entry: str) -> bool:
    """Tell whether an entry of ``tasks`` is a role or everything, not a name."""
    return entry == ALL or entry in ROLES


def _means(entry: str, row: Selectable) -> bool:
    if entry == ALL:
        return row.member_of is None
    if entry in ROLES:
        return row.member_of is None and row.role == ROLES[entry]
    return row.task == entry or fnmatchcase(row.task, entry)


def _metric(wanted: str | None, rows: Iterable[One]) -> One | None:
    if wanted is None:
        return next((row for row in rows if row.headline), None)
    metric, comma, filter_name = wanted.partition(",")
    fitting = [row for row in rows if row.metric == metric and (not comma or row.filter == filter_name)]
    return next((row for row in fitting if row.headline), fitting[0] if fitting else None)

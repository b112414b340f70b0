"""Which tasks stand for themselves, which are parts of others, and what each is for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tuneboard.config import SuiteTask
from tuneboard.records import Role


@dataclass(frozen=True, slots=True)
class Place:
    """What a task or group is in a comparison."""

    role: Role = "none"
    headline: str | None = None
    """Metric that stands for it; None takes the task's usual one."""
    member_of: str | None = None


def assign_places(
    names: Sequence[str],
    members: Mapping[str, Collection[str]],
    entries: Sequence[SuiteTask],
    tags: Mapping[str, Collection[str]],
    rest: bool,
) -> dict[str, Place]:
    """Find the place of every task and group.

    Args:
        names: Of all tasks and groups, in the order to show.
        members: Group to the tasks in it, groups inside of groups resolved.
        entries: Of the suite; the first that names a task counts. A pattern stands for all that it fits.
        tags: Name of an entry that is a tag to its tasks.
        rest: Also give a place to what no entry covers.

    Returns:
        Name to place, in the order to show: what an entry names, then its members. What no entry covers comes last.
    """
    places: dict[str, Place] = {}
    for entry in entries:
        wanted = [name for name in names if name == entry.task or fnmatchcase(name, entry.task)]
        for name in wanted or tags.get(entry.task, ()):
            places.setdefault(name, Place(entry.role, entry.headline))
            for part in _parts(name, names, members):
                places.setdefault(part, Place(entry.role, entry.headline, name))
    return _with_rest(places, names, members) if rest else places


def _with_rest(
    places: dict[str, Place], names: Sequence[str], members: Mapping[str, Collection[str]]
) -> dict[str, Place]:
    groups = sorted((name for name in names if name in members), key=lambda name: -len(members[name]))
    for group in groups:
        if group not in places:
            places[group] = Place()
        for part in _parts(group, names, members):
            places.setdefault(part, Place(member_of=places[group].member_of or group))
    return places | {name: Place() for name in names if name not in places}


def _parts(name: str, names: Sequence[str], members: Mapping[str, Collection[str]]) -> list[str]:
    """Return what is inside a group: smaller groups, each before its tasks, then tasks that are in none of these."""
    inside = set(members.get(name, ()))
    groups = [one for one in names if one != name and one in members and set(members[one]) < inside]
    out: list[str] = []
    for group in sorted(groups, key=lambda one: -len(members[one])):
        out += [one for one in [group, *(task for task in names if task in members[group])] if one not in out]
    return out + [task for task in names if task in inside and task not in out]

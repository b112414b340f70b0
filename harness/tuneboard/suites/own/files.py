"""Tasks that are named by their YAML files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard.config import SuiteTask, load_yaml
from tuneboard.errors import ConfigError, UsageError
from tuneboard.metrics import find_metrics
from tuneboard.suites.index import IndexEntry, file_entry, folder_index
from tuneboard.suites.own.schema import read_own_task

#: Keys that only lm-eval's own format has.
_LM_EVALS = frozenset({"output_type", "dataset_path", "custom_dataset", "class", "include", "group"})


def is_own(config: Mapping[str, Any]) -> bool:
    """Tell whether a YAML is in the format of ``tuneboard.suites.own``, and not in lm-eval's."""
    return bool({"kind", "data"} & config.keys()) and not _LM_EVALS & config.keys()


def named_tasks(paths: Iterable[Path]) -> list[SuiteTask]:
    """Return the tasks of YAML files, each with the metric that stands for it.

    Raises:
        UsageError: A file cannot be read, or two files give their tasks the same name.
        ConfigError: With every problem of a YAML.
    """
    found: dict[str, Path] = {}
    out = []
    for path in paths:
        entry = _entry(path)
        if found.setdefault(entry.name, path) != path:
            raise UsageError(f"{path} and {found[entry.name]} both hold a task '{entry.name}'; rename one of them")
        out.append(SuiteTask(entry.name, headline=_headline(path)))
    return out


def with_headlines(tasks: Iterable[SuiteTask], include_paths: Iterable[Path]) -> tuple[SuiteTask, ...]:
    """Give tasks of the user's own that are found in folders the metric that stands for them, as ``named_tasks`` does.

    Args:
        tasks: Of a suite; one that has a headline keeps it.
        include_paths: The folders.

    Raises:
        UsageError: One is no folder, or holds no YAML.
        ConfigError: A YAML is broken.
    """
    found = folder_index(include_paths)
    paths = {name: entry.path for name, entry in found.items() if entry.kind == "task"}
    return tuple(
        replace(task, headline=_headline(path)) if task.headline is None and (path := paths.get(task.task)) else task
        for task in tasks
    )


def file_entries(paths: Iterable[Path]) -> dict[str, IndexEntry]:
    """Return where the tasks of YAML files are found, by name; raises as ``named_tasks``."""
    return {entry.name: entry for entry in map(_entry, paths)}


def _entry(path: Path) -> IndexEntry:
    if not path.is_file():
        raise UsageError(f"no task file at {path}; give a YAML file as in tasks/examples")
    entry = file_entry(path)
    if entry is None:
        read_own_task(path)  # says what is wrong, a missing name among it
        raise ConfigError(str(path), ["'task' is missing: the name that the task goes by"])
    return entry


def _headline(path: Path) -> str | None:
    """Return the first metric that a file asks for; what is wrong with it is said when the task is loaded."""
    try:
        metrics = load_yaml(path).get("metrics")
        return find_metrics([metrics] if isinstance(metrics, str) else metrics[:1])[0].name if metrics else None
    except (UsageError, TypeError, KeyError):
        return None  # a YAML of lm-eval's with tags of its own, or one that is refused later with all its problems

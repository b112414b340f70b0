"""Finds suites by name or path, and draws the documents of a limited task."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tuneboard import bundled
from tuneboard.config import Suite, SuiteTask, load_suite
from tuneboard.errors import UnknownName, UsageError


@dataclass(frozen=True, slots=True)
class SuiteInfo:
    """One line of ``tuneboard show suites``."""

    name: str
    description: str
    path: Path
    tasks: tuple[SuiteTask, ...]


def list_suites() -> list[SuiteInfo]:
    """Return the suites that ship with tuneboard, by name."""
    suites = ((path, load_suite(path)) for path in sorted(bundled.suites_dir().glob("*.yaml")))
    return [SuiteInfo(suite.name, suite.description, path, suite.tasks) for path, suite in suites]


def find_suite(name_or_path: str) -> Suite:
    """Return a suite by its name, or read it from the user's own YAML file.

    Args:
        name_or_path: A shipped name such as ``core``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        UnknownName: No suite is called so.
        UsageError: The file cannot be read.
        ConfigError: The file has problems; all of them are listed.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UsageError(f"no suite file at {path}; give a YAML file, or a name from: tuneboard show suites")
        return load_suite(path)
    shipped = {path.stem: path for path in bundled.suites_dir().glob("*.yaml")}
    if name_or_path not in shipped:
        raise UnknownName("suite", name_or_path, shipped, "known suites: " + ", ".join(sorted(shipped)))
    return load_suite(shipped[name_or_path])


def sample_ids(task_name: str, n_docs: int, limit: int | None, seed: int | None) -> list[int]:
    """Choose the documents of a task that are asked, in ascending order.

    Draws with the same seed are nested: the documents of a smaller limit are among those of a larger one, so that
    raising the limit reuses every answer.

    Args:
        task_name: Joins the seed, so that tasks of one length get different draws.
        n_docs: Documents in the whole task.
        limit: How many to take; None takes all.
        seed: Draws at random; None takes the first ones, as lm-eval does.
    """
    if limit is None or limit >= n_docs:
        return list(range(n_docs))
    order = list(range(n_docs)) if seed is None else drawn_order(task_name, n_docs, seed)
    return sorted(order[:limit])


def drawn_order(task_name: str, n_docs: int, seed: int) -> list[int]:
    """Return all documents of a task in the order in which ``sample_ids`` draws them.

    Args:
        task_name: Joins the seed.
        n_docs: Documents in the whole task.
        seed: Of the draw.
    """
    order = list(range(n_docs))
    random.Random(f"{seed}:{task_name}").shuffle(order)
    return order

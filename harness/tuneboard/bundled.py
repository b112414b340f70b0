"""Finds the tasks, suites, policies, recipes and the leaderboard app that ship with tuneboard.

In a wheel they lie inside the package, under ``_bundled/``; in a checkout (and so in an editable install) they lie
beside ``harness/``.
"""

from __future__ import annotations

from pathlib import Path

from tuneboard.errors import DataError

_PACKAGE = Path(__file__).resolve().parent


def tasks_dir() -> Path:
    """Return the folder of shipped task YAML in lm-eval's format."""
    return _find("tasks")


def suites_dir() -> Path:
    """Return the folder of shipped suites, one YAML each."""
    return _find("tasks/suites")


def policies_dir() -> Path:
    """Return the folder of shipped gate policies, one YAML each."""
    return _find("tasks/policies")


def recipes_dir() -> Path:
    """Return the folder of shipped fine-tuning recipes, one YAML each."""
    return _find("adapters/recipes")


def app_dir() -> Path:
    """Return the folder of the leaderboard app."""
    return _find("leaderboard")


def checkout_root() -> Path | None:
    """Return the root of the checkout that this package runs from, or None for an installed wheel."""
    root = _PACKAGE.parent.parent
    return root if (root / "pyproject.toml").is_file() and _PACKAGE.parent.name == "harness" else None


def _find(relative: str) -> Path:
    places = (_PACKAGE / "_bundled" / relative, _PACKAGE.parent.parent / relative)
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(str(place) for place in places)
    raise DataError(
        f"tuneboard's own folder '{relative}' is missing; looked for {looked}; "
        "install tuneboard again: pip install --force-reinstall tuneboard"
    )

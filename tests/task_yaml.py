"""Task YAML as it stands in a file, without running what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Names(yaml.SafeLoader):
    """Reads `!function module.name` as the name."""


_Names.add_constructor("!function", lambda loader, node: loader.construct_scalar(node).rpartition(".")[2])


def settings(folder: Path, name: str) -> dict[str, Any]:
    """Return a task's keys, those of what it includes among them."""
    found = yaml.load((folder / f"{name}.yaml").read_text(), _Names)
    included = settings(folder, found.pop("include").removesuffix(".yaml")) if "include" in found else {}
    return {**included, **found}

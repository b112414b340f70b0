"""What lies in a candidate's folder, and how to tell; reads configs only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneboard.candidates import resolve_adapter, resolve_model
from tuneboard.records import Candidate, ModelRef

#: The file that makes a folder a candidate of ours; written last.
PROVENANCE = "provenance.json"
#: Names of a classifier's classes beside an adapter, whose base does not know them.
LABELS = "labels.json"
ADAPTER_CONFIG = "adapter_config.json"


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return what ``provenance.json`` of a candidate says, or None where the folder has none of ours."""
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("made_by") == "tuneboard" else None


def is_adapter(folder: Path) -> bool:
    """Tell whether a candidate's folder holds an adapter; else it is a full checkpoint."""
    return (folder / ADAPTER_CONFIG).is_file()


def candidate_in(folder: Path, name: str, base: ModelRef) -> Candidate:
    """Return the candidate that lies in a folder.

    Args:
        folder: As ``publishing.publish`` wrote it.
        name: Its name.
        base: The resolved base of an adapter.

    Raises:
        ModelError: It cannot be read.
    """
    if is_adapter(folder):
        return Candidate(name, base, resolve_adapter(str(folder)))
    return Candidate(name, resolve_model(ModelRef(str(folder))))

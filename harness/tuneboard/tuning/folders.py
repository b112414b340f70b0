"""What lies in a candidate's folder, and how to tell; reads configs only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneboard.candidates import resolve_adapter, resolve_model
from tuneboard.errors import AdapterError, ModelError, UsageError
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


def base_of(folder: Path, given: str | None = None) -> ModelRef:
    """Return the base that an adapter was trained on, resolved.

    Args:
        folder: The adapter's.
        given: Folder or hub id of the base; None takes what the adapter names.

    Raises:
        UsageError: The adapter names none.
        ModelError: It is not where the adapter says.
        AdapterError: It has other weights than those that the adapter was trained on.
    """
    known = (read_provenance(folder) or {}).get("base") or {}
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name = given or known.get("id") or config.get("base_model_name_or_path")
    if not name:
        raise UsageError(f"{folder} does not say what it was trained on; name it with --model BASE")
    revision = known.get("revision") if name == known.get("id") else None
    try:
        base = resolve_model(ModelRef(str(name), revision))
    except ModelError as error:
        raise ModelError(f"{error}; name the model that {folder} was trained on with --model BASE") from error
    if known.get("sha256") and base.sha256 != known["sha256"]:
        raise AdapterError(
            f"{folder} was trained on other weights than those of {name} (as {PROVENANCE} says); "
            "name the model that it was trained on with --model BASE"
        )
    return base

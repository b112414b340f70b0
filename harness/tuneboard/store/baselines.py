"""Baselines: a candidate's results as a file that is committed beside the code, with every score and its own hash.

A baseline stands in for a base that this database need not hold. It is written by ``tuneboard baseline bless`` alone;
one that was edited is refused. Scores of 0 and 1 take one character a sample: all of ``core`` fits in a few hundred KB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneboard.errors import DataError, UnknownName
from tuneboard.records import CellKey, fingerprint
from tuneboard.store.cells import find_cells, newest
from tuneboard.store.database import reading

#: Version of the file format.
SCHEMA = 1
FOLDER = Path("results/baselines")
#: Names a baseline where a candidate could stand, such as a policy's ``base``.
PREFIX = "baseline:"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A blessed candidate."""

    name: str
    path: Path
    candidate: str
    """Its name when it was blessed."""
    fingerprint: str
    blessed: str
    """UTC, ISO 8601."""
    sha256: str
    entries: tuple[Mapping[str, Any], ...]
    """One per task and group: ``ref``, ``config`` (hash by key), ``key``, ``kind``, ``n``, ``created``, ``members``,
    ``docs`` and ``metrics``, as they stand in the file."""

    @property
    def label(self) -> str:
        """What it is called in a comparison."""
        return PREFIX + self.name


def baseline_path(name: str) -> Path:
    """Return the file of a baseline: ``NAME``, ``baseline:NAME`` or the path of a ``.json`` file."""
    name = name.removeprefix(PREFIX)
    return Path(name).expanduser() if name.endswith(".json") else FOLDER / f"{name}.json"


def is_baseline(name: str) -> bool:
    """Tell whether a name that stands for a base means a baseline."""
    return name.startswith(PREFIX) or name.endswith(".json")


def list_baselines() -> list[Path]:
    """Return the baseline files of this working folder, by name."""
    return sorted(FOLDER.glob("*.json"))


def load_baseline(name: str) -> Baseline:
    """Read a baseline and check its hash.

    Args:
        name: As ``baseline_path`` takes it.

    Raises:
        UnknownName: There is no such file.
        DataError: It is no baseline, of a newer version, or was edited.
    """
    path = baseline_path(name)
    again = f"bless it again: tuneboard baseline bless CANDIDATE --as {path.stem}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [one.stem for one in list_baselines()]
        bless = f"bless one: tuneboard baseline bless CANDIDATE --as {path.stem}"
        raise UnknownName("baseline", path.stem, known, f"there is no {path}; {bless}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); {again}") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise DataError(f"{path} is no baseline; {again}")
    if content["schema"] > SCHEMA:
        raise DataError(f"{path} was written by a newer tuneboard; run: pip install --upgrade tuneboard")
    if content.pop("sha256", None) != (digest := fingerprint(content)):
        raise DataError(f"{path} was edited after it was blessed: its hash does not fit; restore it, or {again}")
    return Baseline(
        name=path.stem,
        path=path,
        candidate=content["candidate"],
        fingerprint=content["fingerprint"],
        blessed=content["blessed"],
        sha256=digest,
        entries=tuple(content["tasks"]),
    )


def same_results(one: Baseline, other: Baseline) -> bool:
    """Tell whether two baselines hold the same results, whenever they were blessed."""
    return (one.fingerprint, list(one.entries)) == (other.fingerprint, list(other.entries))


def staleness(db: Path, baseline: Baseline) -> list[str]:
    """Say what has changed since a baseline was blessed, one sentence each; nothing where this database cannot tell."""
    if not db.exists():
        return []
    with reading(db) as connection:
        bound = dict(connection.execute("SELECT name, fingerprint FROM candidates").fetchall())
        if baseline.candidate not in bound:
            return []
        now = {cell.task: cell for cell in newest(find_cells(connection, candidate=baseline.candidate))}
    who = f"baseline '{baseline.name}' is stale: "
    if bound[baseline.candidate] != baseline.fingerprint:
        return [f"{who}'{baseline.candidate}' now stands for other weights than when it was blessed"]
    blessed = datetime.fromisoformat(baseline.blessed.removesuffix("Z"))
    changed, newer = [], []
    for entry in baseline.entries:
        cell = now.get(entry["ref"]["name"])
        if cell is None or cell.id == CellKey(**entry["key"]).id:
            continue
        if cell.task_fingerprint != entry["ref"]["fingerprint"]:
            changed.append(cell.task)
        elif cell.created > blessed:
            newer.append(cell.task)
    said = [f"{who}prompts or data have changed since on {_listed(changed)}"] if changed else []
    return said + ([f"{who}'{baseline.candidate}' has newer results on {_listed(newer)}"] if newer else [])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

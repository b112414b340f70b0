"""Where a candidate lies that a command names: a folder, one that ``tune`` made, or what the database knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneboard.errors import UnknownName, UsageError

#: Where ``tuneboard tune`` puts candidates.
TRAINED = Path("adapters/trained")


@dataclass(frozen=True, slots=True)
class Found:
    """Where a candidate lies."""

    place: Path
    """Its folder; of a model of the hub, its id."""
    base: str | None
    """Its base, where the database tells it."""


def find_candidate(name: str, db: Path) -> Found:
    """Find a candidate.

    Args:
        name: A folder, or a candidate's name.
        db: The database; need not be there.

    Raises:
        UnknownName: There is none.
        UsageError: Its weights are behind a server.
    """
    given = Path(name).expanduser()
    for folder in (given, TRAINED / name):
        if folder.is_dir():
            return Found(folder, None)
    from tuneboard.engines.served import is_on_server
    from tuneboard.store import queries

    rows = {row.name: row for row in queries.models(db)} if db.exists() else {}
    row = rows.get(name)
    if row is None:
        made = [place.name for place in TRAINED.glob("[!.]*") if place.is_dir()]
        hint = "give the folder of an adapter, or see: tuneboard show models"
        raise UnknownName("candidate", name, [*rows, *made], hint)
    if is_on_server(row.model_id):
        raise UsageError(f"'{name}' was evaluated on a server ({row.model_id}): its weights are not here")
    return Found(Path(row.adapter_path or row.model_id), row.model_id)

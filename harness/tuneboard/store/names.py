"""Which name stands for which weights in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.errors import NameTaken, UnknownName
from tuneboard.records import Candidate
from tuneboard.store.database import reading
from tuneboard.store.rows import clean, utc_now

if TYPE_CHECKING:
    import duckdb


def refuse_taken(connection: duckdb.DuckDBPyConnection, db: Path, c: Candidate) -> None:
    """Raise ``NameTaken``, with the command that renames, if a candidate's name is bound to other weights.

    Args:
        connection: The open database.
        db: Its path, for the message.
        c: The candidate.
    """
    name = clean(c.name)
    bound = connection.execute("SELECT fingerprint FROM candidates WHERE name = ?", [name]).fetchone()
    if bound is not None and bound[0] != c.fingerprint:
        raise NameTaken(
            f"the name '{name}' is bound to other weights in {db}: give these another name, "
            f"or free it with: tuneboard rename {name} NEW-NAME --db {db}"
        )


def bind(connection: duckdb.DuckDBPyConnection, db: Path, c: Candidate) -> None:
    """Bind a candidate's name to its weights, or bring the location of the same weights up to date.

    Args:
        connection: The open database, writable.
        db: Its path, for the message.
        c: The candidate.

    Raises:
        NameTaken: The name is bound to other weights.
    """
    refuse_taken(connection, db, c)
    adapter = c.adapter
    connection.execute(
        """INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
           model_id = excluded.model_id, model_revision = excluded.model_revision,
           adapter_path = excluded.adapter_path, adapter_kind = excluded.adapter_kind""",
        [
            clean(c.name),
            c.fingerprint,
            clean(c.model.id),
            c.model.revision,
            c.model.sha256,
            clean(adapter.path) if adapter else None,
            adapter.sha256 if adapter else None,
            adapter.kind if adapter else None,
            utc_now(),
        ],
    )


def known_names(db: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of all candidates, and of all tasks and groups, in a database.

    Raises:
        StoreError: The database cannot be read.
    """
    with reading(db) as connection:
        candidates = connection.execute("SELECT name FROM candidates").fetchall()
        tasks = connection.execute("SELECT DISTINCT name FROM tasks").fetchall()
    return frozenset(name for (name,) in candidates), frozenset(name for (name,) in tasks)


def rename(connection: duckdb.DuckDBPyConnection, db: Path, old: str, new: str) -> None:
    """Give a candidate another name.

    Args:
        connection: The open database, writable.
        db: Its path, for the message.
        old: Its name now.
        new: Its name from now on; a second name of the same weights is merged into it.

    Raises:
        UnknownName: There is no candidate ``old``.
        NameTaken: ``new`` is bound to other weights.
    """
    bound = dict(connection.execute("SELECT name, fingerprint FROM candidates").fetchall())
    if old not in bound:
        raise UnknownName("candidate", old, bound, f"see: tuneboard show models --db {db}")
    if old == new:
        return
    if bound.get(new, bound[old]) != bound[old]:
        raise NameTaken(f"'{new}' is bound to other weights in {db}; give a name that is free")
    connection.execute("DELETE FROM candidates WHERE name = ?", [new])
    connection.execute("UPDATE candidates SET name = ? WHERE name = ?", [clean(new), old])

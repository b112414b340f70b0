"""Snapshots for a site: read-only copies of a database under names of their own, and a file that names the newest.

A file that is replaced under its own name gives old data to a process that has it open, so each snapshot gets a new
name and the pointer is replaced in one step. What a task keeps to itself (``metadata: {private: true}`` in its YAML)
is left out: prompts, choices, targets, answers, and the texts in its config.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.errors import StoreError
from tuneboard.store.database import reading, writing
from tuneboard.store.locking import WAIT_S, database_lock
from tuneboard.store.rows import as_json, utc_now

if TYPE_CHECKING:
    import duckdb

#: Environment variables by which the site learns what to show; the folder wins.
DATABASE_VARIABLE, SNAPSHOT_VARIABLE = "TUNEBOARD_DB", "TUNEBOARD_SNAPSHOT"

#: Stands in place of what a private task keeps to itself.
WITHHELD = "(withheld: this task is private)"

_POINTER = "current"
_PREFIX, _ENDING = "tuneboard-", ".duckdb"
#: What of a private task's config goes out: how it is scored, and nothing that could quote its data.
_CONFIG_KEPT = ("metadata", "metric_list", "output_type", "repeats", "version", "group", "task")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was published."""

    path: Path
    withheld: tuple[str, ...]
    """Names of private tasks."""
    removed: tuple[str, ...]
    """Names of older snapshots that are gone now."""


def current_snapshot(folder: Path) -> Path | None:
    """Return the newest published snapshot; None where nothing is published.

    Args:
        folder: What ``publish`` wrote into.
    """
    try:
        name = (folder / _POINTER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    found = folder / name
    return found if _is_snapshot(found) and found.parent == folder and found.is_file() else None


def publish(db: Path, folder: Path) -> Snapshot:
    """Write a snapshot of a database and make it the one that sites show.

    Writers wait while the file is copied, and no longer.

    Args:
        db: The database file.
        folder: Made when missing; one site reads it.

    Raises:
        StoreError: The database is missing or cannot be read, or the folder cannot be written.
    """
    with reading(db):
        pass  # a database that is not there must not make a folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with database_lock(folder / "snapshots", "write", WAIT_S):
            return _publish(db, folder)
    except OSError as error:
        raise StoreError(
            f"cannot write a snapshot of {db} into {folder}: {error.strerror}; "
            "check the folder, its permissions and the free space, or name another with --to"
        ) from error


def _publish(db: Path, folder: Path) -> Snapshot:
    before = current_snapshot(folder)
    name = f"{_PREFIX}{utc_now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}{_ENDING}"
    for left in folder.glob("*.part*"):  # of a publishing that was killed
        left.unlink(missing_ok=True)
    part = folder / f"{name}.part"
    with _temporary(part):
        withheld = _write(db, part)
        part.chmod(0o444)
        _to_disk(part)
        part.replace(folder / name)
    _point(folder, name)
    # Pages that are being made may still read the one before.
    kept = {name} if before is None else {name, before.name}
    return Snapshot(folder / name, withheld, _remove_all_but(folder, kept))


def _write(db: Path, part: Path) -> tuple[str, ...]:
    """Write a snapshot; what may hold private texts stays beside the database until it is removed."""
    real = os.path.realpath(db)
    for left in Path(real).parent.glob(f"{Path(real).name}.publishing-*"):
        left.unlink(missing_ok=True)
    copy = Path(f"{real}.publishing-{secrets.token_hex(2)}")
    with _temporary(copy):
        with database_lock(db, "read", WAIT_S):
            shutil.copyfile(real, copy)
            if os.path.exists(f"{real}.wal"):  # a writer was killed: what it had committed may stand there alone
                shutil.copyfile(f"{real}.wal", f"{copy}.wal")
        with writing(copy) as connection:  # takes in the log
            private = _private_tasks(connection)
        if private:
            _write_without(copy, part, sorted(private))
        else:
            shutil.move(copy, part)
    _remove_beside(part)
    return tuple(sorted(set(private.values())))


def _private_tasks(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return fingerprint and name of all tasks that are private; one version of a task makes all of them so."""
    rows = connection.execute("SELECT fingerprint, name, config FROM tasks").fetchall()
    names = {name for _, name, config in rows if (json.loads(config).get("metadata") or {}).get("private")}
    return {fingerprint: name for fingerprint, name, _ in rows if name in names}


def _write_without(copy: Path, part: Path, private: list[str]) -> None:
    """Write all rows into a new file: in the old one, what is removed could still be found."""
    with writing(part) as connection:
        connection.execute(f"ATTACH '{str(copy).replace(chr(39), chr(39) * 2)}' AS whole (READ_ONLY)")
        configs = connection.execute(
            "SELECT fingerprint, config FROM whole.tasks WHERE list_contains($1, fingerprint)", [private]
        ).fetchall()
        connection.execute("CREATE TEMP TABLE private (fingerprint VARCHAR PRIMARY KEY, config VARCHAR)")
        connection.executemany("INSERT INTO private VALUES (?, ?)", [(one, _bare(config)) for one, config in configs])
        connection.execute(
            """CREATE TEMP TABLE private_cells AS
               SELECT id FROM whole.cells WHERE task_fingerprint IN (SELECT fingerprint FROM private)"""
        )
        tables = connection.execute(
            """SELECT table_name FROM duckdb_tables()
               WHERE database_name = 'whole' AND table_name <> 'schema_version' ORDER BY table_name"""
        ).fetchall()
        for (table,) in tables:
            rows = _WITHOUT.get(table, f"SELECT * FROM whole.{table}")
            connection.execute(f"INSERT INTO {table} BY NAME {rows}")
        connection.execute("DROP TABLE private")
        connection.execute("DROP TABLE private_cells")


def _bare(config: str) -> str:
    whole = json.loads(config)
    return as_json({key: whole[key] for key in _CONFIG_KEPT if key in whole})


_TASK_IS_PRIVATE = "task_fingerprint IN (SELECT fingerprint FROM private)"
_CELL_IS_PRIVATE = "cell_id IN (SELECT id FROM private_cells)"
#: Table to its rows as they go out. Clusters become numbers, which is all that a comparison needs of them; answers that
#: are log-probabilities say nothing of a text and stay, as do pieces of corpus metrics without one.
_WITHOUT = {
    "tasks": """
        SELECT tasks.* REPLACE (coalesce(private.config, tasks.config) AS config)
        FROM whole.tasks LEFT JOIN private USING (fingerprint)""",
    "documents": f"""
        SELECT * REPLACE (
            CASE WHEN {_TASK_IS_PRIVATE} THEN '{WITHHELD}' ELSE prompt END AS prompt,
            CASE WHEN {_TASK_IS_PRIVATE} THEN list_transform(choices, lambda choice: '{WITHHELD}') ELSE choices END
                AS choices,
            CASE WHEN {_TASK_IS_PRIVATE} THEN '{WITHHELD}' ELSE target END AS target,
            CASE WHEN {_TASK_IS_PRIVATE} AND cluster IS NOT NULL
                 THEN 'cluster ' || dense_rank() OVER (PARTITION BY task_fingerprint ORDER BY cluster)
                 ELSE cluster END AS cluster)
        FROM whole.documents""",
    "samples": f"""
        SELECT * REPLACE (
            CASE WHEN {_CELL_IS_PRIVATE} AND contains(responses, '"')
                 THEN CAST(to_json(list_transform(request_hashes, lambda one: '{WITHHELD}')) AS VARCHAR)
                 ELSE responses END AS responses,
            CASE WHEN {_CELL_IS_PRIVATE} THEN NULL ELSE filtered END AS filtered,
            CASE WHEN {_CELL_IS_PRIVATE} AND reason IS NOT NULL THEN '{WITHHELD}' ELSE reason END AS reason)
        FROM whole.samples""",
    "scores": f"""
        SELECT * FROM whole.scores WHERE NOT ({_CELL_IS_PRIVATE} AND detail IS NOT NULL AND contains(detail, '"'))""",
}


def _point(folder: Path, name: str) -> None:
    new = folder / f".{_POINTER}.part"
    with _temporary(new):
        new.write_text(f"{name}\n", encoding="utf-8")
        _to_disk(new)
        new.replace(folder / _POINTER)


def _remove_all_but(folder: Path, kept: set[str]) -> tuple[str, ...]:
    removed = sorted(path for path in folder.iterdir() if _is_snapshot(path) and path.name not in kept)
    for path in removed:
        path.unlink(missing_ok=True)
        _remove_beside(path)
    return tuple(path.name for path in removed)


def _is_snapshot(path: Path) -> bool:
    return path.name.startswith(_PREFIX) and path.name.endswith(_ENDING)


def _remove_beside(path: Path) -> None:
    for ending in (".wal", ".lock", ".gate", ".new"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[None]:
    """Remove a file, with what stands beside it, when the block is left."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        _remove_beside(path)

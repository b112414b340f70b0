"""Short-lived connections to the database: under the lock, migrated, and with errors that say what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import duckdb

from tuneboard.errors import StoreBusy, StoreError
from tuneboard.store.locking import WAIT_S, database_lock
from tuneboard.store.migrations import migrate, needs_migration

#: An extension that DuckDB lacks is an error and no download; a table that it lacks is no Python variable of its name.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


#: Path of the database that ``kept_open`` holds, and its connection.
_kept: ContextVar[tuple[str, duckdb.DuckDBPyConnection] | None] = ContextVar("kept_open", default=None)


@contextmanager
def reading(db: Path, wait_s: float = WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for queries; writers wait until the block is left.

    Args:
        db: The database file; an older one is migrated first.
        wait_s: Seconds to wait for a writer.

    Raises:
        StoreError: It is missing, no database of ours, newer (``StoreTooNew``) or busy (``StoreBusy``).
    """
    kept = _kept.get()
    if kept and kept[0] == os.path.realpath(db):
        with kept[1].cursor() as cursor:
            yield cursor
        return
    if not db.exists():
        raise StoreError(f"no database at {db}; run: tuneboard evaluate --model MODEL --suite quick --db {db}")
    _refuse_foreign(db, wait_s)
    with ExitStack() as stack:
        connection = stack.enter_context(_shared(db, wait_s))
        if needs_migration(connection):
            stack.close()
            with writing(db, wait_s):
                pass
            connection = stack.enter_context(_shared(db, wait_s))
        yield connection


@contextmanager
def kept_open(db: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Let every ``reading`` of a database within the block use one connection; to open one costs 20 to 50 ms.

    Args:
        db: The database file.
        wait_s: Seconds to wait for a writer; writers wait until the block is left.

    Raises:
        StoreError: As ``reading`` does.
    """
    with reading(db, wait_s) as connection:
        before = _kept.set((os.path.realpath(db), connection))
        try:
            yield
        finally:
            _kept.reset(before)


@contextmanager
def writing(db: Path, wait_s: float = WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for one transaction: all of it is there after the block, or nothing after an error.

    Args:
        db: The database file; made when missing, with its folder.
        wait_s: Seconds to wait for other processes.

    Raises:
        StoreError: It cannot be written, is no database of ours, newer (``StoreTooNew``) or busy (``StoreBusy``).
    """
    try:
        db.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder of {db}: {error.strerror}; name another file with --db") from error
    _refuse_foreign(db, wait_s)
    with database_lock(db, "write", wait_s), _clear_errors(db):
        if not db.exists():
            _create(db)
        with _connect(db, False, wait_s) as connection:
            migrate(connection)
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                # After a full disk DuckDB has rolled back already and refuses to do it again.
                with suppress(duckdb.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def rows_as_dicts(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> list[dict[str, Any]]:
    """Return the rows of a query by column name.

    Args:
        connection: An open database.
        sql: One SELECT.
        parameters: By position (``?``) or by name (``$name``).
    """
    cursor = connection.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def _shared(db: Path, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    with database_lock(db, "read", wait_s), _clear_errors(db), _connect(db, True, wait_s) as connection:
        yield connection


def _refuse_foreign(db: Path, wait_s: float) -> None:
    """Refuse a file that is no database of ours before lock files are put beside it."""
    with _clear_errors(db):
        try:
            with db.open("rb") as file:
                start = file.read(12)
        except (FileNotFoundError, PermissionError):
            return  # opening it tells more
        if start.startswith(b"SQLite"):
            raise StoreError(f"{db} is not a DuckDB database but one of SQLite; name another file with --db")
        if start and start[8:] != b"DUCK":
            raise StoreError(f"{db} is not a DuckDB database; move it away or name another file with --db")
        # One that was in use here before has its lock already, and is looked at once that is held.
        if start and not Path(f"{os.path.realpath(db)}.lock").exists():
            with _connect(db, True, wait_s) as connection:
                needs_migration(connection)


def _create(db: Path) -> None:
    """Make the file under another name and move it in: a kill in between leaves no half database."""
    new = Path(f"{os.path.realpath(db)}.new")
    # The last is what remains where somebody removed a database and forgot its log: DuckDB would replay it.
    for stale in (new, Path(f"{new}.wal"), Path(f"{os.path.realpath(db)}.wal")):
        stale.unlink(missing_ok=True)
    with _connect(new, False, 0) as connection:
        migrate(connection)
    new.replace(os.path.realpath(db))


@contextmanager
def _connect(db: Path, read_only: bool, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect; a program that does not know our lock (DuckDB's own shell) is waited for as well."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            connection = duckdb.connect(str(db), read_only=read_only, config=_CONFIG)
            break
        except duckdb.IOException as error:
            if "lock on file" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise StoreBusy(
                    f"{db} is open in another program ({_first_line(error)}); close it there, "
                    "then run the same command again"
                ) from error
            time.sleep(0.05)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _clear_errors(db: Path) -> Iterator[None]:
    """Turn what DuckDB and the operating system raise into one line with a next step."""
    try:
        yield
    except StoreError as error:
        if str(db) in str(error):
            raise
        raise type(error)(f"{db}: {error}") from error
    except duckdb.Error as error:
        if "not a valid DuckDB database" in str(error):
            raise StoreError(f"{db} is not a DuckDB database; move it away or name another file with --db") from error
        # A disk that fills up during a commit is reported as a failed transaction.
        if isinstance(error, duckdb.IOException) or "Could not write file" in str(error):
            raise StoreError(
                f"cannot read or write {db}: {_first_line(error)}; check the file, its permissions and the free space, "
                "then run the same command again"
            ) from error
        raise StoreError(
            f"the database {db} is damaged or was changed by another program: {_first_line(error)}; "
            "restore it from a copy or name another file with --db"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write {db}: {error.strerror}; name another file with --db") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".;")

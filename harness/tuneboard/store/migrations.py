"""Numbered, forward-only changes of the schema, and the check that a database is ours and not from the future."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tuneboard.errors import StoreError, StoreTooNew

#: SQL of each version, applied in order; the first makes a database out of nothing. Append, never edit.
MIGRATIONS: tuple[str, ...] = tuple(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("schema.sql", "training.sql", "gating.sql", "verdicts.sql", "cut.sql")
)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the version of an open database, 0 for an empty one.

    Raises:
        StoreError: The database belongs to another program.
    """
    try:
        (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone() or (None,)
        return int(version or 0)
    except duckdb.CatalogException:
        pass
    # Asked last: listing the tables takes 30 ms, everything else about opening a database 13 ms.
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if tables:
        raise StoreError(
            f"its tables ({', '.join(sorted(tables)[:3])}, ...) are not tuneboard's; name another file with --db"
        )
    return 0


def needs_migration(connection: duckdb.DuckDBPyConnection) -> bool:
    """Tell whether an open database is older than this program.

    Raises:
        StoreTooNew: It is newer.
        StoreError: It belongs to another program.
    """
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"written by a newer tuneboard (schema {version}; this one knows {len(MIGRATIONS)}); "
            "run: pip install --upgrade tuneboard, or name another file with --db"
        )
    return version < len(MIGRATIONS)


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring an open, writable database to the newest version, all in one transaction.

    Raises:
        StoreTooNew: It is newer than this program.
        StoreError: It belongs to another program.
    """
    if not needs_migration(connection):
        return
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied TIMESTAMP)")
    for number, sql in enumerate(MIGRATIONS[schema_version(connection) :], start=schema_version(connection) + 1):
        connection.execute(sql)
        connection.execute("INSERT INTO schema_version VALUES (?, now() AT TIME ZONE 'UTC')", [number])
    connection.execute("COMMIT")

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from tuneboard.errors import StoreError, StoreTooNew
from tuneboard.store import migrations, queries, rows
from tuneboard.store.database import reading, writing
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))

NEWER = (
    *migrations.MIGRATIONS,
    "ALTER TABLE runs ADD COLUMN note VARCHAR DEFAULT 'old'; UPDATE runs SET note = 'migrated'",
    "CREATE TABLE ratings (candidate VARCHAR, elo DOUBLE)",
)


def filled(db: Path) -> str:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit(run, build.make_result())
    return run


def filled_as_before(db: Path, patch: pytest.MonkeyPatch) -> str:
    """What versions did that had no columns for clusters and cut requests."""
    documents, samples = rows._document_table, rows._sample_table
    patch.setattr(rows, "_document_table", lambda *given: documents(*given).drop_columns("cluster"))
    patch.setattr(rows, "_sample_table", lambda *given: samples(*given).drop_columns("cut"))
    return filled(db)


@pytest.mark.parametrize("opened", [reading, writing])
def test_an_older_database_is_migrated_when_it_is_opened(db: Path, monkeypatch: pytest.MonkeyPatch, opened) -> None:
    run = filled(db)
    monkeypatch.setattr(migrations, "MIGRATIONS", NEWER)
    with opened(db) as connection:
        assert connection.execute("SELECT id, note FROM runs").fetchall() == [(run, "migrated")]
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (10,)
        versions = connection.execute("SELECT version FROM schema_version ORDER BY 1").fetchall()
        assert versions == [(number,) for number in range(1, len(NEWER) + 1)]


def test_a_database_of_the_first_version_gets_the_tables_of_trainings(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        run = filled_as_before(db, patch)
    with reading(db) as connection:
        assert connection.execute("SELECT count(*) FROM training_runs").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM training_curves").fetchone() == (0,)
    assert [row.id for row in queries.runs(db)] == [run]


def test_results_of_the_second_version_stay_and_have_no_clusters(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:2])
        filled_as_before(db, patch)
    assert {sample["cluster"] for sample in queries.samples(db, "base", "toy")} == {None}
    with reading(db) as connection:
        assert connection.execute("SELECT count(*) FROM costs").fetchone() == (0,)


def test_answers_of_the_fourth_version_stay_and_none_is_known_to_be_cut(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:4])
        filled_as_before(db, patch)
    store, scope = Store(db), build.make_result().key.scope
    assert len(store.answers(scope)) == 40
    assert store.cut(scope) == set()


def test_a_migration_that_fails_leaves_the_database_as_it_was(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(db)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*NEWER, "ALTER TABLE nothing ADD COLUMN x INTEGER"))
        with pytest.raises(StoreError, match="nothing"):
            Store(db).register(build.make_candidate("other", "w1"))
    assert [row.name for row in queries.models(db)] == ["base"]
    with reading(db) as connection:
        assert migrations.schema_version(connection) == len(migrations.MIGRATIONS)


def test_a_newer_database_is_refused_with_what_to_do(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", NEWER)
        filled(db)
    before, known = db.read_bytes(), len(migrations.MIGRATIONS)
    for use in (lambda: queries.runs(db), lambda: Store(db).start_run(build.make_provenance())):
        with pytest.raises(
            StoreTooNew,
            match=rf"newer tuneboard \(schema {known + 2}; this one knows {known}\).*pip install --upgrade",
        ) as caught:
            use()
        assert str(db) in str(caught.value) and "\n" not in str(caught.value)
    assert db.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database\n" * 1000, b"PAR1" + bytes(5000)])
def test_a_file_that_is_no_database_is_refused_and_left_alone(db: Path, content: bytes) -> None:
    db.parent.mkdir()
    db.write_bytes(content)
    for use in (lambda: queries.runs(db), lambda: Store(db).start_run(build.make_provenance())):
        with pytest.raises(StoreError, match="is not a DuckDB database; move it away or name another file") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert db.read_bytes() == content


def test_a_database_of_another_program_is_refused(db: Path) -> None:
    db.parent.mkdir()
    with duckdb.connect(str(db)) as connection:
        connection.execute("CREATE TABLE flights (id INTEGER)")
    for use in (lambda: queries.runs(db), lambda: Store(db).start_run(build.make_provenance())):
        with pytest.raises(StoreError, match=r"its tables \(flights, \.\.\.\) are not tuneboard's"):
            use()


def test_a_damaged_database_is_one_line(db: Path) -> None:
    filled(db)
    content = bytearray(db.read_bytes())
    content[12288:] = bytes(len(content) - 12288)
    db.write_bytes(content)
    with pytest.raises(StoreError, match=r"tuneboard\.duckdb") as caught:
        queries.cells(db)
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_path_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for db in (tmp_path, tmp_path / "file" / "x.duckdb"):
        with pytest.raises(StoreError) as caught:
            Store(db).start_run(build.make_provenance())
        assert "\n" not in str(caught.value) and str(db) in str(caught.value)


def test_a_database_whose_making_was_killed_is_made_anew(db: Path) -> None:
    db.parent.mkdir()
    db.with_name("tuneboard.duckdb.new").write_bytes(b"half")
    db.with_name("tuneboard.duckdb.wal").write_bytes(b"of a database that was removed")
    filled(db)
    assert len(queries.runs(db)) == 1
    assert not db.with_name("tuneboard.duckdb.new").exists()

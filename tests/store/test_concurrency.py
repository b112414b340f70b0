from __future__ import annotations

import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from tuneboard.errors import StoreBusy
from tuneboard.store import queries
from tuneboard.store.database import kept_open, reading, writing
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))

WRITER = """
db, me = Path(sys.argv[1]), int(sys.argv[2])
store = Store(db)
run = store.start_run(build.make_provenance(f"writer {me}"))
fresh = 0
for i in range(4):
    # The last two cells are the same for all writers.
    name = f"shared-{i}" if i > 1 else f"w{me}-{i}"
    result = build.make_result(build.make_candidate(name, adapter=name), n=40)
    journal = Journal(journal_folder(db), result.key.scope)
    journal.append([pair for s in result.samples for pair in zip(s.request_hashes, s.responses)])
    fresh += store.commit(run, result)
    journal.discard()
store.finish_run(run, "done", 1.0)
print(fresh)
"""

READER = """
from tuneboard.store import queries
db, stop = Path(sys.argv[1]), Path(sys.argv[2])
looks = 0
while not stop.exists():
    queries.runs(db)
    for row in queries.metrics(db):
        assert row.cell.n == 40
        if looks % 3 == 0:
            assert len(list(queries.samples(db, row.cell.candidate, row.cell.task))) == 40
            break
    looks += 1
    time.sleep(0.05)
print(looks)
"""


def test_four_writers_and_two_readers_lose_nothing_and_see_no_error(db: Path, tmp_path: Path, start) -> None:
    Store(db).start_run(build.make_provenance())
    stop = tmp_path / "stop"
    readers = [start(READER, db, stop) for _ in range(2)]
    writers = [start(WRITER, db, i) for i in range(4)]
    ends = [writer.communicate(timeout=120) for writer in writers]
    stop.touch()
    looks = [reader.communicate(timeout=120) for reader in readers]

    assert [err for _, err in ends + looks] == [""] * 6
    assert sum(int(out) for out, _ in ends) == 4 * 2 + 2
    assert all(int(out) > 0 for out, _ in looks)
    runs = [run for run in queries.runs(db) if run.finished]
    assert len(runs) == 4
    assert all(sum(run.statuses.values()) == 4 for run in runs)
    cells = queries.cells(db)
    assert len(cells) == len({cell.id for cell in cells}) == 10
    for cell in cells:
        assert len(list(queries.samples(db, cell.candidate, "toy"))) == 40
    assert list(db.with_name("tuneboard.duckdb.journal").iterdir()) == []


def test_writers_killed_at_any_moment_leave_whole_cells_or_none(db: Path, start) -> None:
    Store(db).start_run(build.make_provenance())
    for round_, wait_s in enumerate((0.02, 0.1, 0.35)):
        code = """
db, me = Path(sys.argv[1]), sys.argv[2]
store = Store(db)
run = store.start_run(build.make_provenance())
print("up", flush=True)
for i in range(1000):
    store.commit(run, build.make_result(build.make_candidate(f"w{me}-{i}", adapter=f"{me}-{i}"), n=300))
"""
        writer = start(code, db, round_)
        assert writer.stdout.readline() == "up\n"
        time.sleep(wait_s)
        writer.kill()
        writer.wait()
        with reading(db) as connection:
            torn = connection.execute(
                """SELECT cells.id FROM cells LEFT JOIN samples ON cell_id = cells.id GROUP BY cells.id
                   HAVING count(samples.doc_id) <> 300"""
            ).fetchall()
            orphans = connection.execute("SELECT count(*) FROM scores WHERE cell_id NOT IN (SELECT id FROM cells)")
            assert (torn, orphans.fetchone()) == ([], (0,))
            assert connection.execute("SELECT count(*) FROM documents").fetchone() in ((0,), (300,))


def test_a_database_that_is_kept_open_is_opened_once_and_kept_from_writers(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(db).start_run(build.make_provenance())
    with writing(tmp_path / "other.duckdb"):
        pass
    opened: list[str] = []
    connect = duckdb.connect

    def counted(path: str, **options: object) -> duckdb.DuckDBPyConnection:
        opened.append(Path(path).name)
        return connect(path, **options)

    monkeypatch.setattr(duckdb, "connect", counted)
    (tmp_path / "link.duckdb").symlink_to(db)
    with kept_open(db):
        rows = [len(queries.runs(path)) for path in (db, tmp_path / "link.duckdb", tmp_path / "other.duckdb")]
        with pytest.raises(StoreBusy), writing(db, 0.1):
            pass
    assert rows == [1, 1, 0]
    assert opened == [db.name, "other.duckdb"]
    assert len(queries.runs(db)) == 1 and opened[2:] == [db.name]

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from tuneboard.errors import StoreBusy, StoreError
from tuneboard.store.locking import database_lock


def test_readers_share_and_a_writer_excludes_everybody(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    with (
        database_lock(db, "read", 0),
        database_lock(db, "read", 0),
        pytest.raises(StoreBusy),
        database_lock(db, "write", 0),
    ):
        pass
    with database_lock(db, "write", 0):
        for mode in ("read", "write"):
            with pytest.raises(StoreBusy), database_lock(db, mode, 0):  # type: ignore[arg-type]
                pass
    with database_lock(db, "write", 0):
        pass


def test_the_wait_is_bounded_and_the_error_names_file_and_wait(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    with database_lock(db, "read", 0):
        began = time.monotonic()
        with (
            pytest.raises(StoreBusy, match=r"x\.duckdb is in use .* waiting 0\.3 s to write"),
            database_lock(db, "write", 0.3),
        ):
            pass
        assert 0.3 <= time.monotonic() - began < 2


def test_a_lock_is_one_lock_through_links_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.duckdb").touch()
    (tmp_path / "link.duckdb").symlink_to("x.duckdb")
    monkeypatch.chdir(tmp_path)
    with database_lock(tmp_path / "x.duckdb", "write", 0):
        for other in (Path("x.duckdb"), Path("link.duckdb")):
            with pytest.raises(StoreBusy), database_lock(other, "read", 0):
                pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path, start) -> None:
    db = tmp_path / "x.duckdb"
    holder = start(
        "with database_lock(Path(sys.argv[1]), 'write', 0):\n    print('held', flush=True)\n    time.sleep(60)", db
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy), database_lock(db, "read", 0):
        pass
    holder.kill()
    with database_lock(db, "write", 5):
        pass


@pytest.mark.parametrize(("stream", "waiting"), [("read", "write"), ("write", "read")])
def test_nobody_starves_behind_a_stream_of_the_others(tmp_path: Path, stream: str, waiting: str) -> None:
    """Four threads take the lock again as soon as they have left it, so that it is never free for long."""
    db = tmp_path / "x.duckdb"
    stop = threading.Event()
    turns = [0] * 4

    def take_again_and_again(me: int) -> None:
        while not stop.is_set():
            with database_lock(db, stream, 30):  # type: ignore[arg-type]
                turns[me] += 1
                time.sleep(0.02)

    threads = [threading.Thread(target=take_again_and_again, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.1)
        waits = []
        for _ in range(5):
            began = time.monotonic()
            with database_lock(db, waiting, 30):  # type: ignore[arg-type]
                waits.append(time.monotonic() - began)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert min(turns) > 0
    assert max(waits) < 5


def test_a_reader_goes_without_a_lock_where_none_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def read_only_disk(path: object, *rest: int, **named: int) -> int:
        if str(path).endswith((".lock", ".gate")):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only_disk)
    with database_lock(tmp_path / "x.duckdb", "read", 0):
        pass
    with pytest.raises(StoreError, match="Read-only file system"), database_lock(tmp_path / "x.duckdb", "write", 0):
        pass

from __future__ import annotations

import json
import os
import runpy
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.compare import Plan, compare
from tuneboard.errors import StoreError
from tuneboard.store import listing, queries, snapshots
from tuneboard.store.database import reading
from tuneboard.store.locking import database_lock
from tuneboard.store.pairs import load_scores
from tuneboard.store.snapshots import WITHHELD, current_snapshot, publish

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "leaderboard" / "small.py")))
SECRET = "the secret question"


def private(result: Any) -> Any:
    """Make gsm8k private, and let each of its documents, answers and pieces of metrics hold a text to look for."""
    if result.task.name != "gsm8k":
        return result
    config = {**result.task.config, "metadata": {"private": True}, "description": SECRET, "doc_to_text": SECRET}
    samples = tuple(
        replace(
            sample,
            document=replace(
                sample.document, prompt=f"{SECRET} {place}", target=SECRET, cluster=f"{SECRET} {place % 5}"
            ),
            responses=(f"{SECRET} answered",),
            filtered={name: [SECRET] for name in sample.filtered},
            metrics={name: {**values, "bleu": [SECRET, SECRET]} for name, values in sample.metrics.items()},
        )
        for place, sample in enumerate(result.samples)
    )
    return replace(result, task=replace(result.task, config=config), samples=samples)


def rows(db: Path, query: str) -> list[Any]:
    with reading(db) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("made") / "tuneboard.duckdb"
    small.fill(db, ["base", "mine"])
    return db


@pytest.fixture
def filled(made: Path, db: Path) -> Path:
    db.parent.mkdir()
    shutil.copyfile(made, db)
    return db


def test_a_snapshot_holds_everything_under_a_name_of_its_own(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "public"
    assert current_snapshot(folder) is None
    made = publish(filled, folder)
    assert current_snapshot(folder) == made.path and made.withheld == () and made.removed == ()
    for table in ("candidates", "documents", "samples", "scores", "metrics", "training_curves"):
        assert rows(made.path, f"SELECT count(*) FROM {table}") == rows(filled, f"SELECT count(*) FROM {table}")
    assert not made.path.stat().st_mode & 0o222
    assert listing.listed_scores(made.path) == listing.listed_scores(filled)


def test_the_newest_two_snapshots_stay(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "public"
    made = [publish(filled, folder) for _ in range(4)]
    assert current_snapshot(folder) == made[-1].path
    assert {path for path in folder.iterdir() if path.suffix == ".duckdb"} == {made[-1].path, made[-2].path}
    assert made[-1].removed == (made[-3].path.name,)
    assert {path.name for path in folder.iterdir()} - {made[-1].path.name, made[-2].path.name} <= {
        "current",
        "snapshots.lock",
        "snapshots.gate",
        *(f"{one.path.name}{ending}" for one in made[-2:] for ending in (".lock", ".gate")),
    }


def test_texts_of_private_tasks_are_nowhere_in_the_file(db: Path, tmp_path: Path) -> None:
    small.fill(db, ["base", "mine"], private)
    assert SECRET.encode() in db.read_bytes()
    made = publish(db, tmp_path / "public")
    assert made.withheld == ("gsm8k",)
    for path in (tmp_path / "public").iterdir():
        assert SECRET.encode() not in path.read_bytes()
    for table in ("tasks", "documents", "samples", "scores", "cells"):
        assert SECRET not in str(rows(made.path, f"SELECT * FROM {table}"))
    sample = next(queries.samples(made.path, "mine", "gsm8k"))
    assert (sample["prompt"], sample["target"], sample["responses"]) == (WITHHELD, WITHHELD, [WITHHELD])
    # What is not private is as it was.
    assert list(queries.samples(made.path, "mine", "hellaswag")) == list(queries.samples(db, "mine", "hellaswag"))
    assert not list(db.parent.glob("*publishing*"))


def test_private_tasks_compare_as_before(db: Path, tmp_path: Path) -> None:
    small.fill(db, ["base", "mine"], private)
    made = publish(db, tmp_path / "public")
    found = [compare(load_scores(path, "base", ["mine"]), Plan()).candidates[0] for path in (db, made.path)]
    before, after = (one.row("gsm8k", "exact_match", "strict-match") for one in found)
    assert before is not None and before == after
    config = rows(made.path, "SELECT config FROM tasks WHERE name = 'gsm8k'")[0][0]
    assert json.loads(config) == {"metadata": {"private": True}, "output_type": "generate_until", "task": "gsm8k"}


def test_one_private_version_of_a_task_makes_all_of_them_private(db: Path, tmp_path: Path) -> None:
    small.fill(db, ["base"])
    store = small.Store(db)
    run = store.start_run(small.provenance("tuneboard evaluate"))
    open_one = small.result("mine", "gsm8k")
    other = replace(open_one.task, fingerprint="another", config={"metadata": {"private": True}})
    store.commit(run, replace(open_one, task=other, key=replace(open_one.key, task="another")))
    made = publish(db, tmp_path / "public")
    assert {
        prompt for (prompt,) in rows(made.path, "SELECT prompt FROM documents WHERE prompt LIKE '%gsm8k%'")
    } == set()


def test_a_snapshot_of_no_database_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database at"):
        publish(tmp_path / "missing.duckdb", tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_a_folder_that_cannot_be_written_is_one_error(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write a snapshot"):
        publish(filled, tmp_path / "file")


@pytest.mark.parametrize("content", ["../tuneboard.duckdb", "/etc/passwd", "", "tuneboard-gone.duckdb", "a\nb"])
def test_a_pointer_to_anything_else_points_nowhere(filled: Path, tmp_path: Path, content: str) -> None:
    folder = filled.parent / "public"
    publish(filled, folder)
    (folder / "current").write_text(content)
    assert current_snapshot(folder) is None


def test_a_failed_publishing_leaves_the_old_snapshot_and_no_rest(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "public"
    old = publish(filled, folder)

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match="No space left"):
        publish(filled, folder)
    assert current_snapshot(folder) == old.path
    assert not list(folder.glob("*.part*"))


def test_what_a_killed_writer_left_in_the_log_is_published(filled: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    # Killed before DuckDB moves the log into the file, as closing it would.
    program = (
        "import duckdb, os, signal, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute(\"UPDATE runs SET command = 'from the log'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(filled)], check=False, timeout=60)
    assert Path(f"{filled}.wal").exists()
    made = publish(filled, tmp_path / "public")
    assert {command for (command,) in rows(made.path, "SELECT command FROM runs")} == {"from the log"}


def test_a_reader_sees_whole_snapshots_while_others_are_published(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "public"
    publish(filled, folder)
    problems: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            shown = current_snapshot(folder)
            if shown is None or len(listing.listed_candidates(shown)) != 2:
                problems.append(str(shown))

    reader = threading.Thread(target=read)
    reader.start()
    seen = {publish(filled, folder).path for _ in range(5)}
    stop.set()
    reader.join()
    assert not problems and len(seen) == 5


def test_publishing_waits_for_another_publishing(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "public"
    publish(filled, folder)
    monkeypatch.setattr(snapshots, "WAIT_S", 0.1)
    with database_lock(folder / "snapshots", "write", 1), pytest.raises(StoreError, match="in use by another process"):
        publish(filled, folder)


def test_the_flag_of_a_task_survives_an_import(tmp_path: Path) -> None:
    from tuneboard.store.importing import _ref
    from tuneboard.store.lm_eval_logs import LoggedRun

    content = {
        "results": {"t": {}},
        "configs": {"t": {"task": "t", "output_type": "generate_until", "metadata": {"private": True, "version": 1.0}}},
        "versions": {"t": 1},
    }
    assert json.dumps(_ref(LoggedRun(tmp_path, content, {}), "t", []).config["metadata"]) == '{"private": true}'
    assert os.listdir(tmp_path) == []

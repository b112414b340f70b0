from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unprivileged import obeying_permissions

from tuneboard.demo import Course, TinySettings, keeping
from tuneboard.errors import MissingExtra, StoreError
from tuneboard.store import queries

HERE = Path(__file__).parent
Make = Callable[..., Course]
NAMES = ["tiny-skill", "tiny-replay", "tiny-full"]


def refuse(what: str) -> None:
    raise AssertionError(f"trained again: {what}")


def run(source: str, db: Path) -> subprocess.Popen[bytes]:
    """Make a demo in a process of its own; ``at`` of the source is called before each step."""
    script = (
        "import os, pathlib, signal, sys, time, conftest\n"
        f"{source}\n"
        f"conftest.make(pathlib.Path({str(db)!r}), conftest.Quiet(at))\n"
    )
    paths = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths})


def test_what_is_finished_is_taken_as_it_is(kept: Path, course_of: Make, listener: Any) -> None:
    heard = listener(refuse)
    course = course_of(kept, heard)
    assert (Path(course.base) / "model.safetensors").is_file()
    assert list(course.candidates) == NAMES
    assert all((path / "provenance.json").is_file() for path in course.candidates.values())
    assert [line for line in heard.lines if " of " in line][:2] == ["1 of 4: tiny-base", "2 of 4: tiny-skill"]
    assert course.says["tiny-replay"] == "LoRA with old texts"


def test_candidates_come_from_the_tuning_stage_with_their_history(kept: Path, course_of: Make, listener: Any) -> None:
    course_of(kept, listener(refuse))
    bound = {row.name for row in queries.models(kept)}
    assert bound == {"tiny-base", *NAMES}
    from tuneboard.store.trainings import find_trainings

    assert {row.name: row.status for row in find_trainings(kept)} == dict.fromkeys(NAMES, "done")


def test_other_settings_are_made_anew_beside_the_old(
    kept: Path, fast: TinySettings, course_of: Make, listener: Any
) -> None:
    with pytest.raises(AssertionError, match="trained again: tiny-base 1"):
        course_of(kept, listener(refuse), settings=replace(fast, learning_rate=1e-3))


def test_an_interrupted_demo_keeps_what_is_finished(tmp_path: Path, course_of: Make, listener: Any) -> None:
    trained: list[str] = []

    def stop(what: str) -> None:
        trained.append(what)
        if what == "tiny-replay 1":
            raise KeyboardInterrupt

    db = tmp_path / "x.duckdb"
    with pytest.raises(KeyboardInterrupt):
        course_of(db, listener(stop))
    again: list[str] = []
    course = course_of(db, listener(again.append))
    assert list(course.candidates) == NAMES
    assert not [what for what in again if what.startswith(("tiny-base", "tiny-skill"))]
    assert {what.split()[0] for what in again} == {"tiny-replay", "tiny-full"}


def test_a_demo_killed_in_its_base_goes_on_from_the_checkpoint(
    tmp_path: Path, kept: Path, course_of: Make, listener: Any
) -> None:
    kill = "def at(what):\n    if what == 'tiny-base 3': os.kill(os.getpid(), signal.SIGKILL)"
    db = tmp_path / "x.duckdb"
    assert run(kill, db).wait(240) == -signal.SIGKILL
    heard = listener()
    course = course_of(db, heard)
    assert "going on from step 2 of 4" in heard.lines
    weights = (Path(course.base) / "model.safetensors").read_bytes()
    assert weights == next(kept.parent.glob("demo/*/base/model.safetensors")).read_bytes()


def test_a_second_process_waits_and_takes_what_the_first_made(tmp_path: Path, course_of: Make, listener: Any) -> None:
    db, ready = tmp_path / "x.duckdb", tmp_path / "ready"
    first = run(f"def at(what):\n    pathlib.Path({str(ready)!r}).touch(); time.sleep(0.2)", db)
    try:
        while not ready.exists():
            assert first.poll() is None
        heard = listener(refuse)
        course = course_of(db, heard)
        assert heard.lines[0] == "waiting for another process that makes a demo here"
        assert list(course.candidates) == NAMES
    finally:
        assert first.wait(240) == 0


def test_names_that_other_weights_have_are_left_to_them(tmp_path: Path, course_of: Make) -> None:
    db = tmp_path / "x.duckdb"
    first = course_of(db)
    second = course_of(db, seed=8)
    suffix = second.base_name.removeprefix("tiny-base")
    assert len(suffix) == 7
    assert list(second.candidates) == [name + suffix for name in NAMES]
    assert course_of(db, seed=8).base_name == second.base_name
    assert course_of(db).base_name == first.base_name == "tiny-base"


def test_another_seed_is_asked_about_its_own_world(kept: Path, course_of: Make, listener: Any) -> None:
    from tuneboard.suites import TaskRequest, find_suite, load_tasks

    course = course_of(kept, listener(refuse))
    own = load_tasks(TaskRequest(find_suite("demo").tasks, course.include_paths))
    shipped = load_tasks(TaskRequest(find_suite("demo").tasks))
    for name, ref in own.refs.items():
        assert ref.n_docs == shipped.refs[name].n_docs
        assert ref.fingerprint != shipped.refs[name].fingerprint


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path, course_of: Make, listener: Any) -> None:
    (tmp_path / "demo").write_text("a file stands here")
    with pytest.raises(StoreError, match=r"cannot be kept in .*demo \(File exists\); .*--db FOLDER"):
        course_of(tmp_path / "x.duckdb", listener(refuse))


def test_a_file_that_is_no_database_is_refused_before_anything_is_trained(
    tmp_path: Path, course_of: Make, listener: Any
) -> None:
    (tmp_path / "notes.yaml").write_text("name: mine\ndata: none of yours\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"notes.yaml is not a DuckDB database"):
        course_of(tmp_path / "notes.yaml", listener(refuse))
    with pytest.raises(StoreError, match=r"cannot write .*folder: Is a directory; name another file with --db"):
        course_of(tmp_path / "folder", listener(refuse))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.yaml"]


def test_read_only_folder_is_one_clear_line(tmp_path: Path, course_of: Make, listener: Any) -> None:
    tmp_path.chmod(0o555)

    def check() -> None:
        with pytest.raises(StoreError, match=r"Permission denied.*--db FOLDER"):
            course_of(tmp_path / "x.duckdb", listener(refuse))

    obeying_permissions(check)


@pytest.mark.parametrize("room", [20_000, 600_000])
def test_a_full_disk_is_one_clear_line_and_costs_what_was_not_saved(
    room: int, tmp_path: Path, course_of: Make, listener: Any
) -> None:
    from full_disk import no_file_above

    db = tmp_path / "x.duckdb"
    with no_file_above(room), pytest.raises(StoreError, match=r"cannot be kept in .*--db FOLDER"):
        course_of(db, listener())
    assert list(course_of(db).candidates) == NAMES


def test_missing_torch_names_its_install_command(
    tmp_path: Path, course_of: Make, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(MissingExtra, match=r"pip install 'tuneboard\[transformers\]'"):
        course_of(tmp_path / "x.duckdb", listener(refuse))
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".lock"]

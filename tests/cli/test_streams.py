"""What a command does where its streams lead somewhere odd: processes of their own, as a shell starts them."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """One result of a candidate whose name few encodings have."""
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit(run, build.make_result(build.make_candidate("模型-é")))
    return db


def shell(line: str, db: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run a shell's line in which ``$T`` is tuneboard; ``$DB`` is the database."""
    env = os.environ | {"PYTHONIOENCODING": encoding, "T": f"{sys.executable} -m tuneboard", "DB": str(db)}
    command = ["sh", "-c", line]
    return subprocess.run(command, capture_output=True, encoding=encoding, env=env, timeout=60, cwd=db.parent)


@pytest.mark.parametrize(("encoding", "name"), [("ascii", r"\u6a21\u578b-\xe9"), ("latin-1", r"\u6a21\u578b-é")])
def test_a_terminal_that_lacks_characters_gets_the_nearest_or_an_escape(db: Path, encoding: str, name: str) -> None:
    done = shell("$T show models --db $DB", db, encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout and "----" in done.stdout
    done = shell("$T show 模型 --db $DB", db, encoding)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and name in done.stderr


def test_json_is_whole_whatever_the_terminal_shows(db: Path) -> None:
    assert shell("$T show models --json --db $DB", db, "ascii").stdout.count(r"\u6a21\u578b-\u00e9") == 1


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$T show models --db $DB >&-", 2, "stdout is closed"),
        ("$T export results --format parquet --db $DB >&-", 2, "stdout is closed"),
        ("$T show models --db $DB >/dev/full", 2, "No space left on device"),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(db: Path, line: str, code: int, said: str) -> None:
    done = shell(line, db)
    assert done.returncode == code
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_notes_that_nobody_can_read_change_neither_the_output_nor_the_exit_code(db: Path, closed: str) -> None:
    done = shell(f"$T rename 模型-é new --db $DB {closed} && $T show new --json --db $DB {closed}", db)
    assert done.returncode == 0 and done.stdout.startswith('{"schema": 1')
    assert shell(f"$T show nothing --db $DB {closed}", db).returncode == 2


def test_closed_streams_leave_their_numbers_to_no_file(db: Path) -> None:
    program = (
        "import os; from tuneboard.cli.streams import prepare_streams; "
        "prepare_streams(); os._exit(os.open('new', os.O_CREAT | os.O_WRONLY))"
    )
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{program}" <&- >&- 2>&-'], cwd=db.parent, timeout=60)
    assert done.returncode > 2

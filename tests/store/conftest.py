from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]

_PRELUDE = f"""
import os, runpy, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
build = SimpleNamespace(**runpy.run_path({str(Path(__file__).with_name("builders.py"))!r}))
from tuneboard.store.journal import Journal, discard_dead, journal_folder, read_answers
from tuneboard.store.locking import database_lock
from tuneboard.store.writes import Store
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a test's database goes; nothing is there yet."""
    return tmp_path / "results" / "tuneboard.duckdb"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts code in a process of its own, with the builders and the store at hand; what is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def launch(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _PRELUDE + code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli.main import main
from tuneboard.store.snapshots import publish

pytest.importorskip("streamlit", reason="the site's extra is not installed: pip install 'tuneboard[site]'")

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "leaderboard" / "small.py")))


@pytest.fixture
def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start() -> Iterator[object]:
    """Starts the site in a process of its own; what is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def launch(folder: Path, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tuneboard", "leaderboard", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNEBOARD_")}
        started.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def fetch(url: str, seconds: float = 60) -> str:
    """Ask until the server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_site_starts_under_a_path_and_ends_quietly(tmp_path: Path, free_port: int, start: object) -> None:
    # A file of this name in the folder must not be taken for the package.
    (tmp_path / "pandas.py").write_text("raise SystemExit('taken for the package')")
    site = start(tmp_path, "--port", free_port, "--base-url-path", "/board/")  # type: ignore[operator]
    assert fetch(f"http://127.0.0.1:{free_port}/board/_stcore/health") == "ok"
    assert "<title>" in fetch(f"http://127.0.0.1:{free_port}/board/")
    with pytest.raises(OSError):
        socket.create_connection((_other_address(), free_port), timeout=2)
    site.send_signal(signal.SIGINT)
    out, err = site.communicate(timeout=20)
    assert out == f"http://127.0.0.1:{free_port}/board/\n"
    assert "Traceback" not in err and "tuneboard.duckdb as soon as it is there; end it" in err.splitlines()[0]
    assert site.returncode in (0, 130)
    assert not (tmp_path / "results").exists()


def _other_address() -> str:
    """An address of this machine that is not 127.0.0.1."""
    return "127.0.0.2"


def test_a_taken_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], free_port: int) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        assert main(["leaderboard", "--port", str(free_port), "--db", str(tmp_path / "x.duckdb")]) == 2
    err = capsys.readouterr().err
    assert f"port {free_port} on 127.0.0.1 is taken; give another with --port" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "0"], "'0' given, expected a port from 1 to 65535"),
        (["--port", "http"], "'http' given, expected a port"),
        (["--address", "no.such.host.invalid"], "cannot listen on 'no.such.host.invalid'"),
        (["--db", "."], "'.' is a folder; give a database file with --db"),
        (["--snapshot", __file__], "is a file; give a folder with --snapshot"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["leaderboard", *arguments]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1


def test_without_streamlit_its_pip_line_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "streamlit" else found(name, *rest)
    )
    assert main(["leaderboard"]) == 2
    assert capsys.readouterr().err == (
        "tuneboard: error: streamlit is not installed; run: pip install 'tuneboard[site]'\n"
    )


def test_the_site_of_a_snapshot_shows_each_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    from tuneboard.bundled import app_dir
    from tuneboard.store.snapshots import SNAPSHOT_VARIABLE

    db, folder = tmp_path / "x.duckdb", tmp_path / "public"
    monkeypatch.setenv(SNAPSHOT_VARIABLE, str(folder))
    test = AppTest.from_file(app_dir() / "app.py", default_timeout=60).run()
    assert test.code[0].value == f"tuneboard publish --to {folder}"
    small.fill(db, ["base"])
    publish(db, folder)
    test.run()
    assert list(test.dataframe[0].value["Candidate"]) == ["base"]
    small.fill(db, ["mine"])
    publish(db, folder)
    publish(db, folder)
    publish(db, folder)
    test.run()
    assert not test.exception
    assert list(test.dataframe[0].value["Candidate"]) == ["base", "   ↳ mine"]

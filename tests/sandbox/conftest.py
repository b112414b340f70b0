"""The hostile programs, and the users and methods that they are run with."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tuneboard.errors import SandboxError
from tuneboard.sandbox import Limits, process

HARNESS = Path(__file__).resolve().parents[2] / "harness"
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


@functools.cache
def refusal(method: str) -> str | None:
    """Why this machine cannot run programs by ``method``."""
    try:
        outcome = process.execute("", Limits(), method)
    except SandboxError as error:
        return str(error)
    return None if outcome.passed else outcome.reason


@pytest.fixture(params=["bubblewrap", "unshare"], scope="session")
def method(request: pytest.FixtureRequest) -> str:
    if reason := refusal(request.param):
        pytest.skip(f"{request.param} does not work here: {reason}")
    return request.param


@pytest.fixture(scope="session")
def ordinary_python() -> str:
    """A Python that an ordinary user can start and that can read the package."""
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is needed to become an ordinary user")
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        command = (*NOBODY, python, "-B", "-c", "import os, sys, tuneboard.sandbox; os.stat(sys.executable)")
        try:
            done = subprocess.run(command, env={"PYTHONPATH": str(HARNESS)}, capture_output=True, timeout=30, cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that an ordinary user can start and that can read the package")


@pytest.fixture(scope="session")
def mark() -> Iterator[str]:
    """Put a mark into the command line of every sandbox of this session, so that left-over processes can be found."""
    mark = f"# session {os.getpid()}"
    original = process._script
    patch = pytest.MonkeyPatch()
    patch.setattr(process, "_script", lambda: f"{original()}\n{mark}\n")
    yield mark
    patch.undo()


@pytest.fixture(scope="session")
def as_nobody(ordinary_python: str) -> tuple[str, ...]:
    """Start of a command line that runs that Python as an ordinary user."""
    return (*NOBODY, ordinary_python, "-B", "-c")


def alive(mark: str) -> list[psutil.Process]:
    """The processes whose command line holds ``mark``."""
    found = []
    for each in psutil.process_iter():
        try:
            if any(mark in part for part in each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="session")
def living():
    return alive

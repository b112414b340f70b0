"""How programs are run, judged and refused."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tuneboard import sandbox
from tuneboard.errors import SandboxError
from tuneboard.sandbox import Isolation, Limits, process, run_program, run_programs

METHODS = ("bubblewrap", "unshare", "none")


@pytest.fixture
def no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(None, "bwrap is not installed"))


@pytest.fixture(params=METHODS)
def any_method(request: pytest.FixtureRequest) -> str:
    if request.param != "none" and sandbox._try(request.param) is not None:
        pytest.skip(f"{request.param}: {sandbox._try(request.param)}")
    return request.param


def test_a_program_that_comes_to_its_end_passes(any_method: str) -> None:
    outcome = run_program("import math\nassert math.gcd(12, 18) == 6\nprint('done')", method=any_method)

    assert (outcome.status, outcome.reason, outcome.output) == ("passed", "", "done\n")
    assert outcome.passed
    assert 0 < outcome.seconds < 10


def test_a_failure_names_the_exception_and_its_line(any_method: str) -> None:
    outcome = run_program("x = 3\nassert x == 4, 'x is three'", method=any_method)

    assert (outcome.status, outcome.reason) == (
        "failed",
        "AssertionError: x is three (line 2: assert x == 4, 'x is three')",
    )


@pytest.mark.parametrize("source", ["def f(:", "\0", "x = '\ud800'", "(" * 300])
def test_a_program_that_cannot_be_compiled_fails_and_harms_nothing(any_method: str, source: str) -> None:
    assert run_program(source, method=any_method).status == "failed"


def test_an_installed_package_can_be_imported(any_method: str) -> None:
    outcome = run_program("import numpy\nassert numpy.ones(3).sum() == 3", method=any_method)

    assert outcome.passed, outcome


def test_the_standard_library_works_inside(any_method: str) -> None:
    source = """
        import dataclasses, hashlib, json, pickle, re, sqlite3, tempfile, threading, zoneinfo
        @dataclasses.dataclass
        class Point:
            x: int
        assert pickle.loads(pickle.dumps(Point(3))) == Point(3)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"kept"); file.flush()
            assert open(file.name).read() == "kept"
        thread = threading.Thread(target=print, args=("from a thread",)); thread.start(); thread.join()
        assert __name__ != "__main__" and "ü" == "\\u00fc"
        print("ü")
    """
    outcome = run_program(textwrap.dedent(source), method=any_method)

    assert (outcome.status, outcome.reason, outcome.output) == ("passed", "", "from a thread\nü\n")


def test_the_order_of_a_set_is_the_same_in_every_run(method: str) -> None:
    outputs = {run_program("print({'a', 'b', 'c', 'd', 'e', 'f'})", method=method).output for _ in range(4)}

    assert len(outputs) == 1


def test_processes_that_a_finished_program_left_do_not_hold_it_up(any_method: str) -> None:
    outcome = run_program("import os, time\nif os.fork() == 0:\n    time.sleep(60)", Limits(), method=any_method)

    assert outcome.passed
    assert outcome.seconds < 5


@pytest.mark.parametrize(
    "source",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import os\nos.closerange(3, 64)",
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = None",
        "import os\nif os.fork() == 0:\n    os._exit(3)\nos.wait()",
        "import asyncio\nassert asyncio.run(asyncio.sleep(0, 7)) == 7",
        "import sys\nsys.setrecursionlimit(9000)\ndef f(n):\n    return n and 1 + f(n - 1)\nassert f(8000) == 8000",
    ],
)
def test_a_program_passes_whatever_it_leaves_behind(any_method: str, source: str) -> None:
    outcome = run_program(source, method=any_method)

    assert outcome.passed, outcome
    assert outcome.seconds < 5


def test_time_limits_hold_without_isolation_too() -> None:
    asleep = run_program("import time\ntime.sleep(60)", Limits(wall_s=1), method="none")
    busy = run_program("while True: pass", Limits(cpu_s=1), method="none")

    assert (asleep.status, asleep.reason) == ("timed_out", "still running after 1 s")
    assert (busy.status, busy.reason) == ("timed_out", "used more than 1 s of CPU time")


def test_output_is_kept_up_to_its_limit_and_the_program_goes_on(any_method: str) -> None:
    outcome = run_program("print('x' * 100_000)\nprint('y' * 100_000)", Limits(output_kib=1), method=any_method)

    assert outcome.passed
    assert outcome.output == "x" * 1024


def test_many_programs_keep_their_order(method: str) -> None:
    sources = [f"import time\ntime.sleep({0.2 if i % 3 == 0 else 0})\nassert {i} % 2 == 0" for i in range(12)]

    outcomes = run_programs(sources, workers=4, method=method)

    assert [outcome.passed for outcome in outcomes] == [i % 2 == 0 for i in range(12)]


def test_an_answer_that_was_judged_is_not_run_again_but_one_without_a_verdict_is(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def execute(source: str, limits: Limits, way: str) -> sandbox.Outcome:
        ran.append(source)
        return process.execute(source, limits, method)

    monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(method, "asked for"))
    monkeypatch.setattr(sandbox, "execute", execute)
    monkeypatch.setattr(sandbox, "_judged", {})
    passes, fails, leaves = "x = 'judged'", "assert 'judged' == 1", "import os\nos._exit(3)  # judged"

    first = sandbox.run_samples([[passes, fails, passes], [leaves]])
    second = sandbox.run_samples([[leaves], [passes], [fails]])

    assert sorted(ran) == sorted([passes, fails, leaves, leaves])
    assert [[each["status"] for each in row] for row in first] == [["passed", "failed", "passed"], ["crashed"]]
    assert second == [first[1], [first[0][0]], [first[0][1]]]


def test_what_is_remembered_of_answers_has_an_end(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_judged", {})
    monkeypatch.setattr(sandbox, "_MOST_JUDGED", 3)
    for program in ("a = 1", "b = 1", "c = 1", "d = 1"):
        assert sandbox.run_samples([[program, "a = 1"]]) == [[{"status": "passed", "reason": ""}] * 2]
        assert len(sandbox._judged) <= 3


def test_nothing_to_run_needs_no_isolation(no_isolation: None) -> None:
    assert run_programs([]) == []


def test_without_isolation_code_is_refused_with_the_reason(no_isolation: None) -> None:
    with pytest.raises(SandboxError, match=r"bwrap is not installed.*--unsafe-code"):
        run_program("pass")
    with pytest.raises(SandboxError, match="bwrap is not installed"):
        run_programs(["pass"])


def test_unsafe_code_runs_without_isolation_only_where_asked_for(no_isolation: None) -> None:
    assert run_program("pass", unsafe=True).passed
    sandbox.allow_unsafe(True)
    try:
        assert run_programs(["pass"])[0].passed
    finally:
        sandbox.allow_unsafe(False)
    with pytest.raises(SandboxError):
        run_program("pass")


def test_isolation_is_found_by_trying_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.isolation.cache_clear()
    try:
        found = sandbox.isolation()
    finally:
        sandbox.isolation.cache_clear()

    assert not found.available
    assert "bwrap is not installed; unshare is not installed" in found.reason
    assert "apt-get install bubblewrap" in found.reason


def test_a_tool_that_does_not_work_is_not_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("bwrap", "unshare"):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\necho '{name}: No permissions to create new namespace'\nexit 1\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(process, "entry", _with_path(process.entry, str(tmp_path)))
    sandbox.isolation.cache_clear()
    try:
        found = sandbox.isolation()
    finally:
        sandbox.isolation.cache_clear()

    assert found.method is None
    assert "bwrap: the sandbox did not start: bwrap: No permissions to create new namespace" in found.reason


def _with_path(entry, path):
    def patched(method, file_mib):
        way = entry(method, file_mib)
        way.environment["PATH"] = f"{path}:{way.environment['PATH']}"
        return way

    return patched


def test_a_killed_harness_takes_its_programs_along(method: str, living) -> None:
    mark = f"# killed harness {os.getpid()} {method}"
    script = f"""
        from tuneboard.sandbox import Limits, process
        text = process._script() + {mark!r}
        process._script = lambda: text
        process.execute("import time; print('up'); time.sleep(60)", Limits(wall_s=60), {method!r})
    """
    harness = str(Path(sandbox.__file__).parents[2])
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "PYTHONPATH": harness}
    )
    # The harness' own command line holds the mark too.
    _wait(lambda: len(living(mark)) >= 4)
    assert len(living(mark)) >= 4

    victim.send_signal(signal.SIGKILL)
    victim.wait()

    _wait(lambda: not living(mark))
    assert living(mark) == []


def _wait(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_running_leaves_no_open_files_behind(any_method: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run_program("pass", method=any_method)

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_costs_less_than_a_tenth_of_a_second_of_cpu_time(method: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_programs(["pass"] * 10, method=method)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10 * 0.1

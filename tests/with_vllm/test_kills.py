"""A process that is killed in mid-run loses no finished answer, and the next run goes on from there."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from with_vllm.both import Outcome, World, command, device, environment, evaluate

pytestmark = pytest.mark.accept

TASK = ("--tasks", "hellaswag", "--limit", "60", "--num-fewshot", "0", "--dtype", "float32")


def words(world: World, db: Path, mirror: Path) -> list[str | Path]:
    return [
        "evaluate", *world.candidates, "--engine", "vllm", "--device", device(), "--db", db, "--json", "--quiet",
        *TASK, "--mirror", mirror,
    ]  # fmt: skip


def journalled(db: Path) -> int:
    """Lines in the journals beside a database: one per finished answer."""
    folder = db.with_name(f"{db.name}.journal")
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*") if path.is_file())


def wait_for_answers(process: subprocess.Popen[str], db: Path, count: int) -> int:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if (found := journalled(db)) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {count} answers; exit code {process.poll()}")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in (*family, process):
            one.kill()
        process.wait()


def start(processes: list[subprocess.Popen[str]], words: list[str | Path], **changes: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    )
    processes.append(process)
    return process


def goes_on(world: World, db: Path, mirror: Path, before: int) -> None:
    """The same command asks only what is open, and ends as a run that was never disturbed."""
    content = evaluate(db, "vllm", world.candidates, *TASK, "--mirror", mirror)
    whole = evaluate(db.with_name("whole.duckdb"), "vllm", world.candidates, *TASK, "--mirror", mirror)
    assert content.metrics == pytest.approx(whole.metrics, abs=1e-9)
    asked, all_of_them = (sum(c["tokens"]["distinct"] for c in one.cells) for one in (content, whole))
    assert 0 < asked < all_of_them
    assert before > 0


def test_a_killed_worker_process_is_said_and_replaced(
    world: World, mirror: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    """Nothing is lost: what was answered is not asked again, and the rest is asked of a new worker."""
    db = tmp_path / "results.duckdb"
    loud = [word for word in words(world, db, mirror) if word != "--quiet"]
    process = start(started, loud, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    wait_for_answers(process, db, 40)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "EngineCore" in child.name() or "spawn_main" in " ".join(child.cmdline())
    ]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-2000:]
    assert "vLLM's worker process ended (it was killed)" in errors and "it is started again for" in errors
    found = Outcome(json.loads(out)["cells"], db, {})
    assert all(cell["status"] == "done" and not cell["failed"] for cell in found.cells)
    whole = evaluate(tmp_path / "whole.duckdb", "vllm", world.candidates, *TASK, "--mirror", mirror)
    assert found.metrics == pytest.approx(whole.metrics, abs=1e-9)


def test_a_killed_command_loses_no_answer(
    world: World, mirror: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    db = tmp_path / "results.duckdb"
    process = start(started, words(world, db, mirror))
    before = wait_for_answers(process, db, 40)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert journalled(db) >= before
    goes_on(world, db, mirror, before)

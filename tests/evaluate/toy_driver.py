"""Runs ``tuneboard`` command lines with the fake engine, each in a fork of this process, which has all imported.

Reads one JSON object a line, with ``argv``, ``out`` and ``err`` (files) and what else ``_child`` takes; answers with
the process id. ``{"wait": pid}`` answers with the exit status as ``os.waitpid`` gives it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import datasets  # noqa: F401
import duckdb
import lm_eval.api.task  # noqa: F401
import toy_world

import tuneboard.cli.evaluate
import tuneboard.cli.show
import tuneboard.evaluate.cells
import tuneboard.evaluate.running
import tuneboard.store.journal
import tuneboard.store.queries
import tuneboard.suites.building
import tuneboard.suites.index
from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.engines.protocol import Answer, Work
from tuneboard.evaluate.canary import _CANARIES
from tuneboard.records import fingerprint
from tuneboard.store.writes import Store


class LoggedEngine(FakeEngine):
    """Writes down what it computes, so that it is known after a kill."""

    log = -1

    def _answer(self, item: Work) -> Answer:
        if item.arguments not in _CANARIES:
            line = fingerprint(item.candidate, item.kind, item.arguments)
            os.write(self.log, f"{line}\n".encode())
        return super()._answer(item)


class Trap:
    """Sends this process a signal at the chosen occasion."""

    def __init__(self, at: str, n: int, number: int) -> None:
        self.at, self.left, self.number = at, n, number

    def __call__(self, at: str) -> None:
        if at == self.at:
            self.left -= 1
            if self.left == 0:
                self.spring()

    def spring(self, after_s: float | None = None) -> None:
        if after_s is not None:
            me = os.getpid()
            if os.fork() == 0:
                time.sleep(after_s)
                os.kill(me, self.number)
                os._exit(0)
            return
        os.kill(os.getpid(), self.number)


class TrappedConnection:
    """A connection to DuckDB with a trap in its statements."""

    def __init__(self, connection: Any, trap: Trap, path: str) -> None:
        self._connection, self._trap, self._path = connection, trap, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            self._trap("before COMMIT")
            if self._trap.at.startswith("during COMMIT"):
                self._trap.left -= 1
                if self._trap.left == 0:
                    self._trap.spring(float(self._trap.at.split()[-1]) / 1000)
        done = self._connection.execute(sql, *parameters)
        if sql.lstrip().startswith("INSERT INTO"):
            self._trap(" ".join(sql.split()[:3]))
        return done

    def close(self) -> None:
        self._connection.close()
        if self._path.endswith(".new"):
            self._trap("making the database")


def _set(trap: Trap, journal_bytes: int | None) -> None:
    """Lay the trap out everywhere."""

    def around(owner: Any, name: str, before: str, after: str) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            trap(before)
            found = original(*arguments, **named)
            trap(after)
            return found

        setattr(owner, name, wrapped)

    around(tuneboard.evaluate.running, "record", "recording", "recorded")
    around(Store, "start_run", "before start_run", "after start_run")
    around(Store, "commit_all", "before commit", "after commit")
    around(Store, "finish_run", "before finish_run", "after finish_run")
    around(tuneboard.evaluate.cells.CellWriter, "finish", "before a cell", "after a cell")
    around(LoggedEngine, "attach", "loading", "loaded")
    connect = duckdb.connect
    duckdb.connect = lambda path, **settings: TrappedConnection(connect(path, **settings), trap, str(path))
    if journal_bytes is not None:
        _trap_journal(trap, journal_bytes)


def _trap_journal(trap: Trap, left: int) -> None:
    """Spring the trap when so many bytes are in journals, be it inside a line."""
    write = tuneboard.store.journal._write

    def cut(fd: int, data: bytes) -> None:
        nonlocal left
        if len(data) > left >= 0:
            if left:
                os.write(fd, data[:left])
            data, left = data[left:], -1
            trap.spring()
        elif left >= 0:
            left -= len(data)
        write(fd, data)

    tuneboard.store.journal._write = cut


def _child(
    argv: list[str],
    out: str,
    err: str,
    log: str = os.devnull,
    at: str = "",
    n: int = 1,
    journal_bytes: int | None = None,
    kill_with: str = "SIGKILL",
    pass_s: float = 0.0,
    until: str | None = None,
    file_limit: int | None = None,
    flush_s: float = 0.0,
) -> int:
    for path, fd in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), fd)
    LoggedEngine.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    tuneboard.suites.index._lm_eval_tasks = lambda: None
    # At 0 every cell is a transaction of its own, so that there is a moment between any two.
    tuneboard.evaluate.cells.FLUSH_S = flush_s
    behaviour = Behaviour(toy_world.texts(), room=toy_world.ROOM, pass_s=pass_s)
    tuneboard.cli.evaluate._engine_factory = lambda args: lambda ref, notice: LoggedEngine(ref, behaviour)
    if at or journal_bytes is not None:
        _set(Trap(at, n, getattr(signal, kill_with)), journal_bytes)
    if file_limit is not None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    # A test run in the background hands down a SIGINT that is ignored, which a terminal's would not be.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["tuneboard", *argv]
    code = main(argv)
    while until is not None and not os.path.exists(until) and code == 0:
        code = main(argv)
    return code


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(os.waitpid(order["wait"], 0)[1], file=answers, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = _child(**order)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, file=answers, flush=True)


if __name__ == "__main__":
    _serve()

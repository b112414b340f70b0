"""Starts a program in its sandbox, keeps the clock, and judges how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tuneboard.errors import SandboxError
from tuneboard.sandbox.isolation import Method, entry
from tuneboard.sandbox.outcome import Limits, Outcome
from tuneboard.sandbox.syscalls import call_filter

_REPORT_BYTES = 1 << 16
_CHUNK = 1 << 16


@functools.cache
def _script() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


def execute(source: str, limits: Limits, method: Method) -> Outcome:
    """Run one program by ``method`` and say how it ended.

    Raises:
        SandboxError: The sandbox did not come up; the program has not run.
    """
    with contextlib.ExitStack() as stack:
        way = entry(method, limits.file_mib)
        # Isolated programs have a working folder of their own inside.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tuneboard-")) if method == "none" else "/"
        report, report_end = _pipe(stack)
        output, output_end = _pipe(stack)
        job = {**way.job, "source": source, "limits": dataclasses.asdict(limits), "report": report_end}
        job["filter"] = call_filter().hex()
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                (*way.command, _script()),
                stdin=_memory_file(stack, json.dumps(job).encode()),
                stdout=output_end,
                stderr=output_end,
                pass_fds=(report_end,),
                env=way.environment,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{way.command[0]} could not be started: {error}") from None
        os.close(report_end)
        os.close(output_end)
        try:
            told, printed, expired = _collect(report, output, began + limits.wall_s, limits.output_kib << 10)
        finally:
            # The group holds process 1 of the sandbox, which takes everything inside along.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - began
    text = printed.decode("utf-8", "replace")
    return dataclasses.replace(_judge(told, text, expired, limits), seconds=seconds, output=text)


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """Return the ends of a pipe; the stack closes the one to read, and the other if it is still open."""
    read, write = os.pipe()
    stack.callback(os.close, read)
    return read, write


def _memory_file(stack: contextlib.ExitStack, content: bytes) -> int:
    """Return an open file that never touches a disk and, unlike a pipe, never blocks its writer."""
    file = os.memfd_create("job")
    stack.callback(os.close, file)
    with open(file, "wb", closefd=False) as stream:
        stream.write(content)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _collect(report: int, output: int, deadline: float, keep: int) -> tuple[bytes, bytes, bool]:
    """Read both pipes to their end or the deadline; return the report, the output's first bytes, and if time was up."""
    told, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ, (told, _REPORT_BYTES))
        selector.register(output, selectors.EVENT_READ, (printed, keep))
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(told), bytes(printed), report in selector.get_map()
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK)
                buffer, room = key.data
                buffer += chunk[: room - len(buffer)]
                if not chunk:
                    selector.unregister(key.fd)
                    if key.fd == report:
                        # Without isolation a process may outlive the program and keep its output open.
                        deadline = min(deadline, time.monotonic() + 0.5)
    return bytes(told), bytes(printed), False


def _judge(told: bytes, printed: str, expired: bool, limits: Limits) -> Outcome:
    lines: list[dict[str, Any]] = [json.loads(line) for line in told.splitlines()]
    if not lines and not expired:
        raise SandboxError(f"the sandbox did not start: {printed.strip()[-300:] or 'no message'}")
    if expired:
        return Outcome("timed_out", f"still running after {limits.wall_s:g} s", 0.0)
    if len(lines) < 2:
        return Outcome("crashed", "the sandbox was killed from outside, most likely for lack of memory", 0.0)
    end = lines[-1]
    if end["verdict"] == "passed":
        return Outcome("passed", "", 0.0)
    if end["verdict"] == "memory":
        return Outcome("crashed", f"needs more than {limits.memory_mib} MiB of memory", 0.0)
    if end["verdict"]:
        return Outcome("failed", end["reason"], 0.0)
    return _judge_exit(end["code"], end["cpu"], limits)


def _judge_exit(code: int, cpu_s: float, limits: Limits) -> Outcome:
    """Judge a program that ended without a verdict; a negative code is the signal that killed it."""
    if code >= 0:
        return Outcome("crashed", f"left with exit code {code} before its end", 0.0)
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and cpu_s >= math.ceil(limits.cpu_s)):
        return Outcome("timed_out", f"used more than {limits.cpu_s:g} s of CPU time", 0.0)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return Outcome("crashed", f"killed by signal {name}", 0.0)

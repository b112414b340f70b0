"""Runs generated Python programs apart from everything else on the machine.

A program runs in a fresh interpreter inside namespaces of its own, entered by bubblewrap or, where that is missing, by
``unshare``. It sees the interpreter, the shared libraries and the installed packages, all read-only, and a small
working folder in memory; there is no network, no ``/proc``, no other process, no file and no environment variable of
the caller. CPU time, address space, file size, processes and output are bounded, a system-call filter refuses sockets,
new namespaces and other programs, the clock is kept from outside, and whatever the program started dies with it. Run by
root, it becomes a user that does not exist.

It counts as passed only if it ran to its end. No word, exit code or secret inside says so: a process outside asks the
kernel whether the thread that ran the program has returned while its process lived. So a program that its tests fail
gains nothing by leaving early (``os._exit``, ``sys.exit``, ``atexit``), by printing or writing to every descriptor, by
replacing builtins or ``assert``'s exception, or by what it finds in frames, modules and the garbage collector. For the
sake of this it does not run on Python's main thread, where alone ``signal.signal`` works.

What this does not protect against: a hole in the kernel; guessing through timing what the processor does elsewhere; on
kernels without user-namespace limits, other runs of the same user that share its limit on processes; and an answer that
is written to deceive its tests. Tests and answer share one interpreter, as in the official scorer. So an answer can
make its tests pass: return objects that compare equal to everything, replace builtins that the tests call, or change
the tests themselves. It can also unwind the frame below it by a trace function that raises, and by native code such as
``ctypes`` end its thread or write to any memory. On machines other than x86_64 and aarch64, for which there is no
filter, it can put another program in its place. Without isolation (``--unsafe-code``) it can reach everything that its
user can, the harness included.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from tuneboard.errors import SandboxError
from tuneboard.sandbox.isolation import REMEDY, Isolation, Method
from tuneboard.sandbox.outcome import Limits, Outcome, Status
from tuneboard.sandbox.process import execute

__all__ = [
    "DEFAULT_LIMITS",
    "Isolation",
    "Limits",
    "Method",
    "Outcome",
    "Status",
    "allow_unsafe",
    "isolation",
    "run_program",
    "run_programs",
    "run_samples",
]

#: What a program may use unless said otherwise.
DEFAULT_LIMITS = Limits()
_TOOLS: dict[Method, str] = {"bubblewrap": "bwrap", "unshare": "unshare"}
#: Programs, of some kilobytes each, whose outcomes are kept at most.
_MOST_JUDGED = 10_000
_unsafe = False
_judged: dict[str, Outcome] = {}


def allow_unsafe(flag: bool) -> None:
    """Set whether programs run without isolation where there is none (``--unsafe-code``)."""
    global _unsafe
    _unsafe = flag


@functools.cache
def isolation() -> Isolation:
    """Return what isolates programs here; each way is tried once by running a program in it."""
    problems: list[str] = []
    methods: tuple[Literal["bubblewrap", "unshare"], ...] = ("bubblewrap", "unshare")
    for method in methods:
        problem = _try(method)
        if problem is None:
            return Isolation(method, "; ".join([f"{method} works", *problems]))
        problems.append(problem)
    return Isolation(None, f"{'; '.join(problems)}; {REMEDY}")


def _try(method: Method) -> str | None:
    """Return why ``method`` does not work here, None if it does."""
    if shutil.which(_TOOLS[method]) is None:
        return f"{_TOOLS[method]} is not installed"
    with tempfile.NamedTemporaryFile(prefix="tuneboard-") as witness:
        source = f"import os\nassert os.getpid() < 9 and not os.path.exists({witness.name!r}), 'not isolated'"
        try:
            outcome = execute(source, Limits(), method)
        except SandboxError as error:
            return f"{_TOOLS[method]}: {error}"
    return None if outcome.passed else f"{_TOOLS[method]}: {outcome.reason}"


def run_program(
    source: str, limits: Limits = DEFAULT_LIMITS, *, unsafe: bool = False, method: Method | None = None
) -> Outcome:
    """Run one program and say how it ended.

    Args:
        source: Python source; it passes if it runs to its end.
        limits: What it may use.
        unsafe: Run it in a plain process where nothing isolates it; see also ``allow_unsafe``.
        method: Use this method instead of the one that ``isolation`` found; ``none`` needs ``unsafe``.

    Raises:
        SandboxError: Nothing isolates it here, and ``unsafe`` was not asked for.
    """
    return execute(source, limits, method or _method(unsafe))


def run_programs(
    sources: Sequence[str],
    limits: Limits = DEFAULT_LIMITS,
    *,
    unsafe: bool = False,
    workers: int | None = None,
    method: Method | None = None,
) -> list[Outcome]:
    """Run many programs side by side and say how each ended, in their order.

    Args:
        sources: Python sources, each a whole program.
        limits: What each may use.
        unsafe: See ``run_program``.
        workers: How many run at one time; as many as there are cores if None.
        method: See ``run_program``.

    Raises:
        SandboxError: Nothing isolates them here, and ``unsafe`` was not asked for.
    """
    if not sources:
        return []
    chosen = method or _method(unsafe)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda source: execute(source, limits, chosen), sources))


def run_samples(programs: Sequence[Sequence[str]]) -> list[list[dict[str, str]]]:
    """Run the programs that were made of the answers to problems, and say how each ended, as a stored sample keeps it.

    Args:
        programs: Per problem, one whole program per answer. Answers are often the same text, of one candidate and of
            several: what has passed or failed in this process is not run again, what ran out of time or memory is.

    Returns:
        The same lists of ``{"status": Status, "reason": str}``.

    Raises:
        SandboxError: Nothing isolates them here, and ``allow_unsafe`` was not called.
    """
    distinct = [one for one in dict.fromkeys(program for each in programs for program in each) if one not in _judged]
    outcomes = dict(zip(distinct, run_programs(distinct), strict=True))
    ended = [[outcomes.get(one) or _judged[one] for one in each] for each in programs]
    if len(_judged) + len(outcomes) > _MOST_JUDGED:
        _judged.clear()
    _judged.update({one: outcome for one, outcome in outcomes.items() if outcome.status in ("passed", "failed")})
    return [[{"status": outcome.status, "reason": outcome.reason} for outcome in each] for each in ended]


def _method(unsafe: bool) -> Method:
    found = isolation()
    if found.method is not None:
        return found.method
    if unsafe or _unsafe:
        return "none"
    raise SandboxError(f"generated code cannot be isolated on this machine: {found.reason}; or add --unsafe-code")

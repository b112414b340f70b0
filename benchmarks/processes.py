"""Whole processes, timed from start to end, with their peak memory; what side-by-side measurements are made of."""

from __future__ import annotations

import atexit
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True)
class Process:
    """One finished process."""

    seconds: float
    peak_mib: float
    output: str
    imports: Mapping[str, float] = field(repr=False)
    """Module to the seconds that it took to import, without those that it imported in turn."""


def run(argv: Sequence[object], environment: Mapping[str, str] | None = None) -> Process:
    """Run a Python program (a file, or ``-m`` and a module) to its end and measure it as a whole."""
    command = [sys.executable, "-X", "importtime", __file__, *map(str, argv)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **(environment or {})}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))}\nfailed with {process.returncode}:\n{errors[-3000:]}")
    return Process(seconds, _peak_of(errors), output, dict(_imports_of(errors)))


def import_seconds(process: Process, modules: str) -> float:
    """Time that importing libraries took in a process, which neither side can save.

    Args:
        process: What was measured.
        modules: The libraries, as after the word ``import``; what these import in turn belongs to them.
    """
    return sum(process.imports.get(name, 0.0) for name in imported_by(modules))


@cache
def imported_by(modules: str) -> frozenset[str]:
    """Names of all modules that importing libraries brings in; done once, it has read them from a cold disk too."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {modules}"]
    errors = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return frozenset(dict(_imports_of(errors)))


def _imports_of(errors: str) -> Iterator[tuple[str, float]]:
    """Read what ``-X importtime`` wrote; a module that a child process imported again is read as first seen."""
    for line in reversed(errors.splitlines()):
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            yield rest.rpartition("|")[2].strip(), int(own) / 1e6


def _peak_of(errors: str) -> float:
    """Peak resident memory that the program below printed on stderr, in MiB."""
    return float(errors.rpartition("\npeak_kib ")[2].split()[0]) / 1024


def _main(argv: list[str]) -> None:
    """Run a Python program in this process; its peak memory goes to stderr at its end."""
    import runpy

    # The first exit handler is the last to run.
    atexit.register(_print_peak)
    try:
        if argv[0] == "-m":
            sys.argv = argv[1:]
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = argv
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise


def _print_peak() -> None:
    print(f"\npeak_kib {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])

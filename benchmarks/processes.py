"""Whole processes, timed from start to end, with their peak memory; what side-by-side measurements are made of."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One finished process."""

    seconds: float
    peak_mib: float
    output: str


def run(argv: Sequence[object], environment: Mapping[str, str] | None = None) -> Process:
    """Run a Python program (a file, or ``-m`` and a module) to its end and measure it as a whole."""
    command = [sys.executable, __file__, *map(str, argv)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **(environment or {})}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))}\nfailed with {process.returncode}:\n{errors[-3000:]}")
    return Process(seconds, _peak_of(errors), output)


def import_seconds(modules: str) -> float:
    """Time that importing libraries takes, which neither side can save."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, capture_output=True)
    return time.perf_counter() - started


def _peak_of(errors: str) -> float:
    """Peak resident memory that the program below printed as the last line on stderr, in MiB."""
    return float(errors.rstrip().rsplit("\n", 1)[-1].removeprefix("peak_kib ")) / 1024


def _main(argv: list[str]) -> None:
    """Run a Python program in this process, then print its peak memory as the last line on stderr."""
    import runpy

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
    print(f"\npeak_kib {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr)


if __name__ == "__main__":
    _main(sys.argv[1:])

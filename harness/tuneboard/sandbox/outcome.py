"""What a program may use, and how its run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "timed_out", "crashed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    The official HumanEval scorer stops a program after 3 seconds on the clock; here the 3 seconds are CPU time, so that
    a busy machine changes no score.
    """

    cpu_s: float = 3.0
    """CPU seconds of a process, rounded up to whole ones."""
    wall_s: float = 10.0
    """Seconds on the clock, start of the interpreter included."""
    memory_mib: int = 1024
    """Address space of a process."""
    file_mib: int = 16
    """One file, and all files together where the program is isolated."""
    processes: int = 16
    """Processes and threads at one time, where the program is isolated."""
    output_kib: int = 64
    """How much of standard output and error is kept; what comes after it is read and thrown away."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run of one program ended."""

    status: Status
    """``passed``: came to its end; ``failed``: raised something; ``timed_out``: used up its CPU or clock time;
    ``crashed``: out of memory, killed by a signal, or left before its end."""
    reason: str
    """One short line; empty for a program that passed."""
    seconds: float
    """Seconds on the clock, start of the interpreter included."""
    output: str = ""
    """What it printed, up to ``Limits.output_kib``."""

    @property
    def passed(self) -> bool:
        """Whether the program came to its end."""
        return self.status == "passed"

"""Live progress of trainings on stderr: one line that redraws itself in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO

from tuneboard.report.tables import harmless

_BAR = 20
#: Terminals are redrawn this often at most.
_REDRAW_S = 0.2


class TrainingProgress:
    """Shows how far a training is; use it as a context manager.

    Args:
        quiet: Show nothing at all, notes included.
        stream: Where to write; None is stderr.
        interval_s: Least seconds between two plain lines.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, interval_s: float = 5.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._interval_s = _REDRAW_S if self._live else interval_s
        self._next = 0.0
        self._drawn = False
        self._name = ""
        self._validation: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wipe()

    def begin(self, name: str, number: int, count: int) -> None:
        """Announce a trial.

        Args:
            name: Of the candidate.
            number: 1 for the first.
            count: Trials in all; one alone is not announced.
        """
        self._name, self._next, self._validation = name, 0.0, None
        if count > 1:
            self.note(f"{number} of {count}: {name}")

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Show a step of the training.

        Args:
            step: Optimizer steps so far.
            steps: Of how many.
            values: Those of ``loss``, ``validation_loss``, ``learning_rate``, ``tokens_per_s``, ``seconds_left`` and
                ``memory_gib`` that are known.
        """
        self._validation = values.get("validation_loss", self._validation)
        if self._quiet or (time.monotonic() < self._next and step < steps):
            return
        self._next = time.monotonic() + self._interval_s
        known = dict(values) if self._validation is None else {**values, "validation_loss": self._validation}
        line = harmless(step_line(self._name, step, steps, known))
        if not self._live:
            self._write(f"{line}\n")
            return
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\x1b[K{bar(step, steps)} {line}"[: width + 4])
        self._drawn = True

    def note(self, line: str) -> None:
        """Write a line that stays."""
        if not self._quiet:
            self._wipe()
            self._write(f"{harmless(line)}\n")

    def _wipe(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        # A closed or full stderr must not end a training.
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._quiet = True


def step_line(name: str, step: int, steps: int, values: Mapping[str, float]) -> str:
    """Return one line about a step; what is not known is left out."""
    formats = {
        "loss": "loss {:.4f}",
        "validation_loss": "validation {:.4f}",
        "learning_rate": "lr {:.2e}",
        "tokens_per_s": "{:,.0f} tokens/s",
        "seconds_left": "{} left",
        "memory_gib": "{:.1f} GiB",
    }
    parts = [f"{name} step {step:,}/{steps:,}" if name else f"step {step:,}/{steps:,}"]
    for key, form in formats.items():
        if key in values:
            parts.append(form.format(_duration(values[key]) if key == "seconds_left" else values[key]))
    return ", ".join(parts)


def bar(done: int, total: int) -> str:
    """Draw how much of a work is done."""
    filled = min(_BAR, _BAR * done // total) if total else 0
    return "━" * filled + "╌" * (_BAR - filled)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

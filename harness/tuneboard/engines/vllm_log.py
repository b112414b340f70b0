"""What vLLM and its worker processes print: kept in a file, so that stdout holds data only, and read when one dies.

Workers inherit the file: of an error that ends one, the parent process learns only that it ended.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Characters at the end of the file that are searched for the cause of a fault.
_TAIL = 200_000
_ERROR = re.compile(r"\b(?:[A-Za-z_]+\.)*([A-Z]\w*(?:Error|Exception)): (\S.*)")
#: Errors that only say that another one happened.
_SECONDARY = ("EngineDeadError", "Engine core initialization failed", "See root cause", "cancelled", "WorkerProc")


class ProcessLog:
    """A file that takes what is printed within ``capturing``, and what worker processes started there print later."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="tuneboard-vllm-", suffix=".log")
        os.close(descriptor)
        self.path = Path(name)

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Within it, all that this process and new ones print goes into the file, in whatever language."""
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.dup2(target, 1)
            os.dup2(target, 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for descriptor in (*saved, target):
                os.close(descriptor)

    def text(self) -> str:
        """Return the end of what was printed."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        except OSError:
            return ""

    def cause(self) -> str:
        """Return the first error that says what happened, else nothing."""
        for kind, words in _ERROR.findall(self.text()):
            line = f"{kind}: {words}".strip()
            if not any(sign in line for sign in _SECONDARY):
                return line[:300]
        return ""

    def remove(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self.path.unlink()

"""Standard streams that lead anywhere: a narrow encoding, a closed descriptor or a full disk ends in no traceback."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import BinaryIO, TextIO, cast

from tuneboard.report.tables import harmless

#: What tables are drawn with, for terminals that cannot show it; each stays distinct from the others.
_PLAIN: Mapping[str, str] = MappingProxyType(
    {
        "─": "-",
        "━": "=",
        "╌": ".",
        "·": "-",
        "±": "+-",
        "…": "...",
        "→": "->",
        "↓": "(low)",
        "▲": "^",
        "▼": "v",
        "≈": "~",
        "✓": "+",
        "✗": "x",
    }
)
_ERRORS = "tuneboard"


class _Closed(io.TextIOBase):
    """Stands in for a stdout that was closed from the start; Python would silently drop what is written there."""

    def write(self, text: str) -> int:
        raise _closed()

    @property
    def buffer(self) -> BinaryIO:
        raise _closed()


def prepare_streams() -> None:
    """Make the process's streams safe to write any text to."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Takes the lowest free number; else a database would get it, and what libraries print would end in there.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = cast(TextIO, _Closed())
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (lives as long as the process)
    codecs.register_error(_ERRORS, _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != _ERRORS:
            stream.reconfigure(errors=_ERRORS)


def release_streams() -> None:
    """Write out what is buffered; what cannot be is dropped, for Python would fail on it at exit with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def say(text: str) -> None:
    """Write notes to stderr; where they cannot go they are dropped, and the exit code tells of the work alone."""
    with suppress(OSError, ValueError):
        print(harmless(text), file=sys.stderr, flush=True)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """Handle a character that a stream's encoding lacks: the nearest that ASCII has, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (_PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode("ascii") for char in lacking)
    return "".join(plain), error.end


def _closed() -> OSError:
    return OSError(errno.EBADF, "stdout is closed; send it to a file, or to /dev/null")

"""A reader/writer lock beside the database, held between processes and released by the kernel on death.

DuckDB lets either one read-write process or many read-only ones open a file and refuses the others at once. This lock
turns the refusal into a bounded wait. It is a file lock (``flock``) on ``<db>.lock``. Everybody queues at
``<db>.gate`` first and leaves it on entering, so that a waiting writer keeps later readers behind it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tuneboard.errors import StoreBusy, StoreError

Mode = Literal["read", "write"]

#: Default wait for other processes, in seconds; a commit of 14,042 samples holds the lock for about one.
WAIT_S = 60.0

_LONGEST_NAP_S = 0.02


@contextmanager
def database_lock(path: Path, mode: Mode, wait_s: float) -> Iterator[None]:
    """Hold the lock of a database, shared with other readers or alone.

    Args:
        path: The database file; it need not exist, its folder must.
        mode: ``"read"`` (shared) or ``"write"`` (alone).
        wait_s: Seconds to wait for other processes, 0 to try once.

    Raises:
        StoreBusy: The lock was not free within ``wait_s``.
        StoreError: The lock files cannot be made.
    """
    # One database has one lock, whichever link or relative path leads to it.
    real = os.path.realpath(path)
    deadline = time.monotonic() + wait_s
    gate = _open(f"{real}.gate", mode)
    lock = None
    try:
        lock = _open(f"{real}.lock", mode)
        wanted = fcntl.LOCK_EX if mode == "write" else fcntl.LOCK_SH
        if not (_take(gate, fcntl.LOCK_EX, deadline) and _take(lock, wanted, deadline)):
            raise StoreBusy(
                f"{path} is in use by another process, and waiting {wait_s:g} s to {mode} it was not enough; "
                "let that process finish, then run the same command again"
            )
        if gate is not None:
            os.close(gate)
            gate = None
        yield
    finally:
        for held in (gate, lock):
            if held is not None:
                os.close(held)


def _open(path: str, mode: Mode) -> int | None:
    """Open a lock file; None where a reader may not make one, since then nobody like it can write either."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if mode == "read" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return None
        raise StoreError(
            f"cannot lock the database: {path}: {error.strerror}; name a file in a writable folder (--db)"
        ) from error


def _take(lock: int | None, how: int, deadline: float) -> bool:
    """Poll for a lock until the deadline: a blocking ``flock`` cannot be bounded outside the main thread."""
    if lock is None:
        return True
    nap_s = 0.001
    while True:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            # The jitter keeps processes that were woken together from meeting again and again.
            time.sleep(min(left_s, nap_s * random.uniform(0.5, 1.0)))
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        else:
            return True

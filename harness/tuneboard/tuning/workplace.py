"""The working folder of a trial: who may use it, and when it is worth keeping."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneboard.errors import StoreBusy, StoreError
from tuneboard.tuning.checkpoints import WorkFolder


@contextmanager
def held(work: Path, name: str) -> Iterator[None]:
    """Keep other processes from making the same candidate at the same time.

    Args:
        work: The trial's working folder; the lock lies beside it.
        name: The candidate's, for messages.

    Raises:
        StoreBusy: Another process makes it.
        StoreError: The folder around it cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work.with_name(f"{work.name}.lock"))
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreBusy(f"another process makes '{name}'; wait for it, or set another name: --set name=...") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(f"cannot write {work.parent} ({reason}); name another folder with --out") from error
    try:
        yield
    finally:
        lock.release()


def clear_unless_checkpointed(work: Path) -> None:
    """Remove the working folder of a training that ended before it had a whole checkpoint to go on from."""
    if WorkFolder(work).last_checkpoint() is None:
        shutil.rmtree(work, ignore_errors=True)


def clear_own(work: Path, fingerprint: str) -> None:
    """Remove the working folder of a training that cannot succeed, unless it is that of another recipe."""
    try:
        identity = json.loads((work / "identity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if identity.get("recipe") == fingerprint:
        shutil.rmtree(work, ignore_errors=True)

"""Files that cannot be written: told from other errors, whichever library wrote, and said in one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tuneboard.errors import StoreError, TuneboardError

#: What Rust says and safetensors and tokenizers hand on, such as "No space left on device (os error 28)".
_RUST = re.compile(r"([^:()]+) \(os error \d+\)")
#: torch's own writer forgets the reason. Its reader has other words for a damaged file.
_TORCH = re.compile("PytorchStreamWriter|unexpected pos")


def write_fault(error: Exception) -> str | None:
    """Return why a file could not be written, or None where the error is of another kind.

    Args:
        error: As a library raised it.
    """
    if isinstance(error, TuneboardError):
        return None
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    if found := _RUST.search(str(error)):
        return found[1].strip()
    return "torch could write only a part" if _TORCH.search(str(error)) else None


def unwritten(what: str, folder: Path, reason: str, then: str) -> StoreError:
    """Return the error that says what could not be written, why, how much room there is, and what to do.

    Half-written files should be gone by then.

    Args:
        what: What it was, with its place.
        folder: Its place, which need not be there.
        reason: From ``write_fault``.
        then: What to do once there is space.
    """
    return StoreError(
        f"cannot write {what} ({reason}; {_free(folder)} are free there now); free or grant space there, then {then}"
    )


def _free(folder: Path) -> str:
    place = folder.absolute()
    there = next(one for one in (place, *place.parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    return f"{free / 2**30:,.1f} GiB" if free >= 2**30 else f"{free / 2**20:,.1f} MiB"

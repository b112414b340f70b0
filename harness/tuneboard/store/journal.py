"""Answers on disk before their cell is complete: append-only files of checksummed lines.

Each writer has a file of its own, ``<scope>.<pid>-<random>.jsonl`` in ``<db>.journal/``, and holds a file lock on it
while it lives, so that others can tell a journal that is still written from one whose writer died. A line is
``<crc32 in hex> [<request hash>, <response>]``, with a third element ``true`` where the request was cut to fit the
context; a line that ends too early fails its checksum and is skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import zlib
from collections.abc import Collection, Iterator, Sequence
from errno import ENOENT, ENOTDIR, EROFS
from pathlib import Path

from tuneboard.errors import StoreError
from tuneboard.records import Response
from tuneboard.store.responses import plain, revive


def journal_folder(db: Path) -> Path:
    """Return the folder that holds the journals of a database."""
    return Path(f"{os.path.realpath(db)}.journal")


class Journal:
    """Appends the answers of one scope to a file of its own, which is made at the first answer.

    Args:
        folder: The database's journal folder; made when needed.
        scope: ``CellKey.scope`` of the answers.
    """

    def __init__(self, folder: Path, scope: str) -> None:
        self.folder, self.scope = folder, scope
        self.path: Path | None = None
        self._fd: int | None = None
        self._torn = False

    def append(self, entries: Sequence[tuple[str, Response]], cut: Collection[str] = ()) -> None:
        """Write answers; they outlive this process as soon as the call returns.

        Args:
            entries: Request hash and response of each answer.
            cut: Hashes of those requests that were cut to fit the context.

        Raises:
            StoreError: The disk is full or the file cannot be written; all earlier answers stay readable.
        """
        if not entries:
            return
        data = b"".join(_line(request_hash, response, request_hash in cut) for request_hash, response in entries)
        try:
            if self._fd is None:
                self.path, self._fd = _create(self.folder, self.scope)
            _write(self._fd, b"\n" + data if self._torn else data)
        except OSError as error:
            self._torn = True
            raise _unwritable(self.path or self.folder, error) from error
        self._torn = False

    def sync(self) -> None:
        """Force what was appended to the disk, so that it outlives the machine too.

        Raises:
            StoreError: The disk refuses.
        """
        if self._fd is not None:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise _unwritable(self.path or self.folder, error) from error

    def discard(self) -> None:
        """Remove the file: its answers are in the database."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file and keep it; answers appended later go to a new one."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self.path, self._torn = None, None, False


def read_answers(folder: Path, scope: str) -> dict[str, Response]:
    """Return all readable answers of a scope, from living and dead writers.

    Args:
        folder: The database's journal folder; it may be missing.
        scope: ``CellKey.scope`` of the answers.

    Raises:
        StoreError: A journal cannot be opened.
    """
    return {request_hash: response for request_hash, response, _ in _entries(folder, scope)}


def read_cut(folder: Path, scope: str) -> set[str]:
    """Return the hashes of those requests of a scope that were cut to fit the context; see ``read_answers``."""
    return {request_hash for request_hash, _, cut in _entries(folder, scope) if cut}


def _entries(folder: Path, scope: str) -> Iterator[tuple[str, Response, bool]]:
    for path in _journals(folder, scope):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # its writer has just committed and removed it
        except OSError as error:
            raise StoreError(
                f"cannot read the journal {path}: {error.strerror}; make it readable or remove it"
            ) from error
        for line in data.split(b"\n"):
            if (entry := _parse(line)) is not None:
                yield entry


def discard_dead(folder: Path, scope: str) -> None:
    """Remove the journals of a scope whose writers are gone.

    Args:
        folder: The database's journal folder; it may be missing.
        scope: ``CellKey.scope`` of the answers.
    """
    for path in _journals(folder, scope):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            continue  # its writer lives, or it is not ours to remove; it is read again and harms nothing
        finally:
            os.close(fd)


def _journals(folder: Path, scope: str) -> list[Path]:
    return sorted(folder.glob(f"{scope}.*.jsonl"))


def _create(folder: Path, scope: str) -> tuple[Path, int]:
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        path = folder / f"{scope}.{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        # Between making and locking it the file looks dead; somebody may be removing it at this moment.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return path, fd
        except BlockingIOError:
            pass
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    # A nearly full disk takes a part without an error; the next call then names the reason.
    while written < len(data):
        written += os.write(fd, data[written:])


def _line(request_hash: str, response: Response, cut: bool) -> bytes:
    entry = [request_hash, plain(response), *([True] if cut else [])]
    body = json.dumps(entry, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> tuple[str, Response, bool] | None:
    try:
        checksum, body = int(line[:8], 16), line[9:]
        if zlib.crc32(body) != checksum:
            return None
        request_hash, value, *cut = json.loads(body)
        response = revive(value)
    except ValueError:
        return None
    return None if response is None else (str(request_hash), response, bool(cut))


def _unwritable(path: Path, error: OSError) -> StoreError:
    if error.errno in (ENOENT, ENOTDIR, EROFS):
        return StoreError(
            f"cannot write the journal {path}: {error.strerror}; run the same command again, "
            "or name a database elsewhere with --db"
        )
    return StoreError(
        f"cannot write the journal {path}: {error.strerror}; free or grant space there, "
        "then run the same command again: it goes on from what is written"
    )

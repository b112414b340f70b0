"""Finds the sources of a recipe and reads them: files, a mirror of the hub, or the hub.

A path that is a file is read as one. Anything else is a data set's id: with a mirror it is read from
``MIRROR/<id>/<config or "default">/<split>.parquet`` and nothing is fetched; without one, from the hub.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneboard.datafiles import READERS, Table, arrow_table, read_table
from tuneboard.errors import DataError, near_matches
from tuneboard.tuning.records import SourceSpec

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def source_names(specs: Sequence[SourceSpec]) -> tuple[str, ...]:
    """Return what to call each source: its path, or its id with config and split; the second of a name gets ``#2``."""
    names: list[str] = []
    for spec in specs:
        name = spec.path if _is_path(spec.path) else " ".join(filter(None, (spec.path, spec.config, spec.split)))
        count = sum(earlier.partition("#")[0] == name for earlier in names)
        names.append(f"{name}#{count + 1}" if count else name)
    return tuple(names)


def read_source(spec: SourceSpec, name: str, place: tuple[Path, Path | None], most: int | None = None) -> Table:
    """Read one source.

    Args:
        spec: Which.
        name: What to call it, out of ``source_names``.
        place: The folder where relative paths start, and the mirror if there is one.
        most: Rows to read, from the first on; None reads all, and computes the SHA-256.

    Raises:
        DataError: It is not there (with near matches), cannot be read, does not parse, or is empty.
        UsageError: The mirror is no folder.
    """
    folder, mirror = place
    file = folder / Path(spec.path).expanduser()
    if not file.is_file():
        if _is_path(spec.path):
            raise _missing(file, name)
        if mirror is None:
            return _filled(_from_hub(spec, name, folder, most))
        file = _mirrored(spec, mirror)
    table = read_table(file, name, most)
    if most is None:
        with file.open("rb") as stream:
            table = dataclasses.replace(table, sha256=hashlib.file_digest(stream, "sha256").hexdigest())
    return _filled(table)


def _is_path(path: str) -> bool:
    """Say whether a source can only be a file; ids of data sets end in no such suffix."""
    return path.startswith(("/", ".", "~")) or Path(path).suffix.lower() in READERS or not _HUB_ID.fullmatch(path)


def _filled(table: Table) -> Table:
    if not table.rows:
        raise DataError(f"{table.name} holds no rows; give a source that has some")
    return table


def _missing(file: Path, name: str) -> DataError:
    if file.is_dir():
        inside = _list(sorted(str(path.relative_to(file)) for path in file.rglob("*") if path.suffix in READERS))
        return DataError(f"{name} is a folder; name one file of it" + (f": {inside}" if inside else ""))
    if not file.parent.is_dir():
        return DataError(f"{name}: there is no folder {file.parent}; relative paths start in the recipe's folder")
    known = sorted(path.name for path in file.parent.iterdir() if path.suffix.lower() in READERS)
    near = near_matches(file.name, known)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        hint = f"the folder holds {_list(known)}"
    else:
        hint = f"the folder holds no {', '.join(READERS)} files"
    return DataError(f"{name}: there is no file {file}; {hint}")


def _mirrored(spec: SourceSpec, mirror: Path) -> Path:
    # Imported here: it brings the library `datasets`, for which files need not wait.
    from tuneboard.suites.mirror import Mirror

    file = Mirror(mirror).file(spec.path, spec.config, spec.split)
    if file.is_file():
        return file
    root = mirror / spec.path
    there = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.parquet"))
    if there:
        hint = f"of {spec.path} it holds (config/split) {_list(there)}"
    else:
        ids = {path.parent.parent.relative_to(mirror).as_posix() for path in mirror.rglob("*.parquet")}
        near = near_matches(spec.path, ids)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is no file '{spec.path}' here either"
    raise DataError(
        f"the mirror lacks {file.relative_to(mirror)}; {hint}; put it there, name a file, "
        "or leave --mirror and TUNEBOARD_MIRROR out to read from the hub"
    )


def _from_hub(spec: SourceSpec, name: str, folder: Path, most: int | None) -> Table:
    import datasets

    try:
        found = datasets.load_dataset(spec.path, spec.config, split=spec.split)
    except Exception as error:
        # The library raises what its many back ends raise; to the user it is one thing: the data are not there.
        near = near_matches(spec.path, (path.name for path in folder.iterdir())) if folder.is_dir() else []
        hint = f"did you mean the file {near[0]}? if not, " if near else ""
        raise DataError(
            f"'{spec.path}' is no file in {folder}, and the hub gives no such data set ({_line(error)}); "
            f"{hint}check id, config, split and network, or give --mirror DIR"
        ) from error
    batches = found.with_format("arrow").iter(1000)
    table = arrow_table(batches, found.features.arrow_schema, name, most)
    return table if most is not None else dataclasses.replace(table, sha256=_rows_sha256(table))


def _rows_sha256(table: Table) -> str:
    digest = hashlib.sha256()
    for _, row in table.rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _list(names: Sequence[Any], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Data sets from a local mirror: ``DIR/<dataset_path>/<config or "default">/<split>.parquet``.

The tables are read straight from the parquet files, with the features that ``datasets.load_dataset`` would give them,
but without its builder, which locks, copies and checks for every split (28 s against 1.6 s for the suite ``core``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tuneboard.errors import DataError, UsageError
from tuneboard.suites.split import Split


class Splits(datasets.DatasetDict):
    """The splits of a data set, each opened when it is first read.

    Args:
        names: Splits that exist.
        open_split: Opens one by name; raises ``DataError`` for one that is not there.
    """

    def __init__(self, names: Iterable[str], open_split: Callable[[str], Any]) -> None:
        super().__init__(dict.fromkeys(names))
        self._open_split = open_split
        self.read: dict[str, Any] = {}
        """What was read so far, by split."""

    def __getitem__(self, split: Any) -> Any:
        name = str(split)
        if name not in self.read:
            self.read[name] = self._open_split(name)
            dict.__setitem__(self, name, self.read[name])
        return self.read[name]

    def values(self) -> Any:
        """Open and return all splits that exist."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Open and return all splits that exist, with their names."""
        return [(name, self[name]) for name in self]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))


class Mirror:
    """A folder that holds data sets as the hub does.

    Args:
        root: The mirror's folder.

    Raises:
        UsageError: It is no folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"--mirror {root} is no folder; expected DIR/<dataset>/<config>/<split>.parquet below it")
        self.root = root

    def open(self, dataset: str, config: str | None, first_split: str | None, wanted_by: str) -> Splits:
        """Return the splits of one data set.

        Args:
            dataset: Path on the hub, such as ``openai/gsm8k``.
            config: Its configuration; None means ``default``.
            first_split: A split that is read for certain; it is named if the whole data set is missing.
            wanted_by: Task that reads the data set.

        Raises:
            DataError: The data set is not in the mirror.
        """
        folder = self.root / dataset / (config or "default")
        names = sorted(path.stem for path in folder.glob("*.parquet"))

        def open_split(split: str) -> Any:
            return _read(self.file(dataset, config, split), split, wanted_by)

        if not names:
            open_split(first_split or "test")
        return Splits(names, open_split)

    def file(self, dataset: str, config: str | None, split: str) -> Path:
        """Return where a split stands in the mirror, if it does."""
        return self.root / dataset / (config or "default") / f"{split}.parquet"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read once as long as its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(file: Path, split: str, wanted_by: str) -> Any:
    if not file.is_file():
        raise DataError(
            f"task '{wanted_by}' reads split '{split}' and the mirror lacks it: no file {file}; "
            "put it there, or leave --mirror and TUNEBOARD_MIRROR out to read from the hub"
        )
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a readable parquet file ({_first_line(error)}); copy it again") from error
    features = datasets.Features.from_arrow_schema(table.schema)
    return Split(
        datasets.table.InMemoryTable(datasets.table.table_cast(table, features.arrow_schema)),
        info=datasets.DatasetInfo(features=features),
        split=datasets.NamedSplit(split),
        fingerprint=hashlib.sha256(f"{file_sha256(file)}:{split}".encode()).hexdigest()[:16],
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

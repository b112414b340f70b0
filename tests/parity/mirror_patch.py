"""Lets plain lm-eval read the mirror, through its own ``datasets.load_dataset``.

Nothing of tuneboard is used here, so that what it loads can be held against what lm-eval loads: the parquet files go
through the ``datasets`` library's own builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets


class _EmptyWhereMissing(datasets.DatasetDict):
    """A split that the mirror lacks is empty: lm-eval opens the training split even where it shows no example."""

    def __missing__(self, split: str) -> datasets.Dataset:
        return next(iter(self.values())).select([])


@contextmanager
def lm_eval_with_mirror(mirror: Path) -> Iterator[None]:
    """Within it, ``lm_eval.simple_evaluate`` reads the data sets of ``mirror``; others are loaded as ever."""
    original = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **settings: Any) -> Any:
        folder = mirror / path / (name or "default")
        files = {file.stem: str(file) for file in sorted(folder.glob("*.parquet"))}
        if not files:
            return original(path=path, name=name, **settings)
        # One builder per split: the splits of a data set may differ in their columns.
        loaded = {split: original("parquet", data_files={split: file}, split=split) for split, file in files.items()}
        return _EmptyWhereMissing(loaded)

    with patch.object(datasets, "load_dataset", load_dataset):
        yield

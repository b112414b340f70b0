"""Where the data of a task comes from, for messages that name the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuneboard.errors import DataError
from tuneboard.suites.mirror import Splits

#: Builders of ``datasets`` that read local files; a task that names one never reads from the mirror.
FILE_BUILDERS = frozenset({"json", "csv", "parquet", "text", "arrow", "pandas", "xml", "imagefolder", "audiofolder"})
_UNDEFINED = re.compile(r"'(.+)' is undefined")


def local_files(config: Mapping[str, Any], split: str | None = None) -> str:
    """Return the local files that a task's YAML names, or those of one split; empty where its data is no file."""
    if config.get("dataset_path") not in FILE_BUILDERS:
        return ""
    files = (config.get("dataset_kwargs") or {}).get("data_files") or ""
    if isinstance(files, Mapping):
        files = files.get(split) or [one for part in files.values() for one in _listed(part)]
    return ", ".join(_listed(files))


def data_source(task: Any) -> str:
    """Return the file or data set, and the split, that a task evaluates."""
    config = getattr(task, "config", None)
    split = getattr(config, "test_split", None) or getattr(config, "validation_split", None) or "test"
    if task.reads_mirror:
        return str(task.mirror.file(task.DATASET_PATH, task.DATASET_NAME, split))
    given = {key: getattr(config, key, None) for key in ("dataset_path", "dataset_kwargs")}
    return local_files(given, split) or f"split '{split}' of data set {task.DATASET_PATH}"


def missing_column(task: Any, error: Exception) -> DataError | None:
    """Say which column a task's template needs and its data lacks; None where that is not what is wrong.

    Args:
        task: Half built, its data opened.
        error: What rendering a template raised.
    """
    found, splits = _UNDEFINED.fullmatch(str(error)), getattr(task, "dataset", None)
    if found is None or not isinstance(splits, Splits):
        return None
    columns = list(dict.fromkeys(name for rows in splits.read.values() for name in getattr(rows, "column_names", ())))
    if found[1] in columns:
        return None
    return DataError(
        f"task '{task.config.task}' needs the column '{found[1]}', which {data_source(task)} lacks "
        f"(it has: {', '.join(columns)}); add it there, or correct the templates in the task's YAML"
    )


def _listed(files: Any) -> list[str]:
    return [files] if isinstance(files, str) and files else [str(one) for one in files or ()]

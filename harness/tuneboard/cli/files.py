"""Records as JSON lines, JSON, CSV or Parquet: to stdout, or to a file that is whole or not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tuneboard.errors import UsageError
from tuneboard.report.numbers import json_text


def write_records(records: Iterable[dict[str, Any]], format: str, output: Path | None) -> None:
    """Write records of the same kind.

    Args:
        records: JSON-able; ``csv`` and ``parquet`` hold lists and mappings as JSON text.
        format: ``jsonl``, ``json`` (one list), ``csv`` or ``parquet``.
        output: File to write, replaced only when all is written; None is stdout.

    Raises:
        UsageError: The file cannot be written, or Parquet would go to a terminal.
    """
    if format == "parquet":
        _write_parquet(list(records), output)
        return
    with _opened(output, "w") as file:
        if format == "jsonl":
            # ASCII, since a text with lone surrogates cannot be written in any other way.
            file.writelines(json_text(record) + "\n" for record in records)
        elif format == "json":
            file.write(json_text(list(records), indent=2) + "\n")
        else:
            _write_csv(iter(records), file)


def write_text(text: str, output: Path | None) -> None:
    """Write a text to a file, replaced only when all is written, or to stdout.

    Raises:
        UsageError: The file cannot be written.
    """
    with _opened(output, "w") as file:
        file.write(text)


def _write_csv(records: Iterator[dict[str, Any]], file: IO[Any]) -> None:
    import csv

    # Filters of one task can have metrics of their own: the columns are those of the first sample's records.
    first = list(_first_sample(records))
    columns = list(dict.fromkeys(key for record in first for key in record))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for record in chain(first, records):
        writer.writerow({key: _flat(value) for key, value in record.items()})


def _first_sample(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records of the first sample and the one after them."""
    first: dict[str, Any] | None = None
    for record in records:
        yield record
        first = first or record
        if record.get("doc_id") != first.get("doc_id"):
            return


def _write_parquet(records: list[dict[str, Any]], output: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output is None and sys.stdout.isatty():
        raise UsageError("Parquet is no text for a terminal; add -o FILE")
    columns = list(dict.fromkeys(key for record in records for key in record))
    table = pa.table({column: _column([record.get(column) for record in records]) for column in columns})
    with _opened(output, "wb") as file:
        pq.write_table(table, file)


def _column(values: list[Any]) -> Any:
    """Return an Arrow column of numbers, truth values or texts; anything else is held as JSON text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values]) if float in kinds else values
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else str(_flat(value)) for value in values], pa.string())


def _flat(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json_text(value)
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


@contextmanager
def _opened(output: Path | None, mode: str) -> Iterator[IO[Any]]:
    if output is None:
        yield sys.stdout.buffer if "b" in mode else sys.stdout
        return
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    partial: Path | None = None
    try:
        if output.exists() and not output.is_file():
            # A device or a FIFO is written to, never replaced by a file of its name.
            with open(output, mode, **text) as file:
                yield file
            return
        # A link stays; the file that it names is replaced.
        target = Path(os.path.realpath(output))
        if not target.parent.is_dir():
            raise UsageError(f"cannot write {output}: there is no folder {target.parent}; make it first")
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        with open(partial, mode, **text) as file:
            yield file
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}; give another file") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink()

"""Rows out of JSONL, CSV and Parquet files, each with the line or row that it stands on."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.errors import DataError

#: A row's number, counted from 1, and its values by column.
NumberedRow = tuple[int, dict[str, Any]]

#: Longest cell of a CSV file, in characters; Python's own limit of 131,072 is shorter than a long document.
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Table:
    """What was read of one source."""

    name: str
    """What people call the source."""
    columns: tuple[str, ...]
    rows: tuple[NumberedRow, ...]
    unit: str = "row"
    """What the numbers count: ``line`` of a text file or ``row`` of a table."""
    sha256: str = ""

    def place(self, number: int) -> str:
        """Return where a row stands, for people."""
        return f"{self.name} {self.unit} {number}"


def read_table(path: Path, name: str, most: int | None = None) -> Table:
    """Read a file of rows; its suffix says how.

    Values of columns whose Parquet metadata names classes come as those names, and as None where the number has none.

    Args:
        path: ``.jsonl``, ``.ndjson``, ``.json`` (lines, or one array), ``.csv``, ``.tsv`` or ``.parquet``.
        name: What errors call it.
        most: Rows to read; None reads all.

    Raises:
        DataError: The file cannot be read, or a row does not parse; names the file and the line.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{name} is no file of rows that is known; expected one of {', '.join(READERS)}")
    try:
        return reader(path, name, most)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror or error}); check its permissions") from error


def arrow_table(batches: Iterable[Any], schema: Any, name: str, most: int | None) -> Table:
    """Return Arrow batches as a table, with class numbers turned into names.

    Args:
        batches: Anything with ``to_pylist``, in order.
        schema: Their schema, with the metadata that Hugging Face's ``datasets`` writes, or without.
        name: What errors call it.
        most: Rows to take; None takes all.
    """
    classes = class_names(schema)
    rows = itertools.islice((row for batch in batches for row in batch.to_pylist()), most)
    numbered = tuple((number, _with_names(row, classes)) for number, row in enumerate(rows, 1))
    return Table(name, tuple(schema.names), numbered)


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes of each ``ClassLabel`` column, out of an Arrow schema's metadata."""
    try:
        kept = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = kept.get("info", kept).get("features", {})
        return {
            column: list(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}  # metadata of another tool; the columns keep their numbers


def _with_names(row: dict[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    for column, names in classes.items():
        value = row.get(column)
        if isinstance(value, int):
            row[column] = names[value] if 0 <= value < len(names) else None
    return row


def _parquet(path: Path, name: str, most: int | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return arrow_table(file.iter_batches(batch_size=1000), file.schema_arrow, name, most)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable Parquet file ({_first_line(error)}); write it again") from error


def _jsonl(path: Path, name: str, most: int | None) -> Table:
    rows = tuple(itertools.islice(_json_lines(path, name), most))
    return Table(name, _columns(rows), rows, "line")


def _json(path: Path, name: str, most: int | None) -> Table:
    """Read a ``.json`` file, which may be one array of objects or an object a line."""
    with path.open("rb") as stream:
        start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"["):
        return _jsonl(path, name, most)
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({_first_line(error)}); expected one array of objects") from error
    rows = []
    for number, item in enumerate(items[:most], 1):
        place = f"{name} row {number}"
        rows.append((number, _checked(item, place)))
    return Table(name, _columns(rows), tuple(rows))


def _json_lines(path: Path, name: str) -> Iterator[NumberedRow]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            place = f"{name} line {number}"
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                item = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"{place} is not UTF-8 text; save the file as UTF-8") from error
            except (ValueError, RecursionError) as error:
                reason = _within_line(error)
                raise DataError(f"{place} is not JSON ({reason}); expected one object a line, {{...}}") from error
            yield number, _checked(item, place, escapes=rb"\u" in line)


def _checked(item: Any, place: str, escapes: bool = True) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise DataError(f"{place} holds {type(item).__name__}, not an object; expected {{column: value, ...}}")
    if escapes:
        try:
            json.dumps(item, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place} holds half of a surrogate pair (\\ud8..), which is no text; mend the row"
            ) from error
    return item


def _columns(rows: Iterable[NumberedRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for _, row in rows for column in row))


def _csv(path: Path, name: str, most: int | None) -> Table:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            records = _csv_records(stream, path, name)
            _, header = next(records, (0, []))
            columns = _header(header, name)
            rows = tuple(itertools.islice(_csv_rows(records, columns, name), most))
    finally:
        csv.field_size_limit(limit)
    return Table(name, columns, rows, "line")


def _csv_records(stream: Any, path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which a record starts, and its cells."""
    start = 1
    reader = None
    try:
        first = stream.readline()
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
        reader = csv.reader(itertools.chain([first], stream), delimiter=delimiter, strict=True)
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise DataError(f"{name} line {_undecodable(path)} is not UTF-8 text; save the file as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{name} line {start} is not CSV ({error}); check the quotes that start there") from error


def _undecodable(path: Path) -> int:
    """Find the first line that is not UTF-8: text is decoded ahead of the records, by blocks."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    raise AssertionError("only called where a line cannot be decoded")


def _header(cells: list[str], name: str) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    if not columns or not all(columns) or len(set(columns)) < len(columns):
        raise DataError(f"{name} line 1 should name the columns, each once, and holds {list(columns)}; write a header")
    return columns


def _csv_rows(records: Iterable[tuple[int, list[str]]], columns: tuple[str, ...], name: str) -> Iterator[NumberedRow]:
    for line, cells in records:
        if len(cells) != len(columns):
            raise DataError(
                f"{name} line {line} has {len(cells)} cells and the header {len(columns)} columns; "
                "put cells that hold the separator or a line break in double quotes"
            )
        yield line, dict(zip(columns, cells, strict=True))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _within_line(error: BaseException) -> str:
    """Say what is wrong with a line of JSON; the library counts lines of its own."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return _first_line(error)


#: Suffix of a file to what reads it.
READERS: Mapping[str, Callable[[Path, str, int | None], Table]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}

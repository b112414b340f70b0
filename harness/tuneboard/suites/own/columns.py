"""The rows of a task of the user's own, and whether its YAML names columns that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tuneboard.config import YamlMapping
from tuneboard.datafiles import READERS, Table, read_table
from tuneboard.errors import DataError, near_matches

#: Keys whose values are names of columns, of every kind of task.
_COLUMN_KEYS = ("choices", "answer", "label", "reference", "text", "cluster")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")


def read_rows(folder: Path, name: str) -> Table | str:
    """Read a file of rows; of a ``.txt`` file, each paragraph is a row with the column ``text``.

    Args:
        folder: Where relative paths start.
        name: The file, as the YAML names it.

    Returns:
        Its rows, or why there are none.
    """
    file = folder / Path(name).expanduser()
    if not file.is_file():
        beside = sorted(one.name for one in file.parent.iterdir() if one.is_file()) if file.parent.is_dir() else []
        near = near_matches(file.name, beside)
        return f"there is no file {file}" + (f"; did you mean {', '.join(near)}?" if near else "")
    suffix = file.suffix.lower()
    try:
        table = _paragraphs(file, name) if suffix == ".txt" else read_table(file, name)
    except DataError as error:
        return str(error) if suffix in READERS else f"{error}, .txt"
    return table if table.rows else f"{name} holds no rows"


def column_problems(raw: YamlMapping, table: Table) -> list[str]:
    """Return, for every column that the YAML names and the data lacks, a line that says what there is.

    Args:
        raw: The YAML, checked or not.
        table: Its data.
    """
    return [
        f"line {raw.lines.get(at, raw.lines[at[:1]])}: {at[0]}: {_missing(name, table)}"
        for at, name in _named(raw)
        if name not in table.columns
    ] + _template_problems(raw, table)


@cache
def template(text: str) -> Any:
    """Return a compiled prompt; raises ``jinja2.TemplateSyntaxError``."""
    return _environment().from_string(text)


@cache
def _environment() -> Any:
    from jinja2 import Environment, StrictUndefined

    # As lm-eval's own: a name that is not there is an error, and the last line keeps its end.
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True)


def _named(raw: YamlMapping) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key in _COLUMN_KEYS:
        value = raw.get(key, "text" if key == "text" and raw.get("kind") == "perplexity" else None)
        if isinstance(value, str):
            yield (key,) if key in raw else ("data",), value
        elif isinstance(value, list):
            yield from (((key, place), one) for place, one in enumerate(value) if isinstance(one, str))


def _template_problems(raw: YamlMapping, table: Table) -> list[str]:
    from jinja2 import TemplateSyntaxError, meta

    prompt = raw.get("prompt")
    if not isinstance(prompt, str) or prompt in table.columns:
        return []
    line = f"line {raw.lines['prompt',]}: prompt: "
    try:
        names = meta.find_undeclared_variables(_environment().parse(prompt)) - set(_environment().globals)
    except TemplateSyntaxError as error:
        return [f"{line}not a template ({error.message}); write columns as {{{{name}}}}"]
    if not names:
        return [f"{line}it holds no column, so that all prompts would be alike; write columns as {{{{name}}}}"]
    return [line + _missing(name, table) for name in sorted(names) if name not in table.columns]


def _missing(name: str, table: Table) -> str:
    near = near_matches(name, table.columns)
    meant = f"; did you mean {', '.join(near)}?" if near else ""
    return f"{table.name} has no column '{name}'{meant}; its columns: {', '.join(table.columns)}"


def _paragraphs(file: Path, name: str) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror or error}); check its permissions") from error
    parts = [part.strip("\n") for part in _PARAGRAPHS.split(text) if part.strip()]
    return Table(name, ("text",), tuple((number, {"text": part}) for number, part in enumerate(parts, 1)), "paragraph")

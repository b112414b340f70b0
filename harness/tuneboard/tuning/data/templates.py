"""Values of a row by column or field, and prompts with ``{column}`` places."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneboard.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class Lookup:
    """One row, asked by field or by column."""

    row: Mapping[str, Any]
    fields: Mapping[str, str]
    """Field of the format to column."""
    place: str

    def column(self, name: str) -> Any:
        """Return a column's value; ``a.b`` is ``b`` of the nested column ``a``, unless a column has that very name.

        Raises:
            DataError: The row does not have it.
        """
        if name in self.row:
            return self.row[name]
        value: Any = self.row
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                there = ", ".join(value) if isinstance(value, Mapping) else f"no columns, but {type(value).__name__}"
                raise DataError(f"{self.place} has no '{name}'; it has {there}; add it, or take the row out")
            value = value[part]
        return value

    def value(self, field: str) -> Any:
        """Return a field's value; None where an optional field's column is not in the row."""
        column = self.fields[field]
        if field in ("input", "text_pair") and column not in self.row and "." not in column:
            return None
        return self.column(column)

    def text(self, field: str) -> str:
        """Return a field's value as text."""
        return self.as_text(self.value(field), self.fields[field])

    def as_text(self, value: Any, column: str) -> str:
        """Return a value as text: a number as it is written, nothing as the empty text.

        Raises:
            DataError: It is a list, a mapping or the like.
        """
        if value is None:
            return ""
        if isinstance(value, float) and math.isnan(value):
            return ""  # what pandas writes for nothing
        if isinstance(value, (str, int, float)):
            return str(value)
        raise DataError(f"{self.place}: '{column}' holds {type(value).__name__}, expected text; name another column")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt in parts: literal text, each followed by the column that comes next or by None."""

    parts: tuple[tuple[str, str | None], ...]

    def fill(self, row: Lookup) -> str:
        """Return the prompt of one row.

        Raises:
            DataError: The row lacks a column that the template names.
        """
        out = []
        for literal, name in self.parts:
            out.append(literal)
            if name is not None:
                column = row.fields.get(name, name) if name not in row.row else name
                out.append(row.as_text(row.column(column), column))
        return "".join(out)


def parse_template(text: str, where: str) -> Template:
    """Read a template; ``{{`` and ``}}`` stand for braces.

    Args:
        text: Such as ``"Translate: {en}"``.
        where: What errors call it.

    Raises:
        UsageError: Its braces do not match, or hold more than a column's name, or it has no place at all.
    """
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(
            f"{where} is broken ({error}); expected {{column}} places, and {{{{ }}}} for braces"
        ) from error
    for _, name, spec, conversion in parsed:
        if name is not None and (not name.strip() or spec or conversion):
            raise UsageError(f"{where} has the place '{{{name}}}' with no plain column name in it; expected {{column}}")
    if all(name is None for _, name, _, _ in parsed):
        raise UsageError(f"{where} has no {{column}} place, so that all prompts would be one; name a column in braces")
    return Template(tuple((literal, name) for literal, name, _, _ in parsed))

"""Plain text tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_BREAKS = str.maketrans(dict.fromkeys("\n\r\t", " "))


def format_table(headers: Sequence[str], rows: Sequence[Sequence[object]], align: str | None = None) -> str:
    """Lay out rows under headers in aligned columns; no name and no answer of a model can break them.

    Args:
        headers: One title per column.
        rows: Values, as many as there are headers; None is shown as ``-``.
        align: One letter per column, ``l`` or ``r``; None aligns every column but the first to the right.

    Returns:
        Lines without trailing spaces: the headers, a rule, the rows.
    """
    align = align or "l" + "r" * (len(headers) - 1)
    titles = [one_line(header) for header in headers]
    cells = [["-" if value is None else one_line(str(value)) for value in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(titles, *cells, strict=True)]
    lines = [_line(titles, widths, align), "  ".join("─" * width for width in widths)]
    return "\n".join(lines + [_line(row, widths, align) for row in cells])


def display_width(text: str) -> int:
    """Return the columns that ``text`` takes in a terminal: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def harmless(text: str) -> str:
    """Replace control characters: a name or a model's answer must not steer the reader's terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(text: str) -> str:
    """Return text for a cell or a note: without control characters, line breaks and tabs as spaces."""
    return harmless(text.translate(_BREAKS))


def listed(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(cells: Sequence[str], widths: Sequence[int], align: str) -> str:
    padded = [
        " " * (width - display_width(cell)) + cell if side == "r" else cell + " " * (width - display_width(cell))
        for cell, width, side in zip(cells, widths, align, strict=True)
    ]
    return "  ".join(padded).rstrip()

"""Markdown that no name and no answer of a model can break."""

from __future__ import annotations

from collections.abc import Sequence

from tuneboard.report.tables import one_line


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> str:
    """Lay out a table.

    Args:
        headers: One title per column.
        rows: Values, as many as there are headers; None is shown as ``-``.
        align: One letter per column, ``l`` or ``r``.
    """
    lines = [[escaped(header) for header in headers], ["---:" if side == "r" else "---" for side in align]]
    lines += [["-" if value is None else escaped(str(value)) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Return text of one line that Markdown shows as it is."""
    for char in "\\|*_`<>[]#":
        text = text.replace(char, f"\\{char}")
    return one_line(text)


def fenced(text: str) -> str:
    """Return text as a block, within a fence that is longer than any in it."""
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in text).split()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"

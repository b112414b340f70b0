"""Tables, each with its data to take along."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from parts.words import literal

if TYPE_CHECKING:
    import pandas as pd

#: Rows that are shown before a table scrolls inside itself.
_MOST_ROWS = 16
#: Pixels of so many rows and the header, at the theme's font size.
_MOST_PX = 562


def show_table(
    frame: pd.DataFrame, name: str, columns: Mapping[str, Any] | None = None, *, on_select: bool = False
) -> list[int]:
    """Show a table, with its data as CSV and Parquet below.

    Args:
        frame: Its rows; the index is not shown.
        name: What it is, in a few words; also names the files.
        columns: Column to its configuration (``st.column_config``), its title, or None to hide it.
        on_select: Whether a row can be selected.

    Returns:
        Numbers of the selected rows.
    """
    common: dict[str, Any] = {
        "hide_index": True,
        "column_config": dict(columns or {}),
        "height": "content" if len(frame) <= _MOST_ROWS else _MOST_PX,
        "placeholder": "–",
        "alt": name,
        "lazy": False,
    }
    key = f"table {name}"
    selected: list[int] = []
    if on_select:
        chosen = st.dataframe(frame, key=key, on_select="rerun", selection_mode="single-row", **common)
        # A selection may outlive the rows that it was made of.
        selected = [row for row in chosen["selection"]["rows"] if row < len(frame)]
    else:
        st.dataframe(frame, key=key, **common)
    show_downloads(frame, name)
    return selected


def show_downloads(frame: pd.DataFrame, name: str) -> None:
    """Show a small row that offers data as files; they are made when they are asked for.

    Args:
        frame: The data.
        name: What it is; names the files.
    """
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
    with st.container(key=f"downloads-{stem}", horizontal=True, gap="small"):
        for label, ending, mime, content in (
            ("CSV", "csv", "text/csv", _csv),
            ("Parquet", "parquet", "application/vnd.apache.parquet", _parquet),
        ):
            st.download_button(
                label,
                data=lambda content=content: content(frame),  # type: ignore[misc]
                file_name=f"{stem}.{ending}",
                mime=mime,
                key=f"{ending} of {name}",
                help=literal(f"{name}, as {label}"),
                on_click="ignore",
                type="tertiary",
            )


def _csv(frame: pd.DataFrame) -> bytes:
    return str(frame.to_csv(index=False)).encode("utf-8", "backslashreplace")


def _parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()

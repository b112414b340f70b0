"""What broke, what was fixed: samples of a base and a candidate, both answers side by side."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st
from parts import data, state
from parts.sample_choice import ALL, LABELS, Selection, choose_samples, opened, rows_of
from parts.sample_view import cell_text, short_score, show_sample
from parts.tables import show_table
from parts.words import literal

from tuneboard.errors import DataError
from tuneboard.store.browsing import CHANGES, SampleKey, parse_key

#: Samples of a page of the list.
PAGE = 12
_OPENED, _CLICKED = "sample that was open", "row that was clicked"


def main() -> None:
    """Show the page."""
    st.title("Samples", anchor=False)
    selection = choose_samples(data.database())
    if selection is None:
        return
    position, stray = _find(selection)
    if position is None and stray is None:
        st.info("No sample is among these." if not selection.asked.text else "No sample holds this text.")
        return
    key = stray or selection.key(position or 0)
    state.put(sample=_written(key))
    st.session_state[_OPENED] = _written(key)
    listed, shown = st.columns([5, 8], gap="medium")
    with listed:
        _show_list(selection, position or 0, key)
    with shown:
        _show_steps(selection, position, stray)
        _show_open(selection, key)


def _find(selection: Selection) -> tuple[int | None, SampleKey | None]:
    """Return the position of the sample that the URL names, and the sample itself where it is none of the chosen.

    A link shows its sample whatever became of it since; a choice that leaves out the open one goes to its first.
    """
    rows, written = selection.rows, state.value("sample")
    first = 0 if len(rows) else None
    key = parse_key(written)
    if key is None:
        return first, None
    at = selection.index.find(key)
    if at is not None:
        position = int(np.searchsorted(rows, at))
        if position < len(rows) and rows[position] == at:
            return position, None
    if key[0] not in selection.asked.tasks:
        return first, None
    if st.session_state.get(_OPENED) == written:
        return first, None
    return (min(int(np.searchsorted(rows, at or 0)), len(rows) - 1) if len(rows) else None), key


def _show_list(selection: Selection, position: int, opened_key: SampleKey) -> None:
    page, pages = position // PAGE, max(1, math.ceil(len(selection.rows) / PAGE))
    ends = page * PAGE, min(len(selection.rows), (page + 1) * PAGE)
    keys = tuple(selection.key(at) for at in range(*ends))
    rows = rows_of(data.database(), selection.asked, keys)
    at_rows = [int(selection.rows[at]) for at in range(*ends)][: len(rows)]
    index, asked = selection.index, selection.asked
    columns = {
        "Open": ["▶" if (row.task, row.doc_id) == opened_key else "" for row in rows],
        "Task": [cell_text(row.task) for row in rows],
        "No.": [row.doc_id for row in rows],
        "Question": [cell_text(row.question) for row in rows],
        "Target": [cell_text(row.target) for row in rows],
        "Base": [cell_text(row.base) for row in rows],
        "Candidate": [cell_text(row.candidate) for row in rows],
        "Base score": [float(index.base[at]) for at in at_rows],
        "Candidate score": [float(index.candidate[at]) for at in at_rows],
    }
    if selection.change == ALL:
        columns["Change"] = [LABELS[CHANGES[index.changes[at]]] for at in at_rows]
    hidden = [] if len(asked.tasks) > 1 else ["Task"]
    widths = {"Open": 40, "Task": 160, "No.": 60, "Question": 230, "Target": 90, "Base": 120, "Candidate": 120}
    config = {name: None if name in hidden else st.column_config.Column(width=px) for name, px in widths.items()}
    config["Open"] = st.column_config.Column("", width=40)
    clicked = show_table(pd.DataFrame(columns), f"samples page {page + 1}", config, on_select=True)
    _open_clicked(selection, page, clicked, keys)
    _show_pager(selection, page, pages)


def _open_clicked(selection: Selection, page: int, clicked: list[int], keys: tuple[SampleKey, ...]) -> None:
    # The table keeps its selection when another sample is opened by a button; only a new click counts.
    place = (selection.asked, selection.change, page)
    before = st.session_state.get(_CLICKED)
    st.session_state[_CLICKED] = (place, clicked)
    if before is None or before[0] != place or before[1] == clicked:
        return
    row = (clicked or before[1])[0]
    if row < len(keys) and _written(keys[row]) != state.value("sample"):
        state.put(sample=_written(keys[row]))
        st.rerun()


def _show_pager(selection: Selection, page: int, pages: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for label, to, icon in (
            ("Earlier", page - 1, ":material/chevron_left:"),
            ("Later", page + 1, ":material/chevron_right:"),
        ):
            inside = 0 <= to < pages
            target = {"sample": _written(selection.key(to * PAGE))} if inside else {}
            st.button(
                label,
                key=f"page {label}",
                icon=icon,
                type="tertiary",
                disabled=not inside,
                on_click=_open,
                kwargs=target,
            )
        st.caption(f"page {page + 1:,} of {pages:,}")


def _show_steps(selection: Selection, position: int | None, stray: SampleKey | None) -> None:
    total = len(selection.rows)
    at = -1 if position is None else position
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for label, to, shortcut in (("Previous", at - 1, "P"), ("Next", at if stray else at + 1, "N")):
            inside = 0 <= to < total
            target = {"sample": _written(selection.key(to))} if inside else {}
            st.button(label, key=label, shortcut=shortcut, disabled=not inside, on_click=_open, kwargs=target)
        st.caption(f"{at + 1:,} of {total:,}" if not stray else f"not among these {total:,}")


def _open(sample: str | None = None) -> None:
    if sample is not None:
        state.put(sample=sample)


def _show_open(selection: Selection, key: SampleKey) -> None:
    try:
        sample = opened(data.database(), selection.asked, key)
    except DataError:
        st.info("The link names a sample that is not here. Choose one from the list.")
        return
    st.subheader(f"{literal(sample.task)} · document {sample.doc_id}", anchor=False)
    at = selection.index.find(key)
    if at is not None:
        change = LABELS[CHANGES[selection.index.changes[at]]]
        scores = f"{short_score(float(selection.index.base[at]))} → {short_score(float(selection.index.candidate[at]))}"
        st.caption(f"{change}: {scores}")
    show_sample(sample, (selection.asked.base, selection.asked.candidate))


def _written(key: SampleKey) -> str:
    return f"{key[0]}:{key[1]}"


main()

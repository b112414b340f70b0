"""Where in a group of subjects did candidates change?"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from parts.charts import show_chart
from parts.comparing import Chosen, choose, compared, headlines
from parts.data import cached, database
from parts.heatmap import cells, heatmap, subjects_in_order
from parts.sentences import SEEDS
from parts.state import page_link, pick
from parts.tables import show_table
from parts.words import literal

from tuneboard.store.listing import listed_tasks

_ORDERS = ("area", "difference", "name")
_known_tasks = cached(listed_tasks)


def main() -> None:
    """Show the page."""
    st.title("Subjects", anchor=False)
    db = database()
    members = {name: tasks for name, tasks in _known_tasks(db).items() if tasks}
    if not members:
        st.info("Nothing was evaluated that has subjects, such as MMLU.")
        st.stop()
    chosen = choose(db)
    left, middle, right = st.columns(3)
    with left:
        group = pick("Group", "group", sorted(members, key=lambda name: (-len(members[name]), name))) or ""
    with middle:
        shown = pick("Shown", "shown", ["differences", "scores"])
    with right:
        by = pick("Order", "order", _ORDERS) or "area"
    found = compared(db, chosen)
    rows = headlines(found.rows, "subjects")
    values = (
        pd.DataFrame() if rows.empty else cells(rows, group, members, None if shown == "differences" else chosen.base)
    )
    if values.empty:
        st.info(f"None of these candidates can be compared on the tasks of {literal(group)}.")
        page_link("See why", "compare", base=chosen.base, candidate=chosen.candidates)
        st.stop()
    _show(values, chosen, group, by, shown == "differences")
    page_link(
        "Compare these with all their intervals",
        "compare",
        base=chosen.base,
        candidate=chosen.candidates,
        task=[group],
        detail="subjects",
    )


def _show(values: pd.DataFrame, chosen: Chosen, group: str, by: str, differences: bool) -> None:
    order = subjects_in_order(values, by)
    there = set(values["candidate"])
    columns = [name for name in (chosen.base, *chosen.candidates) if name in there]
    subjects = values[values["kind"] != "group"]["task"].nunique()
    what = f"differences to {chosen.base}" if differences else "scores"
    description = f"Heatmap of {subjects} subjects of {group}: {what} of {', '.join(columns)}, each with its number."
    show_chart(heatmap(values, order, columns, differences), values, "subjects", description)
    if differences:
        st.caption(
            "Blue is better than the base, orange is worse; ▲ and ▼ mark what is significant after correction "
            f"(Benjamini-Hochberg). A subject has few samples: most single cells are noise. {SEEDS}"
        )
    table = values.pivot_table(
        index=["subject", "area"], columns="candidate", values="difference" if differences else "score", sort=False
    )
    table = table.reindex(columns=columns).loc[_in_order(table.index, order)].reset_index()
    form = "%+.4f" if differences else "%.4f"
    config = {name: st.column_config.NumberColumn(format=form) for name in columns}
    show_table(table, "subjects", config | {"subject": st.column_config.TextColumn(pinned=True)})


def _in_order(index: pd.MultiIndex, order: list[str]) -> list[tuple[str, str]]:
    return sorted(index, key=lambda one: order.index(one[0]))


main()

"""Scores of a few candidates at one glance, beside the table that tells more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st
from parts import board
from parts.charts import show_chart
from parts.comparing import ALL_TASKS, choose, choose_suite, known_suites
from parts.data import cached, database
from parts.radar_chart import radar
from parts.state import page_link, pick_many
from parts.tables import show_table
from parts.words import literal

from tuneboard.store.listing import ListedScore, listed_scores, listed_tasks

#: Lines and spokes that can still be told apart.
_MOST_LINES, _FEWEST_TASKS, _MOST_TASKS = 6, 3, 12

_scores = cached(listed_scores)
_tasks = cached(listed_tasks)


def main() -> None:
    """Show the page."""
    st.title("Radar", anchor=False)
    db = database()
    chosen = choose(db)
    candidates = [chosen.base, *chosen.candidates][:_MOST_LINES]
    left, right = st.columns([1, 2])
    with left:
        suite = choose_suite(db)
    known, members = known_suites(db), _tasks(db)
    entries = known.suites.get(suite, ()) if suite != ALL_TASKS else ()
    top = board.top_tasks(members, entries, known.tags)
    with right:
        tasks = pick_many("Tasks", "task", list(members), top[:_MOST_TASKS])
    if not tasks:
        st.info("Choose tasks to draw.")
        st.stop()
    found = board.headlines(_scores(db, tuple(tasks)), entries)
    _show(found, tasks, candidates)
    page_link("Compare these with their intervals", "compare", base=chosen.base, candidate=chosen.candidates)


def _show(found: Mapping[str, Mapping[str, ListedScore]], tasks: Sequence[str], candidates: Sequence[str]) -> None:
    table = pd.DataFrame(
        [
            {"task": task, "metric": next(iter(found[task].values())).metric.metric}
            | {name: found[task][name].metric.value for name in candidates if name in found[task]}
            for task in tasks
            if found.get(task)
        ]
    )
    present = [name for name in candidates if name in table]
    if not present:
        st.info("None of these candidates has a score on these tasks.")
        return
    drawn = [task for task in tasks if _can_be_drawn(found.get(task, {}), present)]
    picture, figures = st.columns([5, 4], gap="large")
    with picture:
        if len(drawn) < _FEWEST_TASKS:
            st.info(f"A radar needs {_FEWEST_TASKS} tasks on which all of these have a score from 0 to 1.")
        else:
            _draw(found, drawn, present)
    with figures:
        config = {name: st.column_config.NumberColumn(format="%.4f") for name in present}
        show_table(table, "scores", config | {"task": st.column_config.TextColumn(pinned=True)})
        if left := [task for task in tasks if task not in drawn]:
            st.caption(f"In the table alone: {', '.join(map(literal, left))}.")
        st.caption(
            "A radar shows a profile and no more: its areas depend on the order of the tasks, and it has no intervals."
        )


def _can_be_drawn(of_task: Mapping[str, ListedScore], candidates: Sequence[str]) -> bool:
    metrics = [of_task[name].metric for name in candidates if name in of_task]
    return len(metrics) == len(candidates) and all(
        0 <= one.value <= 1 and one.higher_is_better is not False for one in metrics
    )


def _draw(found: Mapping[str, Mapping[str, ListedScore]], tasks: Sequence[str], candidates: Sequence[str]) -> None:
    scores = pd.DataFrame(
        [
            {"candidate": name, "task": task, "score": found[task][name].metric.value}
            for name in candidates
            for task in tasks
        ]
    )
    description = f"Radar chart of {', '.join(candidates)} on {', '.join(tasks)}; the table beside it has the scores."
    show_chart(radar(scores, tasks, candidates), scores, "radar", description)


main()

"""The leaderboard: bases with their candidates under them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from parts import board, data, state
from parts.tables import show_table
from parts.words import literal

from tuneboard.store import listing, overview

_asked = data.cached(overview.asked)
_candidates = data.cached(listing.listed_candidates)
_tasks = data.cached(listing.listed_tasks)
_scores = data.cached(listing.listed_scores)
_history = data.cached(listing.history)

#: Columns that fit beside each other; more can be chosen.
_MOST_COLUMNS = 8
_ALL = "everything evaluated"
_RANK_HELP = (
    "The places that the candidate can have, given the 95 % intervals: those whose intervals overlap share places. "
    "Compare tests them on the same documents and tells more of them apart."
)


def show() -> None:
    """Show the page."""
    db = data.database()
    candidates = _candidates(db)
    st.title("Leaderboard")
    suite, ranked_by, columns, wanted, order = _choices(candidates)
    entries = _asked(db).suites.get(suite, ())
    scores = board.headlines(_scores(db, tuple(columns)), entries)
    shown = board.make_board(candidates, scores, columns, ranked_by)
    rows = board.arrange(shown.rows, wanted, order)
    _summary(shown, rows)
    if not rows:
        st.info("No candidate fits. Take a filter away to see more.")
        return
    selected = show_table(_frame(rows, shown), "Leaderboard", _column_config(shown), on_select=True)
    _lead_on(rows[selected[0]] if selected else None)


def _choices(
    candidates: Sequence[listing.ListedCandidate],
) -> tuple[str, str, list[str], board.Wanted, str]:
    """Return the suite, what to rank by, the columns, what to keep, and the order."""
    db = data.database()
    asked, tasks = _asked(db), _tasks(db)
    left, middle, right = st.columns(3)
    with left:
        suite = state.pick("Suite", "suite", [*asked.suites, _ALL]) or _ALL
    top = board.top_tasks(tasks, asked.suites.get(suite, ()), asked.tags)
    with right:
        text = state.pick_text("Search", "search", placeholder="name of a candidate, model or base")
    with st.expander("Columns and filters"):
        columns = state.pick_many("Columns", "columns", list(tasks), top[:_MOST_COLUMNS])
        wanted, order = _filters(candidates, text)
    columns = columns or list(top[:1])
    with middle:
        average = [board.AVERAGE] if len(columns) > 1 else []
        ranked_by = state.pick("Rank by", "rank", [*columns, *average]) or ""
    return suite, ranked_by, columns, wanted, order


def _filters(candidates: Sequence[listing.ListedCandidate], text: str) -> tuple[board.Wanted, str]:
    first, second, third = st.columns(3)
    with first:
        sizes = state.pick_many("Model size", "size", _present(map(board.size_of, candidates), board.SIZES))
        order = state.pick("Order", "order", board.ORDERS) or board.ORDERS[0]
    with second:
        methods = state.pick_many("Method", "method", _present(map(board.method_of, candidates)))
        since = state.pick_date("Evaluated since", "since")
    with third:
        kinds = _present(map(board.quantization_of, candidates))
        quantizations = state.pick_many("Quantization", "quantization", kinds)
    return board.Wanted(text, methods, quantizations, sizes, since), order


def _present(found: Iterable[str], order: Iterable[str] = ()) -> list[str]:
    """Return what is there, in the given order, then by name."""
    names = set(found)
    known = [name for name in order if name in names]
    return [*known, *sorted(names - set(known))]


def _summary(shown: board.Board, rows: Sequence[board.Row]) -> None:
    counted = [row for row in rows if row.candidate is not None]
    bases = sum(row.is_base for row in rows)
    latest = max((row.candidate.evaluated for row in counted if row.candidate), default=None)
    parts = [
        f"{len(counted)} of {len(shown.rows)} candidates"
        if len(counted) < len(shown.rows)
        else f"{len(counted)} candidate{'s' if len(counted) != 1 else ''}",
        f"{bases} bases" if bases != 1 else "1 base",
        f"ranked by {shown.ranked_by}" + (f" ({shown.metric})" if shown.metric else ""),
        f"last evaluated {latest:%Y-%m-%d %H:%M} UTC" if latest else "",
    ]
    st.caption(literal(" · ".join(part for part in parts if part), 600))


def _frame(rows: Sequence[board.Row], shown: board.Board) -> pd.DataFrame:
    moments: dict[str, list[float]] = {}
    if shown.ranked_by != board.AVERAGE:
        headline = shown.metric
        for moment in _history(data.database(), (shown.ranked_by,)):
            name = moment.metric if moment.filter in ("none", "") else f"{moment.metric}, {moment.filter}"
            if name == headline:
                moments.setdefault(moment.candidate, []).append(moment.value)
    frame = pd.DataFrame([_record(row, shown, moments.get(row.name, [])) for row in rows])
    return frame if moments else frame.drop(columns="History")


def _record(row: board.Row, shown: board.Board, moments: Sequence[float]) -> dict[str, Any]:
    standing, one = row.standing, row.candidate
    others = [task for task in shown.columns if task != shown.ranked_by]
    return {
        "Candidate": row.name if row.is_base else f"   ↳ {row.name}",
        "Rank": _rank(row.rank),
        "Score": standing.value if standing else None,
        "Low": standing.ci[0] if standing and standing.ci else None,
        "High": standing.ci[1] if standing and standing.ci else None,
        "To base": row.to_base,
        "History": list(moments),
        **{f"task {task}": row.scores.get(task) for task in others},
        "Samples": standing.n if standing else None,
        "Method": board.method_of(one) if one else "not evaluated",
        "Parameters": one.parameters if one else None,
        "Quantization": one.quantization if one else None,
        "Evaluated": one.evaluated if one else None,
    }


def _rank(rank: tuple[int, int] | None) -> str | None:
    return None if rank is None else str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def _column_config(shown: board.Board) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    small = all(abs(row.standing.value) <= 1 for row in shown.rows if row.standing)
    score = "%.3f" if small else "%.4g"
    return {
        "Candidate": st.column_config.TextColumn("Candidate", pinned=True, width=190),
        "Rank": st.column_config.TextColumn("Rank", alignment="right", width=70, help=_RANK_HELP),
        "Score": number(shown.ranked_by, format=score, help=f"{shown.metric or 'score'}; the table is ranked by it"),
        "Low": number("95 % low", format=score, help="Low end of the 95 % interval"),
        "High": number("95 % high", format=score, help="High end of the 95 % interval"),
        "To base": number(
            "Δ base",
            format=score.replace("%", "%+"),
            help="Candidate − base. Whether it is real is what Compare tells.",
        ),
        "History": st.column_config.LineChartColumn(
            "History", width=80, help="The same score in earlier evaluations, oldest first"
        ),
        "Samples": number("Samples", format="localized", help="Scored documents behind the score"),
        "Parameters": number("Parameters", format="compact"),
        "Evaluated": st.column_config.DatetimeColumn("Evaluated", format="YYYY-MM-DD", timezone="UTC"),
        **{f"task {task}": number(task, format="%.3f") for task in shown.columns},
    }


def _lead_on(row: board.Row | None) -> None:
    """Lead from the selected candidate to what else is known of it."""
    if row is None:
        st.caption("Select a row to compare the candidate with its base, look at its samples, or open its card.")
        return
    if row.candidate is None:
        st.caption(f"{literal(row.name)} itself was not evaluated; its candidates stand below it.")
        return
    with st.container(key="lead-on", horizontal=True, gap="medium", vertical_alignment="center"):
        st.markdown(f"**{literal(row.name)}**", width="content")
        if not row.is_base:
            state.page_link(f"Compare with {row.base}", "compare", base=row.base, candidate=[row.name])
            state.page_link("What broke", "samples", base=row.base, candidate=row.name)
        state.page_link("Model card", "model", candidate=row.name)


show()

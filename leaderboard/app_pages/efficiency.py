"""What does quality cost? Scores against time, memory, trained parameters and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd
import streamlit as st
from parts import board
from parts.charts import SERIES, show_chart
from parts.comparing import ALL_TASKS, choose_suite, known_candidates, known_suites
from parts.data import cached, database
from parts.drawing import FIT_WIDTH
from parts.state import pick, pick_flag
from parts.tables import show_table
from parts.words import literal, score

from tuneboard.store.listing import ListedScore, listed_scores, listed_tasks
from tuneboard.store.overview import efforts

#: Points that still have room for their names.
_MOST_NAMES = 30
_MOST_METHODS = len(SERIES)

_scores = cached(listed_scores)
_tasks = cached(listed_tasks)
_efforts = cached(efforts)


@dataclass(frozen=True, slots=True)
class Axis:
    """What candidates can be held against."""

    title: str
    format: str
    help: str


AXES: Mapping[str, Axis] = {
    "trained parameters": Axis("parameters trained", "compact", "parameters that the training changed or added"),
    "training time": Axis("training time, s", "%.1f", "wall time of the training, over all sittings"),
    "training memory": Axis("peak memory of training, GiB", "%.3f", "largest memory of the training"),
    "training tokens": Axis("tokens trained on", "compact", "tokens that the training saw"),
    "evaluation speed": Axis("tokens/s while evaluated", "%.0f", "tokens that went through the model, of all results"),
    "evaluation time": Axis("evaluation time, s", "%.1f", "of all results together"),
    "answering speed": Axis("tokens/s by itself", "%.0f", "measured for a gate, one candidate at a time"),
    "answering latency": Axis("95th percentile of latency, s", "%.3f", "measured for a gate, one candidate at a time"),
    "answering memory": Axis("peak memory of answering, GiB", "%.3f", "measured for a gate, one candidate at a time"),
    "parameters": Axis("parameters", "compact", "of the whole model"),
}


def main() -> None:
    """Show the page."""
    st.title("Efficiency", anchor=False)
    db = database()
    first, second, third = st.columns(3)
    with first:
        suite = choose_suite(db)
    known, tasks = known_suites(db), _tasks(db)
    entries = known.suites.get(suite, ()) if suite != ALL_TASKS else ()
    top = board.top_tasks(tasks, entries, known.tags)
    with second:
        task = pick("Quality", "task", [*top, *sorted(set(tasks) - set(top))])
    if task is None:
        st.info("Nothing was evaluated.")
        st.stop()
    rows = _rows(task, board.headlines(_scores(db, (task,)), entries).get(task, {}))
    offered = [name for name in AXES if rows[name].notna().any()]
    if not offered:
        st.info(f"No candidate has a score on {literal(task)}.")
        st.stop()
    with third:
        against = pick("Against", "against", offered) or offered[0]
    logarithmic = pick_flag("logarithmic axis", "log", default=bool(_spans(rows[against])))
    _show_scatter(rows, task, against, logarithmic)
    _show_table(rows, task)


def _rows(task: str, chosen: Mapping[str, ListedScore]) -> pd.DataFrame:
    """Return a row per candidate that has a score, with everything it took."""
    db = database()
    listed = {one.name: one for one in known_candidates(db)}
    rows = []
    for one in _efforts(db):
        if one.name not in chosen or one.name not in listed:
            continue
        candidate, found = listed[one.name], chosen[one.name]
        low, high = found.metric.ci or (None, None)
        rows.append(
            {
                "candidate": one.name,
                "base": candidate.base,
                "method": board.method_of(candidate),
                "metric": found.metric.metric,
                "score": found.metric.value,
                "low": low,
                "high": high,
                "trained parameters": candidate.trained_parameters,
                "training time": one.training_s,
                "training memory": one.training_memory_gib,
                "training tokens": one.training_tokens,
                "evaluation speed": one.evaluation_tokens_per_s,
                "evaluation time": one.evaluation_s,
                "answering speed": one.tokens_per_s,
                "answering latency": one.latency_p95_s,
                "answering memory": one.memory_gib,
                "parameters": candidate.parameters,
                "machine": one.machine,
            }
        )
    frame = pd.DataFrame(
        rows, columns=["candidate", "base", "method", "metric", "score", "low", "high", *AXES, "machine"]
    )
    return frame.astype({name: "float64" for name in ("score", "low", "high", *AXES)})


def _spans(values: pd.Series) -> bool:
    """Tell whether positive values differ by more than a factor of 30."""
    known = values[values > 0]
    return len(known) > 1 and float(known.max()) > 30 * float(known.min())


def _show_scatter(rows: pd.DataFrame, task: str, against: str, logarithmic: bool) -> None:
    shown = rows.dropna(subset=[against, "score"])
    if logarithmic:
        shown = shown[shown[against] > 0]
    left_out = len(rows) - len(shown)
    if shown.empty:
        st.info(f"Of no candidate is the {against} known.")
        return
    span = f"{score(shown['score'].min())} to {score(shown['score'].max())}"
    description = f"Scatter plot of {len(shown)} candidates: {task} (score {span}) against {AXES[against].title}."
    show_chart(_scatter(shown, task, against, logarithmic), shown, f"{task} against {against}", description)
    if left_out:
        st.caption(f"Not in the chart, as their figure is not known ({against}): {left_out} of {len(rows)} candidates.")


def _scatter(rows: pd.DataFrame, task: str, against: str, logarithmic: bool) -> alt.LayerChart:
    rows = rows.rename(columns={against: "effort"})
    along = alt.Scale(type="log" if logarithmic else "linear", zero=False, padding=36, nice=not logarithmic)
    x = alt.X("effort:Q", title=AXES[against].title, scale=along, axis=alt.Axis(format="~s", tickCount=6))
    title = f"{task} ({rows['metric'].iloc[0]})"
    vertical = alt.Scale(zero=False, padding=18)
    y = alt.Y("score:Q", title=title, scale=vertical)
    methods = _methods(rows)
    rows["method"] = [method if method in methods else "other" for method in rows["method"]]
    legend = alt.Legend(title=None, orient="top", columns=4, symbolOpacity=1)
    scale = alt.Scale(domain=methods, range=list(SERIES[: len(methods)]))
    colour = alt.Color("method:N", scale=scale, legend=legend)
    base = alt.Chart(rows).encode(x=x, color=colour)
    points = base.mark_point(filled=True, size=95, opacity=0.95).encode(
        y=y,
        shape=alt.Shape("method:N", scale=alt.Scale(domain=methods), legend=legend),
        tooltip=[
            "candidate:N",
            "method:N",
            alt.Tooltip("score:Q", format=".4f"),
            alt.Tooltip("effort:Q", title=AXES[against].title, format=",.4~g"),
        ],
    )
    layers = [base.mark_rule(opacity=0.45).encode(y=alt.Y("low:Q", title=title, scale=vertical), y2="high:Q"), points]
    if len(rows) <= _MOST_NAMES:
        layers.append(base.mark_text(align="left", dx=9, dy=-7, fontSize=11, limit=150).encode(y=y, text="candidate:N"))
    return alt.layer(*layers).properties(autosize=FIT_WIDTH, height=380)


def _methods(rows: pd.DataFrame) -> list[str]:
    known: Sequence[str] = list(rows["method"].value_counts().index)
    return list(known) if len(known) <= _MOST_METHODS else [*known[: _MOST_METHODS - 1], "other"]


def _show_table(rows: pd.DataFrame, task: str) -> None:
    config = st.column_config
    known = [name for name in AXES if rows[name].notna().any()]
    frame = rows[["candidate", "method", "base", "score", "low", "high", *known, "machine"]].sort_values(
        "score", ascending=False, kind="stable"
    )
    if frame["machine"].isna().all():
        frame = frame.drop(columns="machine")
    show_table(
        frame,
        f"efficiency on {task}",
        {
            "candidate": config.TextColumn(pinned=True, width=150),
            "machine": config.TextColumn("measured on"),
            "score": config.NumberColumn(task, format="%.4f"),
            "low": config.NumberColumn("95 % low", format="%.4f"),
            "high": config.NumberColumn("95 % high", format="%.4f"),
            **{
                name: config.NumberColumn(AXES[name].title, format=AXES[name].format, help=AXES[name].help)
                for name in known
            },
        },
    )


main()

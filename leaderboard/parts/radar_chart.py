"""Radar chart: a spoke per task, a closed line per candidate. Vega has none, so that its lines are computed here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from parts.drawing import FIT_WIDTH, series_scale

_GREY = "#7C8590"
#: Circles of the grid, and how far the names of tasks stand from the centre, in radii.
_RINGS, _NAMES = 5, 1.12
#: Half of what is drawn, in radii: room for the names.
_REACH = 1.22


def outer_ring(values: Sequence[float]) -> float:
    """Return the score of the outermost ring: the next fifth above all scores, at most 1.

    Args:
        values: Scores from 0 to 1, at least one.
    """
    return max(0.2, min(1.0, math.ceil(max(values) * 5 - 1e-9) / 5))


def radar(scores: pd.DataFrame, tasks: Sequence[str], candidates: Sequence[str]) -> alt.LayerChart:
    """Draw a radar chart.

    Args:
        scores: ``candidate``, ``task`` and ``score`` from 0 to 1; each candidate has all tasks.
        tasks: At least three, clockwise from the top.
        candidates: In the order of their colours.
    """
    outer = outer_ring(scores["score"])
    x, y = _channel("x", "width", "height"), _channel("y", "height", "width")
    hidden = {"x": x, "y": y}
    colours = alt.Color(
        "candidate:N",
        scale=series_scale(candidates),
        legend=alt.Legend(
            title=None,
            orient="top",
            columns=3,
            labelLimit=160,
            symbolType="circle",
            symbolStrokeWidth=0,
            symbolOpacity=1,
        ),
    )
    grid, spokes, names, rings = _frame(tasks, outer)
    lines = alt.Chart(_lines(scores, tasks, candidates, outer)).encode(**hidden, color=colours, order="step:Q")
    points = alt.Chart(_lines(scores, tasks, candidates, outer).query(f"step < {len(tasks)}"))
    return alt.layer(
        alt.Chart(grid)
        .mark_line(color=_GREY, opacity=0.3, strokeWidth=1)
        .encode(**hidden, order="step:Q", detail="ring:N"),
        alt.Chart(spokes).mark_line(color=_GREY, opacity=0.3, strokeWidth=1).encode(**hidden, detail="spoke:N"),
        lines.mark_line(strokeWidth=2.2).encode(strokeDash=_dashes(candidates)),
        points.mark_point(filled=True, size=55, opacity=1).encode(
            **hidden, color=colours, tooltip=["candidate:N", "task:N", alt.Tooltip("score:Q", format=".4f")]
        ),
        alt.Chart(rings)
        .mark_text(fontSize=10, color=_GREY, dx=4, dy=-5, align="left")
        .encode(**hidden, text="label:N"),
        *(
            alt.Chart(names[names["side"] == side])
            .mark_text(fontSize=12, color=_GREY, align=side, limit=150)
            .encode(**hidden, text="task:N")
            for side in ("left", "center", "right")
            if (names["side"] == side).any()
        ),
    ).properties(autosize=FIT_WIDTH, height=400)


def _channel(name: str, own: str, other: str) -> alt.X | alt.Y:
    """Return a channel that keeps circles round whatever the chart's width is."""
    reach = f"{_REACH} * max(1, {own} / {other})"
    scale = alt.Scale(domainMin=alt.ExprRef(f"-{reach}"), domainMax=alt.ExprRef(reach), nice=False, zero=False)
    return (alt.X if name == "x" else alt.Y)(f"{name}:Q", axis=None, scale=scale)


def _dashes(candidates: Sequence[str]) -> alt.StrokeDash:
    patterns = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3]]
    scale = alt.Scale(domain=list(candidates), range=[patterns[at % len(patterns)] for at in range(len(candidates))])
    return alt.StrokeDash("candidate:N", scale=scale, legend=None)


def _point(place: int, of: int, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * place / of
    return radius * math.sin(angle), radius * math.cos(angle)


def _frame(tasks: Sequence[str], outer: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return rings, spokes, names of tasks and labels of rings."""
    count = len(tasks)
    grid = [
        (ring, step, *_point(step, count, ring / _RINGS)) for ring in range(1, _RINGS + 1) for step in range(count + 1)
    ]
    spokes = [(spoke, *_point(spoke, count, end)) for spoke in range(count) for end in (0.0, 1.0)]
    named = [(task, *_point(place, count, _NAMES)) for place, task in enumerate(tasks)]
    sides = ["center" if abs(x) < 0.1 else "left" if x > 0 else "right" for _, x, _ in named]
    rings = [(f"{outer * ring / _RINGS:.2g}", *_point(0, count, ring / _RINGS)) for ring in range(1, _RINGS + 1)]
    return (
        pd.DataFrame(grid, columns=["ring", "step", "x", "y"]),
        pd.DataFrame(spokes, columns=["spoke", "x", "y"]),
        pd.DataFrame(named, columns=["task", "x", "y"]).assign(side=sides),
        pd.DataFrame(rings, columns=["label", "x", "y"]),
    )


def _lines(scores: pd.DataFrame, tasks: Sequence[str], candidates: Sequence[str], outer: float) -> pd.DataFrame:
    known = {(row.candidate, row.task): row.score for row in scores.itertuples()}
    rows = []
    for candidate in candidates:
        for step in range(len(tasks) + 1):
            task = tasks[step % len(tasks)]
            value = known[candidate, task]
            rows.append((candidate, task, value, step, *_point(step, len(tasks), value / outer)))
    return pd.DataFrame(rows, columns=["candidate", "task", "score", "step", "x", "y"])

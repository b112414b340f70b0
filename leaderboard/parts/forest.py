"""Forest plot: differences with their intervals, one row per task, candidates below each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import altair as alt
import pandas as pd

from parts.charts import STATUS_COLOURS
from parts.drawing import FIT_WIDTH, series_scale
from parts.words import STATUS, interval, score, signed

_SHAPES = {"improved": "triangle-up", "regressed": "triangle-down", "equivalent": "square", "inconclusive": "circle"}
#: Pixels: of a candidate's lane, and between tasks.
_LANE, _GAP = 15, 11
_GREY = "#7C8590"


def forest_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lay out rows of a comparison so that better is to the right, whichever direction of a metric is better.

    Args:
        rows: Of headline metrics, as ``Compared`` has them.

    Returns:
        Those on scales of 0 to 1, and the others relative to the score of the base.
    """
    rows = rows.dropna(subset=["delta", "base", "candidate"])
    unit = rows[["base", "candidate"]].abs().max(axis=1) <= 1
    sign = rows["higher_is_better"].map({True: 1.0, False: -1.0})
    size = rows["base"].abs().where(~unit & (rows["base"] != 0), 1.0)
    ends = pd.concat([rows["ci_low"] * sign / size, rows["ci_high"] * sign / size], axis=1)
    out = pd.DataFrame(
        {
            "task": rows["task"],
            "label": _labels(rows),
            "candidate": rows["candidate_name"],
            "gain": rows["delta"] * sign / size,
            "low": ends.min(axis=1),
            "high": ends.max(axis=1),
            "margin": rows["margin"].astype(float) / size,
            "noise": rows["noise_floor"].astype(float) / size,
            "status": rows["status"],
            "word": [STATUS[status].label for status in rows["status"]],
            "scores": [f"{score(row.base)} → {score(row.candidate)}" for row in rows.itertuples()],
            "difference": [f"{signed(row.delta)} {interval(row.ci_low, row.ci_high)}" for row in rows.itertuples()],
            "p": rows["p_adjusted"],
            "samples": rows["n"],
        }
    )
    return out[unit], out[~unit]


def forest(rows: pd.DataFrame, candidates: Sequence[str], relative: bool = False) -> alt.LayerChart:
    """Draw a forest plot.

    Args:
        rows: From ``forest_rows``, at least one.
        candidates: In the order in which they stand below each other.
        relative: Whether differences are relative to the base's score.
    """
    shown = [name for name in candidates if (rows["candidate"] == name).any()]
    labels = list(dict.fromkeys(rows["label"]))
    height = _LANE * len(shown) + _GAP
    x, x2 = _horizontal(rows, relative), alt.X2
    y = alt.Y(
        "label:N",
        title=None,
        scale=alt.Scale(domain=labels, paddingInner=0.12, paddingOuter=0.06),
        axis=alt.Axis(labelLimit=220, labelPadding=10, ticks=False, domain=False),
    )
    lane = alt.YOffset("candidate:N", scale=alt.Scale(domain=shown))
    whole = alt.Chart(rows).encode(y=y, yOffset=lane)
    noise = alt.Chart(_mirrored(rows, "noise")).encode(y=y, yOffset=lane)
    margins = alt.Chart(_mirrored(rows.drop_duplicates("label"), "margin")).encode(y=y)
    edge = {"clip": True, "color": _GREY, "opacity": 0.8, "thickness": 1.2, "size": height - 4}
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]}))
    return (
        alt.layer(
            margins.mark_bar(clip=True, color=_GREY, opacity=0.13).encode(x=x("below"), x2=x2("margin")),
            margins.mark_tick(**edge).encode(x=x("below")),
            margins.mark_tick(**edge).encode(x=x("margin")),
            zero.mark_rule(color=_GREY).encode(x=x("zero")),
            noise.mark_rule(clip=True, color=_GREY, strokeWidth=7, opacity=0.35).encode(x=x("below"), x2=x2("noise")),
            whole.mark_rule(clip=True, strokeWidth=2).encode(x=x("low"), x2=x2("high"), color=_colour(shown, False)),
            whole.mark_point(filled=True, size=85, opacity=1).encode(
                x=x("gain"), color=_colour(shown, True), shape=_shape(), tooltip=_tooltip()
            ),
            whole.mark_text(align="left", baseline="middle", dx=10, fontSize=12).encode(
                x=alt.value("width"), text="word:N", color=_status_colour()
            ),
        )
        .resolve_scale(color="independent", shape="independent")
        .properties(
            autosize=FIT_WIDTH,
            height=height * len(labels),
            padding={"left": 4, "right": 8, "top": 6, "bottom": 10},
        )
    )


def _horizontal(rows: pd.DataFrame, relative: bool) -> Callable[[str], alt.X]:
    """Return what makes an x channel of a column; all have one scale and one axis."""
    reach = _reach(rows)
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    title = "← worse · difference to the base · better →"
    axis = alt.Axis(title=title, format="+.1~%" if relative else "+.3~f", tickCount=7)
    return lambda column: alt.X(f"{column}:Q", scale=scale, axis=axis)


def _mirrored(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    known = rows.dropna(subset=[column])
    return known.assign(below=-known[column])


def _colour(shown: Sequence[str], with_legend: bool) -> alt.Color:
    """Colour candidates where there are several, else statuses."""
    if len(shown) == 1:
        return _status_colour()
    legend = alt.Legend(title=None, orient="top", symbolType="circle", columns=3, labelLimit=180)
    return alt.Color("candidate:N", scale=series_scale(shown), legend=legend if with_legend else None)


def _status_colour() -> alt.Color:
    scale = alt.Scale(domain=list(_SHAPES), range=[STATUS_COLOURS[status] for status in _SHAPES])
    return alt.Color("status:N", scale=scale, legend=None)


def _shape() -> alt.Shape:
    return alt.Shape("status:N", scale=alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values())), legend=None)


def _tooltip() -> list[alt.Tooltip]:
    titles = {"task": "task", "candidate": "candidate", "scores": "score", "difference": "difference, 95 %"}
    return [
        *(alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()),
        alt.Tooltip("p:Q", title="p corrected", format=".2g"),
        alt.Tooltip("samples:Q", title="samples", format=","),
        alt.Tooltip("margin:Q", title="margin", format=".4f"),
        alt.Tooltip("word:N", title="status"),
    ]


def _reach(rows: pd.DataFrame) -> float:
    """Return how far the axis goes to both sides: as far as the intervals, and the margins where they are near."""
    far = float(rows[["low", "high", "gain"]].abs().max().max())
    margin = rows["margin"].max()
    if pd.notna(margin):
        far = max(far, min(float(margin), 2 * far) if far else float(margin))
    return far * 1.06 or 0.01


def _labels(rows: pd.DataFrame) -> list[str]:
    """Name tasks; what is in a group is indented and loses the group's name where that leaves it alone with its own."""
    short = {row.task: _short(row) for row in rows.itertuples()}
    taken = pd.Series(short).value_counts()
    return [short[task] if taken[short[task]] == 1 else f"· {task}" for task in rows["task"]]


def _short(row: object) -> str:
    task, group, role = (getattr(row, name) for name in ("task", "member_of", "role"))
    if isinstance(group, str):
        return f"· {task.removeprefix(f'{group}_')}"
    return f"{task} ({role})" if role in ("target", "guard") else str(task)

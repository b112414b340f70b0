"""Heatmap of a group's subjects: a row per subject, a column per candidate, the number in every cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from math import nan
from typing import Any

import altair as alt
import pandas as pd

from parts.drawing import FIT_WIDTH
from parts.words import STATUS

#: Pixels of a row, and of the narrowest cell that has room for its number; on a phone the signs alone may stand there.
_ROW, _CELL = 21, 46


def cells(rows: pd.DataFrame, group: str, members: Mapping[str, Sequence[str]], base: str | None) -> pd.DataFrame:
    """Return a row per cell: the group itself, the groups in it, and its tasks.

    Args:
        rows: Of headline metrics, as ``Compared`` has them.
        group: The group.
        members: Group to the tasks in it.
        base: Shows scores, with the base of this name as the first column; None shows differences.
    """
    inside = set(members.get(group, ()))
    wanted = [name for name in rows["task"].unique() if name in inside or _is_within(members.get(name, ()), inside)]
    outer = max((name for name, tasks in members.items() if inside <= set(tasks)), key=lambda name: len(members[name]))
    found = rows[rows["task"].isin(wanted)]
    areas = {task: _area(task, group, members) for task in wanted}
    out = pd.DataFrame(
        {
            "subject": [task if task == group else _short(task, outer) for task in found["task"]],
            "task": found["task"],
            "area": [areas[task] for task in found["task"]],
            "kind": found["kind"],
            "candidate": found["candidate_name"],
            "score": found["candidate"],
            "gain": found["delta"] * found["higher_is_better"].map({True: 1.0, False: -1.0}),
            "status": [STATUS[status].label for status in found["status"]],
            "shown": [_shown(row, base) for row in found.itertuples()],
            "mark": [_mark(status) if base is None else "" for status in found["status"]],
            "difference": found["delta"],
            "p": found["p_adjusted"],
            "samples": found["n"],
        }
    )
    if base is None:
        return out
    first = found.drop_duplicates("task")
    nothing = {"gain": nan, "difference": nan, "p": nan, "status": ""}
    own = out.loc[first.index].assign(
        candidate=base, score=first["base"], shown=[_brief(value) for value in first["base"]], **nothing
    )
    return pd.concat([own, out], ignore_index=True)


def heatmap(found: pd.DataFrame, order: Sequence[str], columns: Sequence[str], differences: bool) -> alt.LayerChart:
    """Draw a heatmap.

    Args:
        found: From ``cells``, at least one.
        order: Subjects from top to bottom.
        columns: Candidates from left to right.
        differences: Whether differences are shown, else scores.
    """
    value = "gain" if differences else "score"
    reach = float(found[value].abs().max()) or 0.01
    low, high = (-reach, reach) if differences else (float(found[value].min()), float(found[value].max()))
    scale = _colours(low, high, differences)
    roomy = f"width / {len(columns)} >= {_CELL}"
    dark = f"abs(datum.{value}) > {0.6 * reach}" if differences else f"datum.{value} > {low + 0.6 * (high - low)}"
    title = "← worse · difference · better →" if differences else "score"
    angle = -45 if len(columns) > 3 else 0
    base = alt.Chart(found).encode(
        x=alt.X(
            "candidate:N",
            title=None,
            scale=alt.Scale(domain=list(columns), paddingInner=0.03),
            axis=alt.Axis(orient="top", labelAngle=angle, labelLimit=130, labelFlush=False, ticks=False),
        ),
        y=alt.Y(
            "subject:N",
            title=None,
            scale=alt.Scale(domain=list(order), paddingInner=0.06),
            axis=alt.Axis(labelLimit=230, labelFlush=False, labelPadding=8, ticks=False, domain=False),
        ),
        tooltip=_tooltip(),
    )
    legend = alt.Legend(title=title, orient="top", direction="horizontal", gradientLength=180, format=".2~f")
    return alt.layer(
        base.mark_rect().encode(color=alt.Color(f"{value}:Q", scale=scale, legend=legend)),
        *(
            base.mark_text(fontSize=11).encode(
                text=f"{text}:N",
                color=alt.condition(dark, alt.value("#FFFFFF"), alt.value("#1B2430")),
                opacity=alt.condition(fits, alt.value(1), alt.value(0)),
            )
            for text, fits in (("shown", roomy), ("mark", f"!({roomy})"))
        ),
    ).properties(autosize=FIT_WIDTH, height=_ROW * len(order))


def _colours(low: float, high: float, differences: bool) -> alt.Scale:
    if not differences:
        return alt.Scale(domain=[low, high], range=["#F1F5F9", "#2166AC"], interpolate="lab")
    # Both ends dark, both told apart by colour-blind eyes; the middle nearly white.
    return alt.Scale(domain=[low, 0.0, high], range=["#B35806", "#F7F7F7", "#2166AC"], interpolate="lab")


def _tooltip() -> list[str | alt.Tooltip]:
    return [
        "task:N",
        "candidate:N",
        alt.Tooltip("score:Q", format=".4f"),
        alt.Tooltip("difference:Q", format="+.4f"),
        "status:N",
        alt.Tooltip("p:Q", title="p corrected", format=".2g"),
        alt.Tooltip("samples:Q", format=","),
    ]


def subjects_in_order(found: pd.DataFrame, by: str) -> list[str]:
    """Return the names of rows from top to bottom: groups first, then subjects.

    Args:
        found: From ``cells``.
        by: ``area`` (as a comparison has them), ``name`` or ``difference`` (the largest loss of any candidate first).
    """
    rows = found.assign(worst=found.groupby("task")["gain"].transform("min")).drop_duplicates("task")
    groups, tasks = rows[rows["kind"] == "group"], rows[rows["kind"] != "group"]
    if by != "area":
        tasks = tasks.sort_values({"name": ["subject"], "difference": ["worst", "subject"]}[by], kind="stable")
    return [*groups["subject"], *tasks["subject"]]


def _shown(row: Any, base: str | None) -> str:
    if base is not None:
        return _brief(row.candidate)
    return f"{_brief(row.delta, '+')} {_mark(row.status)}".rstrip()


def _mark(status: str) -> str:
    return STATUS[status].icon if status in ("improved", "regressed") else ""


def _brief(value: float, sign: str = "") -> str:
    """Write a number with three places, as cells have room for."""
    if not value:
        return "0"
    return (f"{value:{sign}.3f}" if abs(value) < 10 else f"{value:{sign}.3g}").replace("-", "−")


def _area(task: str, group: str, members: Mapping[str, Sequence[str]]) -> str:
    """Return the smallest group inside of the group that holds a task, the group itself where there is none."""
    inside = set(members[group])
    holding = [name for name, tasks in members.items() if task in tasks and _is_within(tasks, inside)]
    return min(holding, key=lambda name: len(members[name]), default=group)


def _is_within(tasks: Collection[str], inside: Set[str]) -> bool:
    return bool(tasks) and set(tasks) <= inside


def _short(task: str, group: str) -> str:
    return task.removeprefix(f"{group}_").replace("_", " ")

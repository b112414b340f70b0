"""Forgetting: what candidates gained on their targets against what they lost on the guards."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from parts.drawing import FIT_WIDTH, series_scale
from tuneboard.compare import CandidateComparison


def forgetting_rows(candidates: Sequence[CandidateComparison]) -> pd.DataFrame:
    """Return a row per candidate that was compared on a target or a guard.

    Args:
        candidates: Of ``Compared``.
    """
    return pd.DataFrame(
        [
            {
                "candidate": one.name,
                "gained on targets": one.forgetting.target_gain,
                "lost on guards": one.forgetting.guard_loss,
                "front": one.forgetting.front,
                "improved targets": ", ".join(one.forgetting.gained),
                "regressed guards": ", ".join(one.forgetting.lost),
            }
            for one in candidates
            if one.forgetting.target_gain is not None or one.forgetting.guard_loss is not None
        ],
        columns=["candidate", "gained on targets", "lost on guards", "front", "improved targets", "regressed guards"],
    )


def forgetting_plot(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw gains against losses; the best place is the upper left.

    Args:
        rows: From ``forgetting_rows``, all with a gain and a loss.
    """
    rows = rows.rename(columns={"gained on targets": "gain", "lost on guards": "loss"})
    rows["place"] = ["beaten by none in both" if front == 1 else "beaten by another" for front in rows["front"]]
    far = max(float(rows["loss"].max()), 0.002) * 1.3
    axis = alt.Axis(tickCount=6)
    x = alt.X(
        "loss:Q", title="lost on guards · worse →", scale=alt.Scale(domain=[-0.04 * far, far], nice=False), axis=axis
    )
    y = alt.Y("gain:Q", title="gained on targets · better →", scale=alt.Scale(zero=True, padding=24), axis=axis)
    base = alt.Chart(rows)
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]}))
    places = ["beaten by none in both", "beaten by another"]
    names = rows["candidate"].tolist()
    return alt.layer(
        zero.mark_rule(color="#7C8590", strokeDash=[4, 3]).encode(x="zero:Q"),
        zero.mark_rule(color="#7C8590", strokeDash=[4, 3]).encode(y="zero:Q"),
        base.mark_point(filled=True, size=130, opacity=1).encode(
            x=x,
            y=y,
            shape=alt.Shape(
                "place:N",
                scale=alt.Scale(domain=places, range=["diamond", "circle"]),
                # Symbols in black could not be seen in the dark theme.
                legend=alt.Legend(
                    title=None, orient="top", labelLimit=220, symbolFillColor="#7C8590", symbolStrokeColor="#7C8590"
                ),
            ),
            color=_colour(names),
            tooltip=[
                "candidate:N",
                alt.Tooltip("gain:Q", title="gained on targets", format="+.4f"),
                alt.Tooltip("loss:Q", title="lost on guards", format=".4f"),
                "improved targets:N",
                "regressed guards:N",
            ],
        ),
        base.mark_text(align="left", dx=10, dy=-8, fontSize=12, limit=180).encode(
            x=x, y=y, text="candidate:N", color=_colour(names)
        ),
    ).properties(autosize=FIT_WIDTH, height=300)


def _colour(names: Sequence[str]) -> alt.Color:
    return alt.Color("candidate:N", scale=series_scale(names), legend=None)

"""What lies behind a score, as tables and charts: confusion, reliability, accuracy of the most confident answers."""

from __future__ import annotations

import altair as alt
import pandas as pd

from parts.charts import SERIES
from parts.words import harmless
from tuneboard.stats import Calibration
from tuneboard.store.reports import LabelReport

_GREY = "#7C8590"
_OTHER = "(no label)"
#: Labels whose numbers still fit into the cells of the confusion.
_MOST_WRITTEN = 20


def labels_frame(labels: LabelReport) -> pd.DataFrame:
    """Return a row per label, and the averages below."""
    rows = [*labels.scores, *labels.averages]
    return pd.DataFrame(
        {
            "label": [harmless(row.label, 100) for row in rows],
            "precision": [row.precision for row in rows],
            "recall": [row.recall for row in rows],
            "F1": [row.f1 for row in rows],
            "meant": [row.support for row in rows],
            "said": [row.said for row in rows],
        }
    )


def confusion_frame(labels: LabelReport) -> pd.DataFrame:
    """Return how often each label was answered by each, and which share of the label's samples that is."""
    names = [harmless(name, 60) for name in (*labels.labels, _OTHER)]
    width = len(names) if any(row[-1] for row in labels.confusion) else len(names) - 1
    return pd.DataFrame(
        [
            {
                "meant": names[place],
                "said": names[answer],
                "samples": row[answer],
                "share": row[answer] / max(1, sum(row)),
            }
            for place, row in enumerate(labels.confusion)
            for answer in range(width)
        ]
    )


def confusion_chart(frame: pd.DataFrame) -> alt.LayerChart | alt.Chart:
    """Draw the confusion as a heatmap, its numbers in the cells where they fit."""
    order = list(dict.fromkeys(frame["said"]))
    base = alt.Chart(frame).encode(
        x=alt.X("said:N", sort=order, title="said", axis=alt.Axis(orient="top", labelLimit=120, labelAngle=-30)),
        y=alt.Y("meant:N", sort=order, title="meant", axis=alt.Axis(labelLimit=120)),
        tooltip=["meant:N", "said:N", "samples:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    scale = alt.Scale(domain=[0, 1], range=["#7C859022", SERIES[0]])
    cells = base.mark_rect().encode(color=alt.Color("share:Q", title="share of the label", scale=scale, legend=None))
    if len(order) > _MOST_WRITTEN:
        return cells
    # On the darkest cells only white can be read, in both themes; elsewhere the theme's own colour.
    light = base.transform_filter("datum.share <= 0.5").mark_text(color=_GREY, fontSize=12).encode(text="samples:Q")
    dark = base.transform_filter("datum.share > 0.5").mark_text(color="white", fontSize=12).encode(text="samples:Q")
    return alt.layer(cells, light, dark)


def reliability_frame(found: Calibration) -> pd.DataFrame:
    """Return a row per bin of answers of like confidence."""
    return pd.DataFrame(
        {
            "confidence": [one.confidence for one in found.bins],
            "accuracy": [one.accuracy for one in found.bins],
            "low": [one.ci[0] for one in found.bins],
            "high": [one.ci[1] for one in found.bins],
            "samples": [one.n for one in found.bins],
            "from": [one.low for one in found.bins],
            "to": [one.high for one in found.bins],
        }
    )


def reliability_chart(frame: pd.DataFrame) -> alt.LayerChart:
    """Draw accuracy over confidence, with the line on which both are equal."""
    unit = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("confidence:Q", scale=unit, title="confidence", axis=alt.Axis(format="%"))
    y = alt.Y("accuracy:Q", scale=unit, title="accuracy", axis=alt.Axis(format="%"))
    diagonal = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    base = alt.Chart(frame)
    return alt.layer(
        alt.Chart(diagonal).mark_line(color=_GREY, strokeDash=[4, 3]).encode(x=x, y=y),
        base.mark_rule(color=SERIES[0], opacity=0.6).encode(x=x, y=alt.Y("low:Q", scale=unit), y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color=SERIES[0]).encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("confidence:Q", format=".1%"),
                alt.Tooltip("accuracy:Q", format=".1%"),
                "samples:Q",
            ],
        ),
    ).properties(height=320)


def selective_frame(found: Calibration) -> pd.DataFrame:
    """Return the accuracy of the most confident answers, by how many of them are kept."""
    return pd.DataFrame(
        {
            "kept": [one.coverage for one in found.selective],
            "accuracy": [one.accuracy for one in found.selective],
            "samples": [one.n for one in found.selective],
            "least confidence": [one.least_confidence for one in found.selective],
        }
    )


def selective_chart(frame: pd.DataFrame) -> alt.Chart:
    """Draw the accuracy over the share of answers that are kept."""
    return (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=60, filled=True), color=SERIES[2])
        .encode(
            x=alt.X(
                "kept:Q", scale=alt.Scale(domain=[0, 1]), title="most confident answers kept", axis=alt.Axis(format="%")
            ),
            y=alt.Y("accuracy:Q", scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format="%")),
            tooltip=[alt.Tooltip("kept:Q", format=".0%"), alt.Tooltip("accuracy:Q", format=".1%"), "samples:Q"],
        )
        .properties(height=320)
    )

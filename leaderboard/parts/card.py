"""What a model's card says: facts, scores and curves as tables, and the commands that make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from parts.charts import SERIES
from parts.words import NOTHING, harmless
from tuneboard.store.listing import EvaluationRow, ListedScore
from tuneboard.store.training import Point
from tuneboard.store.trainings import TrainingRow

#: Points of a curve that are drawn; its data has them all.
_MOST_POINTS = 400
#: Title of a chart to the curves in it, with what each is called there.
CURVES: Mapping[str, Mapping[str, str]] = {
    "Loss": {"loss": "training", "validation_loss": "validation"},
    "Learning rate": {"learning_rate": "learning rate"},
    "Gradient norm": {"grad_norm": "gradient norm"},
    "Tokens per second": {"tokens_per_s": "tokens per second"},
}


def facts_frame(
    candidate: Mapping[str, Any], training: TrainingRow | None, run: Mapping[str, Any] | None
) -> pd.DataFrame:
    """Return where a candidate comes from, a line a fact.

    Args:
        candidate: Its row of the database.
        training: What made it, where one is known.
        run: What evaluated it last.
    """
    facts: list[tuple[str, str, Any]] = [
        ("Weights", "fingerprint", candidate["fingerprint"]),
        ("Weights", "model", candidate["model_id"]),
        ("Weights", "model revision", candidate["model_revision"]),
        ("Weights", "model SHA-256", candidate["model_sha256"]),
        ("Weights", "adapter", candidate["adapter_path"]),
        ("Weights", "adapter kind", candidate["adapter_kind"]),
        ("Weights", "adapter SHA-256", candidate["adapter_sha256"]),
        ("Weights", "first seen", f"{candidate['created']:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if training:
        facts += [
            ("Training", "id", training.id),
            ("Training", "method", training.method),
            ("Training", "base", training.base_id),
            ("Training", "base revision", training.base_revision),
            ("Training", "base SHA-256", training.base_sha256),
            ("Training", "identity (recipe, data, base)", training.fingerprint),
            ("Training", "seed", training.seed),
            ("Training", "source commit", training.git_commit),
            ("Training", "started", f"{training.started:%Y-%m-%d %H:%M:%S} UTC"),
            ("Training", "folder", training.folder),
            *_flat("Training data", training.data),
            *_flat("Training hardware", training.hardware),
            *_flat("Training versions", training.versions),
        ]
    if run:
        facts += [
            ("Evaluation", "run", run["id"]),
            ("Evaluation", "suite", run["suite"]),
            *_flat("Evaluation engine", run["engine"]),
            *_flat("Evaluation hardware", run["hardware"]),
            *_flat("Evaluation seeds", run["seeds"]),
            *_flat("Evaluation versions", run["versions"]),
        ]
    rows = [(group, name, harmless(str(value), 500)) for group, name, value in facts if value not in (None, "")]
    return pd.DataFrame(rows, columns=["About", "Fact", "Value"])


def scores_frame(scores: Sequence[ListedScore]) -> pd.DataFrame:
    """Return all scores of a candidate, groups first."""
    ordered = sorted(scores, key=lambda score: (score.kind != "group", score.task))
    return pd.DataFrame(
        {
            "Task": [score.task for score in ordered],
            "Metric": [score.metric.metric for score in ordered],
            "Filter": [None if score.metric.filter in ("none", "") else score.metric.filter for score in ordered],
            "Score": [score.metric.value for score in ordered],
            "Low": [score.metric.ci[0] if score.metric.ci else None for score in ordered],
            "High": [score.metric.ci[1] if score.metric.ci else None for score in ordered],
            "Samples": [score.n for score in ordered],
            "Of": [score.n_docs for score in ordered],
            "Failed": [score.failed for score in ordered],
            "Status": [score.status for score in ordered],
        }
    )


def evaluations_frame(rows: Sequence[EvaluationRow]) -> pd.DataFrame:
    """Return all evaluations of a candidate, newest first."""
    return pd.DataFrame(
        {
            "Evaluated": [row.created for row in rows],
            "Task": [row.task for row in rows],
            "Status": [
                row.status if row.reason is None else f"{row.status}: {harmless(row.reason, 300)}" for row in rows
            ],
            "Samples": [row.n for row in rows],
            "Few-shot": [row.num_fewshot for row in rows],
            "Seconds": [row.seconds for row in rows],
            "Tokens": [row.tokens for row in rows],
            "Engine": [row.engine for row in rows],
            "Precision": [
                row.dtype if row.quantization is None else f"{row.dtype}, {row.quantization}" for row in rows
            ],
            "Repeat": [row.repeat for row in rows],
            "Data hash": [row.data_hash for row in rows],
            "Run": [row.run for row in rows],
        }
    )


def curve_frame(points: Sequence[Point], curves: Mapping[str, str]) -> pd.DataFrame:
    """Return the points of some curves.

    Args:
        points: All that a training logged.
        curves: Name of a curve to what it is called.
    """
    rows = [(step, epoch, curves[name], value) for step, epoch, name, value in points if name in curves]
    return pd.DataFrame(rows, columns=["Step", "Epoch", "Curve", "Value"])


def curve_chart(frame: pd.DataFrame, title: str) -> alt.Chart:
    """Draw curves over the steps of a training.

    Args:
        frame: From ``curve_frame``.
        title: Of the vertical axis.
    """
    every = max(1, len(frame) // (_MOST_POINTS * frame["Curve"].nunique()))
    thinned = frame[frame.groupby("Curve").cumcount() % every == 0]
    names = list(dict.fromkeys(frame["Curve"]))
    legend = alt.Legend(orient="top-right", title=None) if len(names) > 1 else None
    colour = alt.Color(
        "Curve:N",
        title=None,
        scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])),
        legend=legend,
    )
    marked = len(thinned) <= 40 * len(names)
    return (
        alt.Chart(thinned)
        .mark_line(point=alt.OverlayMarkDef(size=28) if marked else False, strokeWidth=1.8)
        .encode(
            x=alt.X("Step:Q", title="step", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("Value:Q", title=title.lower(), scale=alt.Scale(zero=False)),
            color=colour,
            strokeDash=alt.StrokeDash(
                "Curve:N", legend=legend, scale=alt.Scale(domain=names, range=[[1, 0], [5, 3]][: len(names)])
            ),
            tooltip=["Curve:N", "Step:Q", alt.Tooltip("Epoch:Q", format=".2f"), alt.Tooltip("Value:Q", format=".5g")],
        )
        .properties(height=230)
    )


def duration(seconds: float | None) -> str:
    """Write a time that something took."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: float | None) -> str:
    """Write a large number short."""
    if number is None:
        return NOTHING
    for least, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= least:
            return f"{number / least * (10 if sign == 'k' else 1):.3g} {sign}"
    return f"{number:,.0f}"


def _flat(group: str, content: Mapping[str, Any], above: str = "") -> list[tuple[str, str, Any]]:
    """Return nested content as lines, down to what fits on one."""
    lines: list[tuple[str, str, Any]] = []
    for name, value in content.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping) and len(json.dumps(value, default=str)) > 80:
            lines += _flat(group, value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for place, one in enumerate(value[:20], start=1):
                lines += _flat(group, one, f"{path} {place}: ")
        else:
            shown = value if isinstance(value, str | int | float | None) else json.dumps(value, default=str)
            lines.append((group, path, shown))
    return lines

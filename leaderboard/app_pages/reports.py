"""What lies behind a score? Labels, confidence and generated answers of one candidate on one task."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from parts import report_charts as charts
from parts.charts import show_chart
from parts.data import cached, database
from parts.state import page_link, pick
from parts.tables import show_table
from parts.words import NOTHING, interval, literal, score

from tuneboard.errors import DataError
from tuneboard.stats import Calibration
from tuneboard.store import listing
from tuneboard.store.reports import AnswerReport, Estimate, LabelReport, TaskReport, task_report

_candidates = cached(listing.listed_candidates)
_evaluations = cached(listing.evaluations)


@cached
def _report(db: Path, candidate: str, task: str) -> TaskReport | str:
    """Return the report, or why there is none."""
    try:
        return task_report(db, candidate, task)
    except DataError as error:
        return str(error)


def main() -> None:
    """Show the page."""
    st.title("Reports")
    db = database()
    left, right = st.columns(2)
    with left:
        name = pick("Model", "model", [one.name for one in _candidates(db)])
    cells = _evaluations(db, name) if name else []
    tasks = sorted({cell.task for cell in cells if cell.kind == "task" and cell.status == "done"})
    with right:
        task = pick("Task", "task", tasks)
    if name is None or task is None:
        st.info("No task was evaluated yet.")
        return
    found = _report(db, name, task)
    if isinstance(found, str):
        st.info(literal(found, 600))
        return
    st.caption(f"{found.n:,} samples" + (f", {found.failed:,} failed" if found.failed else ""))
    if found.labels is not None:
        _show_labels(found.labels, f"{name} on {task}")
    if found.answers is not None:
        _show_answers(found.answers)
    if found.reason is not None and found.answers is None:
        st.info(literal(f"No report on labels: {found.reason}", 600))
    for metric, signature in found.signatures.items():
        st.caption(f"{literal(metric)}: {literal(signature)}")
    page_link("The samples themselves", "samples", candidate=name, task=task)


def _show_labels(labels: LabelReport, of: str) -> None:
    figures = [("Accuracy", labels.accuracy), ("Macro F1", labels.f1_macro), ("Matthews", labels.mcc)]
    _figures([(title, score(one.value), _range(one)) for title, one in figures])
    st.subheader("Places of the right choice" if labels.by_place else "Labels")
    frame = charts.confusion_frame(labels)
    right = frame[frame["meant"] == frame["said"]]["samples"].sum()
    described = (
        f"Heatmap of {len(labels.labels)} labels: {right} of {frame['samples'].sum()} samples lie on the diagonal."
    )
    show_chart(charts.confusion_chart(frame), frame, f"confusion of {of}", described)
    number = st.column_config.NumberColumn(format="%.4f")
    columns = {"label": st.column_config.TextColumn(pinned=True), "precision": number, "recall": number, "F1": number}
    show_table(charts.labels_frame(labels), f"labels of {of}", columns)
    if labels.calibration is not None:
        _show_calibration(labels.calibration, of)


def _show_calibration(found: Calibration, of: str) -> None:
    st.subheader("Confidence")
    _figures(
        [
            ("Calibration error", score(found.ece), "How far accuracy is from confidence, over bins of equal size"),
            ("Mean confidence", score(found.confidence), None),
            ("Brier score", score(found.brier), "0 is best, 2 worst"),
            ("Log loss", score(found.log_loss), "Nats"),
        ]
    )
    left, right = st.columns(2)
    with left:
        st.markdown("**Is confidence deserved?**")
        frame = charts.reliability_frame(found)
        described = f"Accuracy over confidence in {len(frame)} bins; the calibration error is {found.ece:.3f}."
        show_chart(charts.reliability_chart(frame), frame, f"reliability of {of}", described)
    with right:
        st.markdown("**What if unsure answers are left out?**")
        frame = charts.selective_frame(found)
        first, last = frame["accuracy"].iloc[0], frame["accuracy"].iloc[-1]
        described = (
            f"Accuracy rises or falls from {first:.3f} of all answers to {last:.3f} of the most confident tenth."
        )
        show_chart(charts.selective_chart(frame), frame, f"selective accuracy of {of}", described)


def _show_answers(answers: AnswerReport) -> None:
    st.subheader("Answers")
    _figures(
        [
            (
                "Repetitive",
                score(answers.repetitive),
                "Share of answers that repeat themselves far more than references do",
            ),
            ("Repetition", score(answers.repetition), "Share of three-word sequences that stood before"),
            ("Empty", score(answers.empty), None),
            ("Length", score(answers.length_ratio), "Of answers, over that of their references"),
            ("Brevity penalty", score(answers.brevity_penalty), "What BLEU is multiplied by for short answers"),
        ]
    )
    if answers.repetitive:
        for name, (looped, others) in answers.scores.items():
            st.caption(f"{literal(name)}: {score(looped)} of repetitive answers, {score(others)} of the others")


def _figures(shown: list[tuple[str, str, str | None]]) -> None:
    with st.container(key=f"figures {shown[0][0]}", horizontal=True, gap="medium"):
        for title, value, more in shown:
            if value != NOTHING:
                st.metric(title, value, help=more, width="content")


def _range(one: Estimate) -> str | None:
    return None if one.ci is None else f"95 % interval {interval(*one.ci)}"


main()

"""What lies behind a score, as text, as JSON and as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tuneboard import stats
from tuneboard.report.answers import watched
from tuneboard.report.numbers import number
from tuneboard.report.tables import format_table, one_line
from tuneboard.store.reports import AnswerReport, Estimate, LabelReport, TaskReport

#: Labels up to which the whole confusion is printed; of more, the commonest mistakes.
_WIDEST = 12
_MISTAKES = 15


def report_facts(report: TaskReport) -> dict[str, Any]:
    """Return a report for JSON."""
    return asdict(report)


def report_rows(report: TaskReport) -> list[dict[str, Any]]:
    """Return a report as flat rows: one a label and average, one a bin of reliability, one a coverage.

    Rows of all kinds have the same columns; what does not apply is None.
    """
    head = {"candidate": report.candidate, "task": report.task, "filter": report.filter}
    rows: list[dict[str, Any]] = []
    labels = report.labels
    if labels is not None:
        rows += [{"kind": "label", **asdict(score)} for score in labels.scores]
        rows += [{"kind": "average", **asdict(score)} for score in labels.averages]
        for place, counts in enumerate(labels.confusion):
            names = (*labels.labels, "(no label)")
            rows += [
                {"kind": "confusion", "label": labels.labels[place], "answer": answer, "n": count}
                for answer, count in zip(names, counts, strict=True)
                if count
            ]
    if labels is not None and labels.calibration is not None:
        rows += [
            {"kind": "reliability", **asdict(one) | {"ci": None}, "ci_low": one.ci[0], "ci_high": one.ci[1]}
            for one in labels.calibration.bins
        ]
        rows += [{"kind": "selective", **asdict(one)} for one in labels.calibration.selective]
    if report.answers is not None:
        rows.append(
            {"kind": "answers", **{key: value for key, value in asdict(report.answers).items() if key != "scores"}}
        )
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "ci"))
    return [head | {column: row.get(column) for column in columns} for row in rows]


def report_text(report: TaskReport) -> str:
    """Lay a report out for people."""
    parts = [f"{report.n:,} samples" + (f", {report.failed:,} failed" if report.failed else "")]
    if report.labels is not None:
        parts += _label_parts(report.labels)
    if report.answers is not None:
        parts.append(_answers_part(report.answers))
    if report.signatures:
        parts.append("\n".join(f"{metric}  {signature}" for metric, signature in report.signatures.items()))
    if report.reason is not None:
        parts.append(f"no report on labels: {report.reason}")
    return "\n\n".join("\n".join(map(_clean, part.split("\n"))) for part in parts)


def _clean(line: str) -> str:
    return one_line(line)


def _label_parts(labels: LabelReport) -> list[str]:
    summary = [
        ["accuracy", *_estimate(labels.accuracy)],
        ["macro F1", *_estimate(labels.f1_macro)],
        ["Matthews", *_estimate(labels.mcc)],
    ]
    what = "place" if labels.by_place else "label"
    scores = [
        [one.label, number(one.precision), number(one.recall), number(one.f1), one.support, one.said]
        for one in (*labels.scores, *labels.averages)
    ]
    headers = [what, "precision", "recall", "F1", "meant", "said"]
    parts = [
        format_table(["score", "value", "95 % interval"], summary),
        format_table(headers, scores),
        _confusion(labels),
    ]
    return parts + ([] if labels.calibration is None else _calibration_parts(labels.calibration))


def _estimate(estimate: Estimate) -> list[str | None]:
    ci = None if estimate.ci is None else f"[{number(estimate.ci[0])}, {number(estimate.ci[1])}]"
    return [number(estimate.value), ci]


def _confusion(labels: LabelReport) -> str:
    names = [*labels.labels, "(no label)"]
    if len(labels.labels) <= _WIDEST:
        width = len(names) if any(row[-1] for row in labels.confusion) else len(names) - 1
        rows: list[list[object]] = [
            [name, *row[:width]] for name, row in zip(labels.labels, labels.confusion, strict=True)
        ]
        return format_table(["meant \\ said", *names[:width]], rows)
    mistakes = sorted(
        ((count, meant, said) for meant, row in enumerate(labels.confusion) for said, count in enumerate(row)),
        reverse=True,
    )
    wrong = [[names[meant], names[said], count] for count, meant, said in mistakes if meant != said and count]
    return format_table(["meant", "said", "mistakes"], wrong[:_MISTAKES], "llr")


def _calibration_parts(found: stats.Calibration) -> list[str]:
    summary = [
        ["expected calibration error", number(found.ece)],
        ["Brier score", number(found.brier)],
        ["log loss", number(found.log_loss)],
        ["mean confidence", number(found.confidence)],
        ["area under risk and coverage", number(found.aurc)],
    ]
    bins = [
        [
            f"{number(one.low)} to {number(one.high)}",
            one.n,
            number(one.confidence),
            number(one.accuracy),
            *_interval(one.ci),
        ]
        for one in found.bins
    ]
    selective = [
        [f"{one.coverage:.0%}", one.n, number(one.least_confidence), number(one.accuracy)] for one in found.selective
    ]
    return [
        format_table(["calibration ↓", "value"], [row for row in summary if row[0] != "mean confidence"])
        + f"\nmean confidence {number(found.confidence)}",
        format_table(["confidence", "n", "mean", "accuracy", "95 % interval"], bins),
        format_table(["most confident", "n", "from confidence", "accuracy"], selective),
    ]


def _interval(ci: Sequence[float]) -> list[str]:
    return [f"[{number(ci[0])}, {number(ci[1])}]"]


def _answers_part(answers: AnswerReport) -> str:
    measured: Mapping[str, float | None] = {
        "repetition": answers.repetition,
        "repetitive": answers.repetitive,
        "empty": answers.empty,
        "length_ratio": answers.length_ratio,
        "brevity_penalty": answers.brevity_penalty,
    }
    known = {name: value for name, value in measured.items() if value is not None}
    text = format_table(["answers", "value"], [[name, number(value)] for name, value in known.items()])
    notes = watched(known | {name: 0.0 for name in answers.scores})
    if answers.repetitive and answers.scores:
        rows = [
            [name, *(None if value is None else number(value) for value in pair)]
            for name, pair in answers.scores.items()
        ]
        text += "\n\n" + format_table(["mean score", "of repetitive answers", "of the others"], rows)
    return "\n".join([text, *notes])

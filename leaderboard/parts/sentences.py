"""A comparison in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from parts.words import STATUS, literal, signed
from tuneboard.compare import CandidateComparison, Refusal, Status

_LISTED = 3
#: What a candidate did, by status, in the order in which it is told.
_SAID: dict[Status, str] = {
    "regressed": "regressed on",
    "improved": "improved on",
    "equivalent": "stayed within the margin on",
    "inconclusive": "cannot be told yet on",
}

#: Must stand wherever intervals over samples are shown.
SEEDS = (
    "Intervals tell how far other samples could have changed the result. The variance between training seeds is not "
    "in them: a second training of the same recipe can differ by more."
)


def summary(name: str, rows: pd.DataFrame) -> str:
    """Say in one sentence of Markdown what a candidate changed.

    Args:
        name: The candidate.
        rows: Of its headline metrics, as ``Compared`` has them.
    """
    told = []
    for status, said in _SAID.items():
        found = rows[rows["status"] == status]
        if len(found):
            told.append(f"{STATUS[status].icon} {said} {_tasks(found, status)}")
    return f"**{literal(name)}** {'; '.join(told)}." if told else f"**{literal(name)}** is not compared."


def refusals(candidate: CandidateComparison) -> list[str]:
    """Say in Markdown, a line per reason, what of a candidate could not be compared.

    Args:
        candidate: One of ``Compared``.
    """
    if candidate.reason is not None:
        word = "was not applied" if candidate.applied is False else "is not compared"
        return [f"**{literal(candidate.name)}** {word}: {literal(candidate.reason, 600)}"]
    by_reason: dict[str, list[Refusal]] = {}
    for one in candidate.refused:
        by_reason.setdefault(one.reason, []).append(one)
    return [
        f"**{literal(candidate.name)}** on {_listed(_refused(one) for one in these)}: {literal(reason, 600)}"
        for reason, these in by_reason.items()
    ]


def tests(rows: pd.DataFrame) -> list[str]:
    """Say in Markdown which test was used on which tasks, and why.

    Args:
        rows: As ``Compared`` has them.
    """
    used = rows.drop_duplicates(["test", "why", "task"]).groupby(["test", "why"], sort=False)["task"]
    return [f"{literal(test)} ({literal(why)}): {_listed(tasks)}" for (test, why), tasks in used]


def _refused(one: Refusal) -> str:
    return one.task if one.metric is None else f"{one.task} {one.metric}"


def _tasks(rows: pd.DataFrame, status: Status) -> str:
    if status == "equivalent":
        return _listed(rows["task"])
    # The largest first, as many as are named.
    order = rows["delta"].abs().sort_values(ascending=False, kind="stable").index
    named = [
        f"{literal(row.task)} ({signed(row.delta)}{_needed(row) if status == 'inconclusive' else ''})"
        for row in rows.loc[order[:_LISTED]].itertuples()
    ]
    return ", ".join(named) + _more(len(rows))


def _needed(row: object) -> str:
    needed = getattr(row, "n_needed", None)
    return "" if needed is None or pd.isna(needed) else f", about {needed:,} samples would settle it"


def _listed(names: Iterable[str]) -> str:
    found: Sequence[str] = list(names)
    return ", ".join(literal(name) for name in found[:_LISTED]) + _more(len(found))


def _more(count: int) -> str:
    return f" and {count - _LISTED} more" if count > _LISTED else ""

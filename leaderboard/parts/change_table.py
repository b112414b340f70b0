"""Every figure of a comparison as a table, with links to the samples behind it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from parts.comparing import Chosen
from parts.state import link
from parts.tables import show_table
from parts.words import STATUS
from tuneboard.store.baselines import is_baseline

#: Column of a comparison to its title, in the order in which they are shown.
_TITLES = {
    "task": "task",
    "candidate_name": "candidate",
    "role": "role",
    "status": "status",
    "base": "base",
    "candidate": "score",
    "delta": "difference",
    "ci_low": "from",
    "ci_high": "to",
    "p_adjusted": "p corrected",
    "fixed": "fixed",
    "broke": "broke",
    "n": "samples",
    "mde": "detectable",
    "noise_floor": "noise floor",
    "margin": "margin",
    "place": "place",
    "metric": "metric",
    "filter": "filter",
    "test": "test",
    "n_needed": "would settle it",
    "note": "note",
}


def show_changes(rows: pd.DataFrame, chosen: Chosen) -> None:
    """Show rows of a comparison as a table.

    Args:
        rows: As ``Compared`` has them.
        chosen: Whom it compares.
    """
    frame = rows[list(_TITLES)].rename(columns=_TITLES)
    frame["status"] = [STATUS[status].label for status in rows["status"]]
    frame["metric"] = rows["metric"] + rows["higher_is_better"].map({True: "", False: " ↓"})
    # A baseline keeps no texts to look at.
    if not is_baseline(chosen.base):
        for column, change in (("see fixed", "fixed"), ("see broke", "broke")):
            frame.insert(frame.columns.get_loc("samples"), column, _links(rows, chosen.base, change))
    # Columns that say nothing here would only push the others out of sight.
    empty = ["noise floor", "place", "note", "would settle it"]
    frame = frame.drop(columns=[name for name in empty if frame[name].isna().all()])
    show_table(frame if len(chosen.candidates) > 1 else frame.drop(columns="candidate"), "comparison", _columns())


def _links(rows: pd.DataFrame, base: str, change: str) -> list[str | None]:
    return [
        link("samples", base=base, candidate=row.candidate_name, task=row.task, status=change)
        if _has_samples(row) and pd.notna(getattr(row, change)) and getattr(row, change)
        else None
        for row in rows.itertuples()
    ]


def _has_samples(row: Any) -> bool:
    """Tell whether the samples page knows what is meant: a task, or a group that stands for itself."""
    return bool(row.headline and (row.kind == "task" or not isinstance(row.member_of, str)))


def _columns() -> dict[str, Any]:
    config = st.column_config
    numbers = {
        "base": ("%.4f", "score of the base"),
        "score": ("%.4f", "score of the candidate"),
        "difference": ("%+.4f", "score − base, on the metric's own scale"),
        "from": ("%+.4f", "lower end of the 95 % interval"),
        "to": ("%+.4f", "upper end of the 95 % interval"),
        "p corrected": ("%.2g", "two-sided, corrected for the number of comparisons"),
        "fixed": ("localized", "samples that score better than before"),
        "broke": ("localized", "samples that score worse than before"),
        "samples": ("localized", "samples that both sides answered"),
        "detectable": ("%.4f", "smallest difference that these samples find with 80 % power"),
        "noise floor": ("%.4f", "how far two evaluations of one candidate lie apart (95 %)"),
        "margin": ("%.4f", "largest difference that does not matter"),
        "place": ("%d", "among base and candidates; those that cannot be told apart share theirs"),
        "would settle it": ("localized", "samples that would settle an inconclusive row with 80 % power"),
    }
    return {
        **{name: config.NumberColumn(format=form, help=help_) for name, (form, help_) in numbers.items()},
        "task": config.TextColumn(pinned=True),
        "filter": config.TextColumn(width=95),
        "see fixed": config.LinkColumn("", display_text="see fixed", width=65),
        "see broke": config.LinkColumn("", display_text="see broke", width=68),
    }

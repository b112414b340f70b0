"""Charts, each with a text for those who do not see it and its data to take along."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import streamlit as st

from parts.tables import show_downloads
from parts.words import STATUS, harmless

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

#: Status to colour.
STATUS_COLOURS: Mapping[str, str] = MappingProxyType({name: status.colour for name, status in STATUS.items()})

#: Colours of series, in the order of use: those of Okabe and Ito (2008), darkened where white would swallow them.
SERIES: tuple[str, ...] = ("#0072B2", "#D55E00", "#0A8F6B", "#B4669A", "#A8790A", "#3D93C9", "#7C8590", "#8C4A2F")


def show_chart(chart: alt.Chart, frame: pd.DataFrame, name: str, description: str) -> None:
    """Show a chart in the colours of the theme, with its data as CSV and Parquet below.

    Args:
        chart: Any chart of Altair.
        frame: What it shows.
        name: What it is, in a few words; also names the files.
        description: What one sees in it, in a sentence or two.
    """
    alt_text = harmless(description)
    st.altair_chart(_Unchecked(chart), width="stretch", key=f"chart {name}", alt=alt_text)  # type: ignore[arg-type]
    show_downloads(frame, f"{name} data")


class _Unchecked:
    """A chart that is not held against Vega-Lite's schema: with that a forest plot takes 0.3 s, without it 0.1 s."""

    def __init__(self, chart: alt.Chart) -> None:
        self._chart = chart

    def to_dict(self) -> dict[str, Any]:
        return dict(_visible(self._chart.to_dict(validate=False)))


def _visible(part: Any) -> Any:
    """Return a part of a chart with every text in it harmless: names of candidates and tasks are anybody's."""
    if isinstance(part, str):
        return harmless(part)
    if isinstance(part, dict):
        return {_visible(key): _visible(value) for key, value in part.items()}
    return [_visible(value) for value in part] if isinstance(part, list) else part

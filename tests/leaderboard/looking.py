"""What a page shows, as tests ask for it; loaded with ``runpy``."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

#: What Streamlit calls charts, in newer and in older versions.
_CHARTS = ("vega_lite_chart", "arrow_vega_lite_chart")


def words(test: AppTest) -> str:
    """All text of a page that a reader sees outside of tables and charts."""
    kinds = ("title", "header", "subheader", "caption", "markdown", "text", "info", "warning", "error", "code")
    return "\n".join(str(one.value) for kind in kinds for one in test.get(kind))


def charts(test: AppTest) -> list[dict[str, Any]]:
    """The specification of each chart."""
    return [json.loads(one.proto.spec) for kind in _CHARTS for one in test.get(kind)]


def table(test: AppTest, *columns: str) -> pd.DataFrame:
    """The first table that has all of these columns."""
    found = [one.value for one in test.dataframe if set(columns) <= set(one.value.columns)]
    assert found, [list(one.value.columns) for one in test.dataframe]
    return found[0]

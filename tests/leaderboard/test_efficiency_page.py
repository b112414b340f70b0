"""Efficiency: scores against what they cost, on axes to choose."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
wide = SimpleNamespace(**runpy.run_path(str(HERE / "wide.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    assert "tuneboard evaluate" in look.words(app("efficiency", empty_db))


def test_the_table_has_what_trainings_and_evaluations_took(app: App, small_db: Path) -> None:
    test = app("efficiency", small_db, task="gsm8k")

    rows = look.table(test, "training time").set_index("candidate")
    assert rows.loc["mine", ["trained parameters", "training time", "training memory"]].astype(float).tolist() == (
        pytest.approx([50_000, 61.5, 0.8])
    )
    assert rows.loc["mine", "score"] == pytest.approx(sum(small.marks("mine", "gsm8k")) / small.N_DOCS)
    assert rows["score"].tolist() == sorted(rows["score"], reverse=True)
    assert rows["training time"].isna()["base"]


def test_axes_are_chosen_in_the_url(app: App, small_db: Path) -> None:
    (first,) = look.charts(app("efficiency", small_db))
    (second,) = look.charts(app("efficiency", small_db, against="evaluation speed", task="hellaswag"))

    assert "parameters trained" in str(first) and "tokens/s while evaluated" in str(second)
    assert "hellaswag" in str(second) and "hellaswag" not in str(first["layer"][0]["encoding"]["y"])


def test_candidates_without_the_figure_are_counted_and_not_drawn_at_zero(app: App, small_db: Path) -> None:
    test = app("efficiency", small_db, against="training time")

    assert "Not in the chart, as their figure is not known (training time): 5 of 8 candidates" in look.words(test)


def test_only_axes_that_somebody_measured_are_offered(app: App, small_db: Path, tmp_path: Path) -> None:
    measured = app("efficiency", wide.fill(tmp_path / "wide.duckdb"), against="answering speed", task="arith")

    assert "answering speed" not in app("efficiency", small_db).selectbox(key="against").options
    offered = measured.selectbox(key="against").options
    assert "answering speed" in offered and "training time" not in offered
    rows = look.table(measured, "answering speed").set_index("candidate")
    assert rows["answering speed"].dropna().to_dict() == {"base": 100, "tuned-1": 95, "tuned-2": 90, "tuned-3": 85}

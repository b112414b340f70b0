"""Radar: a picture that never stands without its table."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
wide = SimpleNamespace(**runpy.run_path(str(HERE / "wide.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    assert "tuneboard evaluate" in look.words(app("radar", empty_db))


def test_the_picture_stands_beside_the_table_of_its_scores(app: App, small_db: Path) -> None:
    test = app("radar", small_db, candidate=["mine"])

    assert len(look.charts(test)) == 1
    rows = look.table(test, "task", "base", "mine").set_index("task")
    assert set(rows.index) == {"gsm8k", "hellaswag", "mmlu"}
    for name in ("base", "mine"):
        assert rows.loc["gsm8k", name] == pytest.approx(sum(small.marks(name, "gsm8k")) / small.N_DOCS)


def test_two_tasks_make_no_radar_and_keep_their_table(app: App, small_db: Path) -> None:
    test = app("radar", small_db, candidate=["mine"], task=["gsm8k", "mmlu"])

    assert not look.charts(test) and "A radar needs 3 tasks" in look.words(test)
    assert len(look.table(test, "task", "mine")) == 2


def test_what_has_another_scale_stands_in_the_table_alone(app: App, tmp_path: Path) -> None:
    tasks = ["arith", "mmlu", "mmlu_stem", "stories"]
    test = app("radar", wide.fill(tmp_path / "wide.duckdb"), candidate=wide.NAMES[1:], task=tasks)

    assert "In the table alone: stories" in look.words(test)
    shown = look.table(test, "task", "base")
    assert len(shown) == 4 and "stories" in set(shown["task"])
    # Base and five candidates: more lines cannot be told apart.
    assert [name for name in shown.columns if name in wide.NAMES] == wide.NAMES[:6]


def test_lines_close_and_reach_as_far_as_their_scores(app_on_path: None) -> None:
    from parts.radar_chart import _lines, outer_ring, radar

    tasks = ["a", "b", "c", "d"]
    scores = pd.DataFrame({"candidate": "mine", "task": tasks, "score": [0.5, 0.2, 0.0, 0.4]})
    assert outer_ring(scores["score"]) == pytest.approx(0.6)
    assert (outer_ring([1.0]), outer_ring([0.0])) == (1.0, 0.2)
    lines = _lines(scores, tasks, ["mine"], 0.6)

    assert lines.iloc[0][["x", "y"]].tolist() == pytest.approx(lines.iloc[-1][["x", "y"]].tolist())
    reached = [math.hypot(row.x, row.y) * 0.6 for row in lines.itertuples()]
    assert reached == pytest.approx([0.5, 0.2, 0.0, 0.4, 0.5])
    assert (lines.iloc[0].x, lines.iloc[1].y) == pytest.approx((0, 0), abs=1e-12) and lines.iloc[1].x > 0
    assert radar(scores, tasks, ["mine"]).to_dict(validate=True)["layer"]

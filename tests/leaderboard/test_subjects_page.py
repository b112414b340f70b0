"""Subjects: a heatmap with the number in every cell, and the table of the same numbers."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from tuneboard.compare import compare
from tuneboard.store.pairs import load_scores
from tuneboard.store.writes import Store

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
wide = SimpleNamespace(**runpy.run_path(str(HERE / "wide.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]


def rows_of(test: AppTest) -> list[str]:
    (chart,) = look.charts(test)
    return list(chart["layer"][0]["encoding"]["y"]["scale"]["domain"])


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    assert "tuneboard evaluate" in look.words(app("subjects", empty_db))


def test_without_groups_there_are_no_subjects(app: App, tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(small.provenance("tuneboard evaluate"))
    store.commit_all(run, [small.result(name, "gsm8k", 20) for name in ("base", "mine")])

    assert "Nothing was evaluated that has subjects" in look.words(app("subjects", db))


def test_cells_hold_the_differences_of_the_comparison(app: App, small_db: Path) -> None:
    test = app("subjects", small_db, candidate=["mine", "forgetful"])

    shown = look.table(test, "subject").set_index("subject")
    expected = compare(load_scores(small_db, "base", ["mine", "forgetful"]))
    for one in expected.candidates:
        for subject in small.SUBJECTS:
            row = one.row(f"mmlu_{subject}")
            assert row is not None
            assert shown.loc[subject.replace("_", " "), one.name] == pytest.approx(row.delta)
    text = next(layer for layer in look.charts(test)[0]["layer"] if layer["mark"]["type"] == "text")
    assert text["encoding"]["text"]["field"] == "shown"


def test_scores_show_the_base_beside_its_candidates(app: App, small_db: Path) -> None:
    test = app("subjects", small_db, candidate=["mine"], shown="scores")

    shown = look.table(test, "subject").set_index("subject")
    row = compare(load_scores(small_db, "base", ["mine"])).candidates[0].row("mmlu_virology")
    assert row is not None
    assert shown.loc["virology", ["base", "mine"]].astype(float).tolist() == pytest.approx([row.base, row.candidate])


def test_the_heatmap_fits_the_schema(app_on_path: None) -> None:
    from parts.heatmap import heatmap

    cell = {"subject": "anatomy", "task": "mmlu_anatomy", "candidate": "mine", "score": 0.5, "gain": 0.1, "samples": 9}
    cells = pd.DataFrame([cell | {"status": "", "shown": "+0.100", "mark": "", "difference": 0.1, "p": 0.2}])
    for differences in (True, False):
        assert heatmap(cells, ["anatomy"], ["mine"], differences).to_dict(validate=True)["layer"]


def test_a_smaller_group_shows_its_own_subjects(app: App, small_db: Path) -> None:
    test = app("subjects", small_db, candidate=["mine"], group="mmlu_stem")

    assert rows_of(test) == ["mmlu_stem", "abstract algebra", "anatomy", "astronomy"]


def test_57_subjects_of_nine_candidates_stand_in_order(app: App, tmp_path_factory: pytest.TempPathFactory) -> None:
    db = wide.fill(tmp_path_factory.mktemp("wide") / "tuneboard.duckdb")

    first = app("subjects", db, candidate=wide.NAMES[1:])
    assert rows_of(first)[0] == "mmlu" and len(rows_of(first)) == 1 + len(wide.AREAS) + 57
    areas = look.table(first, "subject").set_index("subject")["area"].loc[rows_of(first)[5:]]
    assert set(areas) == set(wide.AREAS)
    # Area by area.
    assert (areas != areas.shift()).sum() == len(wide.AREAS)
    test = app("subjects", db, candidate=wide.NAMES[1:], order="difference")
    table = look.table(test, "subject").set_index("subject")[wide.NAMES[1:]]
    worst = table.loc[rows_of(test)[5:]].min(axis=1).tolist()
    assert worst == sorted(worst) and worst[0] < worst[-1]

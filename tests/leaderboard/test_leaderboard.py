from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest


def table(test: AppTest) -> pd.DataFrame:
    return test.dataframe[0].value


def names(test: AppTest) -> list[str]:
    return [name.strip().removeprefix("↳ ") for name in table(test)["Candidate"]]


def test_candidates_stand_under_their_bases_best_first(app: Any, small_db: Path) -> None:
    frame = table(app("leaderboard", small_db))
    assert frame["Candidate"].iloc[0] == "base"
    scores = frame.set_index(frame["Candidate"].str.strip(" ↳"))["Score"]
    place = {name: i for i, name in enumerate(scores.index)}
    assert {place[name] // 4 for name in ("base", "mine", "forgetful", "vague")} == {place["base"] // 4}
    assert [name for name in ("large-full", "large-ia3") if place[name] > place["large"]] == ["large-full", "large-ia3"]
    assert scores["forgetful"] > scores["mine"] > scores["vague"] > scores["base"]
    assert place["forgetful"] < place["mine"] < place["vague"]


def test_scores_come_with_interval_rank_and_difference_to_the_base(app: Any, small_db: Path) -> None:
    frame = table(app("leaderboard", small_db))
    rows = frame.set_index(frame["Candidate"].str.strip(" ↳"))
    mine, base = rows.loc["mine"], rows.loc["base"]
    assert mine["Low"] < mine["Score"] < mine["High"]
    assert mine["To base"] == pytest.approx(mine["Score"] - base["Score"])
    assert pd.isna(base["To base"])
    # 28 of 80 documents apart: no interval of the one meets that of the other.
    assert int(mine["Rank"].split("–")[0]) < int(base["Rank"].split("–")[0])
    assert "–" in base["Rank"]


def test_the_suite_names_the_columns_and_the_first_of_them_ranks(app: Any, small_db: Path) -> None:
    test = app("leaderboard", small_db)
    assert test.selectbox(key="suite").value == "core"
    assert test.selectbox(key="rank").value == "gsm8k"
    assert {"task hellaswag", "task mmlu"} <= set(table(test).columns)
    assert "task mmlu_anatomy" not in table(test).columns


def test_the_history_holds_the_limited_evaluation_and_the_whole_one(app: Any, small_db: Path) -> None:
    test = app("leaderboard", small_db)
    assert {len(moments) for moments in table(test)["History"]} == {2}


def test_a_choice_goes_into_the_url_and_comes_back_from_it(app: Any, small_db: Path) -> None:
    test = app("leaderboard", small_db)
    assert test.query_params == {}
    test.selectbox(key="rank").select("mmlu").run()
    assert test.query_params == {"rank": "mmlu"}
    ranked = list(table(test)["Candidate"])
    assert list(table(app("leaderboard", small_db, rank="mmlu"))["Candidate"]) == ranked
    test.selectbox(key="rank").select("gsm8k").run()
    assert test.query_params == {}


def test_an_unknown_value_in_the_url_falls_back_and_says_so(app: Any, small_db: Path) -> None:
    test = app("leaderboard", small_db, rank="<script>", suite="core")
    assert test.selectbox(key="rank").value == "gsm8k"
    assert any("which is not here" in caption.value for caption in test.caption)


def test_search_filters_and_order_choose_rows(app: Any, small_db: Path) -> None:
    assert names(app("leaderboard", small_db, search="vague")) == ["base", "vague"]
    assert names(app("leaderboard", small_db, method=["ia3"])) == ["large", "large-ia3"]
    assert "mine" not in names(app("leaderboard", small_db, quantization=["4bit"]))
    assert names(app("leaderboard", small_db, order="by name"))[:4] == ["base", "forgetful", "mine", "vague"]
    assert "large-full" in names(app("leaderboard", small_db, size=["1 B to 4 B", "not known", "1 M"]))
    nothing = app("leaderboard", small_db, since="2999-01-01")
    assert any("No candidate fits" in info.value for info in nothing.info)


def test_the_average_counts_candidates_that_have_every_column(app: Any, small_db: Path) -> None:
    frame = table(app("leaderboard", small_db, rank="average of the columns"))
    row = frame.iloc[0]
    parts = [row[column] for column in ("task gsm8k", "task hellaswag", "task mmlu")]
    assert abs(row["Score"] - sum(parts) / 3) < 1e-12
    assert row["Low"] < row["Score"] < row["High"]
    assert "History" not in frame.columns


def test_an_empty_database_shows_how_to_fill_it(app: Any, empty_db: Path, tmp_path: Path) -> None:
    for db in (empty_db, tmp_path / "missing.duckdb"):
        test = app("leaderboard", db)
        assert [block.value.split()[:2] for block in test.code] == [["tuneboard", "demo"], ["tuneboard", "evaluate"]]
        assert not test.dataframe


def test_two_thousand_runs_are_listed_and_ranked_by_another_task(app: Any, large_db: Path) -> None:
    test = app("leaderboard", large_db)
    assert len(table(test)) > 200
    test.selectbox(key="rank").select("mmlu").run()
    assert not test.exception
    assert len(table(test)) > 200

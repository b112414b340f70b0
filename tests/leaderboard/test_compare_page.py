"""Compare: what changed, is it real, where are the samples; refusals in plain words; a URL that says it all."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from tuneboard.compare import compare
from tuneboard.store.blessing import bless
from tuneboard.store.pairs import load_scores

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
wide = SimpleNamespace(**runpy.run_path(str(HERE / "wide.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]


@pytest.fixture(scope="module")
def wide_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide.fill(tmp_path_factory.mktemp("wide") / "tuneboard.duckdb")


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    test = app("compare", empty_db)

    assert "tuneboard evaluate" in look.words(test)
    assert not look.charts(test)


def test_a_base_is_compared_with_its_candidates_unless_the_url_says_otherwise(app: App, small_db: Path) -> None:
    test = app("compare", small_db)

    assert test.selectbox(key="base").value == "base"
    assert set(test.multiselect(key="candidate").value) == {"mine", "forgetful", "vague"}
    shown = look.table(test, "difference", "detectable")
    assert set(shown["candidate"]) == {"mine", "forgetful", "vague"}


def test_the_table_has_the_figures_of_the_comparison(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="base", candidate=["mine"])

    rows = look.table(test, "difference").set_index("task")
    (expected,) = compare(load_scores(small_db, "base", ["mine"])).candidates
    for row in (one for one in expected.tasks if one.headline and one.member_of is None):
        shown = rows.loc[row.task]
        assert (shown["fixed"], shown["broke"], shown["samples"]) == (row.fixed, row.broke, row.n)
        figures = ["base", "score", "difference", "from", "to", "p corrected", "detectable", "margin"]
        assert shown[figures].astype(float).tolist() == pytest.approx(
            [row.base, row.candidate, row.delta, *row.effect.ci, row.p_adjusted, row.effect.mde, row.margin]
        )
        assert shown["test"] == row.effect.test
        assert shown["status"].endswith(row.status) and len(shown["status"]) > len(row.status)


def test_statuses_are_words_and_signs_and_not_colours_alone(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="base", candidate=["mine", "forgetful", "vague"])

    said = look.words(test)
    assert "**mine** ▲ improved on gsm8k" in said
    assert "▼ regressed on hellaswag" in said
    (forest, *_) = look.charts(test)
    texts = [layer for layer in forest["layer"] if layer["mark"]["type"] == "text"]
    assert [layer["encoding"]["text"]["field"] for layer in texts] == ["word"]
    shapes = next(layer["encoding"]["shape"] for layer in forest["layer"] if "shape" in layer["encoding"])
    assert len(set(shapes["scale"]["range"])) == 4


def test_rows_lead_to_the_samples_behind_them(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="base", candidate=["forgetful"], detail="subjects")

    rows = look.table(test, "see broke").set_index("task")
    url = urlsplit(rows.loc["hellaswag", "see broke"])
    assert url.path.endswith("samples") and not url.netloc
    assert parse_qs(url.query) == {
        "base": ["base"],
        "candidate": ["forgetful"],
        "task": ["hellaswag"],
        "status": ["broke"],
    }
    # Where nothing broke there is nothing to see; a group inside of a group has no samples of its own.
    for row in rows.itertuples():
        assert pd.isna(row[list(rows.columns).index("see broke") + 1]) == (not row.broke or row.Index == "mmlu_stem")


def test_detail_opens_groups(app: App, small_db: Path) -> None:
    seen = {}
    for detail in ("benchmarks", "areas", "subjects"):
        test = app("compare", small_db, base="base", candidate=["mine"], detail=detail)
        seen[detail] = set(look.table(test, "difference")["task"])

    assert seen["benchmarks"] == {"gsm8k", "hellaswag", "mmlu"}
    assert seen["areas"] - seen["benchmarks"] == {"mmlu_stem"}
    assert seen["subjects"] - seen["areas"] == {f"mmlu_{subject}" for subject in small.SUBJECTS}


def test_tasks_of_the_url_are_shown_alone(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="base", candidate=["mine"], task=["mmlu"], detail="areas")

    assert set(look.table(test, "difference")["task"]) == {"mmlu", "mmlu_stem"}
    assert test.multiselect(key="task").value == ["mmlu"]


def test_every_metric_can_be_asked_for(app: App, small_db: Path) -> None:
    plain = app("compare", small_db, base="base", candidate=["mine"])
    every = app("compare", small_db, base="base", candidate=["mine"], metrics="1")

    filters = set(look.table(every, "difference").query("task == 'gsm8k'")["filter"])
    assert filters == {"strict-match", "flexible-extract"}
    assert set(look.table(plain, "difference").query("task == 'gsm8k'")["filter"]) == {"strict-match"}


def test_gains_are_held_against_losses(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="base", candidate=["mine", "forgetful"])

    rows = look.table(test, "gained on targets").set_index("candidate")
    comparison = compare(load_scores(small_db, "base", ["mine", "forgetful"]))
    for one in comparison.candidates:
        assert rows.loc[one.name, "gained on targets"] == pytest.approx(one.forgetting.target_gain)
        assert rows.loc[one.name, "lost on guards"] == pytest.approx(one.forgetting.guard_loss)
    assert "hellaswag" in rows.loc["forgetful", "regressed guards"]
    assert any("gained on targets" in str(chart) for chart in look.charts(test)[1:])


def test_the_variance_between_training_seeds_is_said_to_be_left_out(app: App, small_db: Path) -> None:
    assert "variance between training seeds is not in them" in look.words(app("compare", small_db))


def test_without_repeats_the_noise_floor_is_said_to_be_unknown(app: App, small_db: Path) -> None:
    assert "Noise floor: not measured" in look.words(app("compare", small_db))


def test_repeats_show_a_noise_floor(app: App, wide_db: Path) -> None:
    test = app("compare", wide_db, candidate=["tuned-1"])

    assert look.table(test, "noise floor").set_index("task")["noise floor"].loc["arith"] > 0
    assert "how far two evaluations of one candidate lie apart" in look.words(test)
    assert any(layer["encoding"].get("x2", {}).get("field") == "noise" for layer in look.charts(test)[0]["layer"])


def test_what_cannot_be_compared_is_said_with_the_reason(app: App, wide_db: Path) -> None:
    test = app("compare", wide_db, candidate=["tuned-1", "idle", "other"])

    errors = "\n".join(one.value for one in test.error)
    assert "**idle** was not applied: the adapter changes no answer" in errors
    assert "**other** is not compared" in errors and "few\\-shot examples" in errors
    assert set(look.table(test, "difference")["task"]) == {"arith", "mmlu", "stories"}


def test_nothing_that_can_be_compared_is_no_error_of_the_page(app: App, wide_db: Path) -> None:
    test = app("compare", wide_db, candidate=["idle"])

    assert "Nothing of these can be compared" in look.words(test) and not look.charts(test)


def test_nine_candidates_on_57_subjects_fit_into_one_plot(app: App, wide_db: Path) -> None:
    test = app("compare", wide_db, candidate=wide.NAMES[1:], detail="subjects")

    assert len(look.table(test, "difference")) == 9 * (57 + 4 + 1 + 2)
    forest, relative, *_ = look.charts(test)
    labels = next(layer["encoding"]["y"]["scale"]["domain"] for layer in forest["layer"] if "y" in layer["encoding"])
    assert len(labels) == 57 + 4 + 2 and "· subject_00" in labels and "mmlu (guard)" in labels
    # A scale of its own is drawn apart, as a share of the base's score.
    assert "stories" in str(relative) and "%" in str(relative)
    assert set(look.table(test, "place")["place"].dropna()) >= {1, 2}


def test_a_direction_that_is_better_low_is_drawn_to_the_right(app_on_path: None) -> None:
    from parts.forest import forest, forest_rows

    row = {
        "task": "stories",
        "member_of": None,
        "role": "none",
        "candidate_name": "mine",
        "base": 4.0,
        "candidate": 3.0,
        "delta": -1.0,
        "ci_low": -1.2,
        "ci_high": -0.8,
        "higher_is_better": False,
        "margin": 0.4,
        "noise_floor": None,
        "status": "improved",
        "p_adjusted": 0.001,
        "n": 60,
    }
    unit, other = forest_rows(pd.DataFrame([row]))

    assert unit.empty
    (drawn,) = other.to_dict("records")
    assert [drawn[name] for name in ("gain", "low", "high", "margin")] == pytest.approx([0.25, 0.2, 0.3, 0.1])
    # The schema of Vega-Lite, which pages leave out.
    assert forest(other, ["mine"], relative=True).to_dict(validate=True)["layer"]


def test_the_plot_of_gains_and_losses_fits_the_schema(app_on_path: None) -> None:
    from parts.tradeoff import forgetting_plot, forgetting_rows

    from tuneboard.compare import CandidateComparison, Forgetting

    candidates = [
        CandidateComparison("mine", True, None, forgetting=Forgetting(0.3, 0.0, 1, (), ("gsm8k",))),
        CandidateComparison("other", True, None, forgetting=Forgetting(0.1, 0.2, 2)),
        CandidateComparison("neither", True, None),
    ]
    rows = forgetting_rows(candidates)

    assert rows["candidate"].tolist() == ["mine", "other"]
    assert forgetting_plot(rows).to_dict(validate=True)["layer"]


def test_a_blessed_baseline_can_stand_as_the_base(
    app: App, small_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, text = bless(small_db, "base", "main")
    made.path.parent.mkdir(parents=True)
    made.path.write_text(text)

    test = app("compare", small_db, base="baseline:main", candidate=["mine"])

    rows = look.table(test, "difference").set_index("task")
    assert rows.loc["gsm8k", "fixed"] == 30
    # It keeps scores alone, so that there is no sample of it to look at.
    assert "see broke" not in rows.columns


def test_a_name_that_is_markdown_stays_a_name(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="large", candidate=[small.ODD_NAME])

    assert "odd \\*name\\* \\<b\\>" in look.words(test)
    assert small.ODD_NAME not in look.words(test)


def test_an_unknown_name_in_the_url_falls_back_with_a_line(app: App, small_db: Path) -> None:
    test = app("compare", small_db, base="nobody", candidate=["mine"])

    assert test.selectbox(key="base").value == "base"
    assert "nobody" in look.words(test)

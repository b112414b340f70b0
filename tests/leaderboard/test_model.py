from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def facts(test: Any) -> dict[tuple[str, str], str]:
    (frame,) = [one.value for one in test.dataframe if "Fact" in one.value.columns]
    return {(about, fact): value for about, fact, value in frame.itertuples(index=False)}


def test_a_trained_candidate_shows_where_it_comes_from(app: Any, small_db: Path) -> None:
    test = app("model", small_db, candidate="mine")
    known = facts(test)
    assert known["Weights", "adapter SHA-256"] == "a-mine"
    assert known["Weights", "model SHA-256"] == "w-tiny"
    assert known["Training", "seed"] == "7"
    assert known["Training data", "sources 1: sha256"] == "d" * 64
    assert known["Evaluation engine", "version"] == "5.19.0"
    assert known["Evaluation hardware", "cpu"] == "Example CPU"
    figures = {metric.label: metric.value for metric in test.metric}
    assert figures["Trained parameters"] == "50 k"
    assert figures["Parameters"] == "1.05 M"
    assert figures["Training time"] == "1 min 2 s"
    assert figures["Training memory"] == "0.8 GiB"


def test_all_scores_stand_there_groups_first(app: Any, small_db: Path) -> None:
    frame = app("model", small_db, candidate="mine").dataframe[0].value
    assert list(frame["Task"][:2]) == ["mmlu", "mmlu_stem"]
    assert {"gsm8k", "hellaswag", "mmlu_anatomy"} <= set(frame["Task"])
    assert set(frame[frame["Task"] == "gsm8k"]["Filter"]) == {"strict-match", "flexible-extract"}
    assert (frame["Low"] < frame["Score"]).all()


def test_the_curves_of_the_training_are_drawn(app: Any, small_db: Path) -> None:
    test = app("model", small_db, candidate="mine")
    headings = [block.value for block in test.markdown]
    assert [heading for heading in headings if heading.startswith("**")] == [
        "**Loss**",
        "**Learning rate**",
        "**Tokens per second**",
    ]


def test_commands_to_make_it_again_can_be_copied(app: Any, small_db: Path) -> None:
    blocks = [block.value for block in app("model", small_db, candidate="mine").code]
    assert "tuneboard tune recipes/mine.yaml" in blocks
    assert "tuneboard evaluate --model models/tiny --suite core" in blocks
    assert any(block.startswith("pip install ") and "peft==0.21.2" in block for block in blocks)


@pytest.mark.parametrize("name", ["base", "large-full", "odd *name* <b>[x](y)"])
def test_candidates_without_training_and_with_odd_names_have_a_card(app: Any, small_db: Path, name: str) -> None:
    test = app("model", small_db, candidate=name)
    assert test.selectbox(key="candidate").value == name
    assert "<b>" not in test.title[0].value.replace("\\<b\\>", "")


def test_one_among_two_thousand_runs_has_its_card(app: Any, large_db: Path) -> None:
    test = app("model", large_db, candidate="model-3-lora-1")
    assert len(test.dataframe[0].value) == 23


def test_an_empty_database_shows_how_to_fill_it(app: Any, empty_db: Path) -> None:
    assert app("model", empty_db).title[0].value == "Nothing is evaluated yet"

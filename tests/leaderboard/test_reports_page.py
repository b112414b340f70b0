"""Reports: what lies behind one score."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from streamlit.testing.v1 import AppTest

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    assert "tuneboard evaluate" in look.words(app("reports", empty_db))


def test_a_task_of_choices_has_its_confusion_and_its_calibration(app: App, small_db: Path) -> None:
    test = app("reports", small_db, model="mine", task="hellaswag")
    words = look.words(test)
    assert "Confidence" in words and "samples" in words
    assert len(look.charts(test)) == 3
    rows = look.table(test, "precision")
    assert {"macro", "micro", "weighted"} <= set(rows["label"])


def test_a_task_of_generated_answers_has_what_they_look_like(app: App, small_db: Path) -> None:
    test = app("reports", small_db, model="forgetful", task="gsm8k")
    assert "Answers" in look.words(test)
    assert "Repetitive" in [one.label for one in test.metric]

"""Gates: every verdict with what decided it, and how old and how stale baselines are."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tuneboard.cli.main import main
from tuneboard.records import fingerprint
from tuneboard.store.blessing import bless
from tuneboard.store.verdicts import keep_verdict

HERE = Path(__file__).parent
small = SimpleNamespace(**runpy.run_path(str(HERE / "small.py")))
look = SimpleNamespace(**runpy.run_path(str(HERE / "looking.py")))

App = Callable[..., AppTest]

POLICY = """\
name: ship
candidate: mine
rules:
  - {rule: not_regress, tasks: hellaswag, margin: 0.1}
  - {rule: improve, tasks: gsm8k}
"""


@pytest.fixture
def db(small_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to write into, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(small_db, tmp_path / "tuneboard.duckdb"))


def blessed(db: Path, name: str, days: int, **changes: str) -> None:
    """Bless the base as if that had been some days ago."""
    made, text = bless(db, "base", name)
    content = json.loads(text)
    del content["sha256"]
    content["blessed"] = (datetime.now(UTC) - timedelta(days=days, hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    content |= changes
    made.path.parent.mkdir(parents=True, exist_ok=True)
    made.path.write_text(json.dumps(content | {"sha256": fingerprint(content)}))


def judge(db: Path, *candidates: str) -> None:
    Path("policy.yaml").write_text(POLICY)
    for candidate in candidates:
        main(["gate", "policy.yaml", "--candidate", candidate, "--db", str(db), "--quiet"])


def test_an_empty_database_shows_how_to_fill_it(app: App, empty_db: Path) -> None:
    assert "tuneboard evaluate" in look.words(app("gates", empty_db))


def test_without_verdicts_and_baselines_the_commands_stand_there(app: App, db: Path) -> None:
    said = look.words(app("gates", db))

    assert "tuneboard gate quick" in said and "tuneboard baseline bless" in said


def test_verdicts_stand_newest_first_with_what_decided_them(
    app: App, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(db, "mine", "forgetful")
    printed = capsys.readouterr().out

    test = app("gates", db)

    rows = look.table(test, "decided by")
    assert rows["candidate"].tolist() == ["forgetful", "mine"]
    assert rows["verdict"].tolist()[0] == "✗ fail" and set(rows["policy"]) == {"ship"}
    for reason in rows["decided by"]:
        assert reason in printed
    (chart,) = look.charts(test)
    assert len(set(chart["encoding"]["shape"]["scale"]["range"])) == 4
    rules = look.table(test, "rule")
    assert rules["task"].tolist() == ["hellaswag", "gsm8k"] and rules["verdict"].tolist()[0] == "✗ fail"
    assert rules["margin"].tolist()[0] == pytest.approx(0.1)


def test_the_url_says_which_verdict_is_open_and_what_is_filtered(app: App, db: Path) -> None:
    judge(db, "mine", "forgetful")
    rows = look.table(app("gates", db), "decided by")
    older = rows["judged"].tolist()[1]

    opened = app("gates", db, judged=older.isoformat())
    assert "mine against base" in "\n".join(one.value for one in opened.subheader)
    filtered = app("gates", db, candidate="mine")
    assert look.table(filtered, "decided by")["candidate"].tolist() == ["mine"]
    assert "No verdict fits" in look.words(app("gates", db, candidate="mine", verdict="invalid"))


def test_a_long_history_is_shown(app: App, db: Path) -> None:
    rule: dict[str, Any] = {"rule": "improve", "task": "gsm8k", "metric": "acc", "verdict": "pass", "reason": "passes"}
    for number in range(20):
        content = {"policy": f"policy {number % 3}", "base": "base", "candidate": f"tuned {number}", "exit_code": 0}
        keep_verdict(db, content | {"verdict": "pass", "rules": [rule], "reasons": ["all rules pass"]})

    test = app("gates", db)

    assert len(look.table(test, "decided by")) == 20
    assert len(look.charts(test)[0]["encoding"]["y"]["scale"]["domain"]) == 12


def test_baselines_show_their_age_and_what_is_stale(app: App, db: Path) -> None:
    blessed(db, "fresh", 3)
    blessed(db, "ancient", 120, fingerprint="other weights")
    Path("results/baselines/edited.json").write_text('{"schema": 1}')

    test = app("gates", db)

    rows = look.table(test, "baseline").set_index("baseline")
    assert rows["age (days)"].dropna().to_dict() == {"fresh": 3, "ancient": 120}
    assert rows["state"].to_dict() == {"ancient": "▼ stale", "edited": "! unreadable", "fresh": "✓ good"}
    assert "other weights" in rows.loc["ancient", "why"] and "hash" in rows.loc["edited", "why"]
    assert "Older than 90 days: ancient" in look.words(test)

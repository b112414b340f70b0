"""What gates said is kept, with the weights that were judged."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.errors import StoreError
from tuneboard.store import migrations
from tuneboard.store.database import writing
from tuneboard.store.names import rename
from tuneboard.store.verdicts import keep_verdict, kept_verdicts
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))


def verdict(candidate: str = "mine", outcome: str = "pass", **more: Any) -> dict[str, Any]:
    content = {"schema": 1, "policy": "ship", "base": "base", "candidate": candidate}
    return content | {"verdict": outcome, "exit_code": 0, "rules": [], "reasons": ["all pass"]} | more


def test_verdicts_come_back_newest_first_and_whole(db: Path) -> None:
    first, second = verdict(), verdict("other", "fail", exit_code=1, reasons=["old fell by 0.2 \ud800"])
    keep_verdict(db, first)
    keep_verdict(db, second)

    newest, oldest = kept_verdicts(db)

    assert (newest.candidate, newest.verdict, newest.exit_code) == ("other", "fail", 1)
    assert (dict(oldest.content), oldest.policy, oldest.base) == (first, "ship", "base")
    assert newest.judged >= oldest.judged and newest.content["reasons"] == second["reasons"]
    assert [one.candidate for one in kept_verdicts(db, limit=1)] == ["other"]


def test_a_name_that_stands_for_other_weights_now_is_told_apart(db: Path) -> None:
    store = Store(db)
    store.register(build.make_candidate("mine", adapter="a1"))
    keep_verdict(db, verdict())
    keep_verdict(db, verdict("never evaluated"))
    assert [one.current for one in kept_verdicts(db)] == [None, True]

    with writing(db) as connection:
        rename(connection, db, "mine", "before")
    store.register(build.make_candidate("mine", adapter="a2"))

    assert [one.current for one in kept_verdicts(db)] == [None, False]


def test_a_database_of_the_third_version_gets_the_table(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:3])
        Store(db).start_run(build.make_provenance())

    assert kept_verdicts(db) == []
    keep_verdict(db, verdict())
    assert len(kept_verdicts(db)) == 1


def test_a_missing_database_has_no_history(db: Path) -> None:
    with pytest.raises(StoreError, match="no database at"):
        kept_verdicts(db)

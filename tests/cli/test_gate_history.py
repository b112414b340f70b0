"""Every verdict of ``tuneboard gate`` is kept, and none depends on that."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli.main import main
from tuneboard.store.database import database_lock
from tuneboard.store.verdicts import kept_verdicts

world = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("scored.py"))))

POLICY = "name: ship\ncandidate: mine\nmargins: {old: 0.05}\nrules: [{rule: not_regress, tasks: guards}]\n"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    Path("policy.yaml").write_text(POLICY)
    db = tmp_path / "x.duckdb"
    world.fill(db)
    return db


def gate(db: Path, *arguments: str) -> int:
    return main(["gate", "policy.yaml", *arguments, "--db", str(db)])


def test_a_verdict_is_kept_as_it_is_printed(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(db, "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert gate(db, "--candidate", "good") == 0

    passed, failed = kept_verdicts(db)

    assert failed.content == printed and failed.exit_code == 1
    assert (passed.candidate, passed.verdict, passed.policy, passed.current) == ("good", "pass", "ship", True)


def test_a_verdict_that_cannot_be_kept_stands_all_the_same(
    db: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneboard.store.verdicts.WAIT_S", 0.1)
    with database_lock(db, "read", 1):
        assert gate(db) == 1
    out, err = capsys.readouterr()

    assert out.startswith("FAIL") and "the history of verdicts misses this one" in err and err.count("\n") == 1
    assert kept_verdicts(db) == []


def test_where_there_is_no_database_none_is_made(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(tmp_path / "none.duckdb") == 2
    assert not (tmp_path / "none.duckdb").exists()

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli.main import main
from tuneboard.store.snapshots import current_snapshot

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "leaderboard" / "small.py")))


def private(result: object) -> object:
    if result.task.name != "gsm8k":  # type: ignore[attr-defined]
        return result
    config = {"metadata": {"private": True}}
    return small.replace(result, task=small.replace(result.task, config=config))  # type: ignore[attr-defined]


def test_publishing_prints_the_snapshot_and_names_what_is_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, folder = tmp_path / "x.duckdb", tmp_path / "public"
    small.fill(db, ["base"], private)
    assert main(["publish", "--to", str(folder), "--db", str(db)]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == current_snapshot(folder)
    assert "private, published with their scores alone: gsm8k" in err
    assert main(["publish", "--to", str(folder), "--db", str(db), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"schema": 1, "snapshot": str(current_snapshot(folder)), "private": ["gsm8k"], "removed": []}


def test_without_a_database_there_is_nothing_to_publish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "--to", str(tmp_path / "public"), "--db", str(tmp_path / "x.duckdb")]) == 2
    err = capsys.readouterr().err
    assert "no database at" in err and err.count("\n") == 1
    assert not (tmp_path / "public").exists()

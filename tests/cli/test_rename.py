from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli.main import main
from tuneboard.store import queries
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))


def test_renaming_frees_the_name_for_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "x.duckdb"
    store = Store(db)
    store.register(build.make_candidate("tuned", adapter="a1"))
    assert main(["rename", "tuned", "tuned-1", "--db", str(db)]) == 0
    assert "'tuned' is now 'tuned-1'" in capsys.readouterr().err
    store.register(build.make_candidate("tuned", adapter="a2"))
    assert [row.name for row in queries.models(db)] == ["tuned-1", "tuned"]
    assert main(["rename", "tuned", "tuned-1", "--db", str(db)]) == 2
    assert "bound to other weights" in capsys.readouterr().err
    assert main(["rename", "tund", "x", "--db", str(db)]) == 2
    assert "did you mean tuned" in capsys.readouterr().err

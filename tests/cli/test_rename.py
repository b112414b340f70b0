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


@pytest.mark.parametrize("new", ["", "  ", "a\nb", "\x1b[31mred", "\u202eevil"])
def test_a_name_that_evaluate_would_refuse_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], new: str
) -> None:
    db = tmp_path / "x.duckdb"
    Store(db).register(build.make_candidate("tuned"))
    assert main(["rename", "tuned", new, "--db", str(db)]) == 2
    err = capsys.readouterr().err
    assert "expected printable characters, at least one" in err and err.count("\n") == 1 and "\x1b" not in err
    assert [row.name for row in queries.models(db)] == ["tuned"]


def test_spaces_around_a_name_are_no_part_of_it_and_a_bad_name_can_be_mended(tmp_path: Path) -> None:
    db = tmp_path / "x.duckdb"
    Store(db).register(build.make_candidate("\x1b[31mred"))
    assert main(["rename", "\x1b[31mred", " red ", "--db", str(db)]) == 0
    assert [row.name for row in queries.models(db)] == ["red"]

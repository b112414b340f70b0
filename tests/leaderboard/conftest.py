from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the site's extra is not installed: pip install 'tuneboard[site]'")

from streamlit.testing.v1 import AppTest

from tuneboard.bundled import app_dir
from tuneboard.store.database import writing
from tuneboard.store.snapshots import DATABASE_VARIABLE, SNAPSHOT_VARIABLE

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("small.py"))))

#: ``app(page, db, **query)`` runs a page on a database with a selection in the query string.
App = Callable[..., AppTest]


@pytest.fixture(scope="session", autouse=True)
def app_on_path() -> Iterator[None]:
    """Lets tests import the site's ``parts``, as Streamlit does."""
    sys.path.insert(0, str(app_dir()))
    yield
    sys.path.remove(str(app_dir()))


@pytest.fixture(scope="session")
def small_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled database, for reading alone: two bases with three candidates each (``small.py`` says which)."""
    db = tmp_path_factory.mktemp("small") / "tuneboard.duckdb"
    small.fill(db)
    return db


@pytest.fixture(scope="session")
def large_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 runs of 400 candidates, without samples, for reading alone."""
    db = tmp_path_factory.mktemp("large") / "tuneboard.duckdb"
    runpy.run_path(str(Path(__file__).with_name("large.py")))["fill"](db)
    return db


@pytest.fixture
def empty_db(tmp_path: Path) -> Path:
    """A database without any result."""
    db = tmp_path / "empty.duckdb"
    with writing(db):
        pass
    return db


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    """Runs a page; nothing that it shows may be an exception."""

    def run(page: str, db: Path, *, timeout: float = 60, **query: Any) -> AppTest:
        monkeypatch.setenv(DATABASE_VARIABLE, str(db))
        monkeypatch.delenv(SNAPSHOT_VARIABLE, raising=False)
        test = AppTest.from_file(app_dir() / "app.py", default_timeout=timeout)
        test.query_params.update(
            {key: value if isinstance(value, str) else list(value) for key, value in query.items()}
        )
        from streamlit.util import calc_hash

        # Streamlit knows a page by the hash of its path in the URL, that of the page at the root being empty.
        test._page_hash = calc_hash("" if page == "leaderboard" else page)
        test.run()
        assert not test.exception, [one.value for one in test.exception]
        return test

    return run

from __future__ import annotations

import os
import re
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
server = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "site_server.py")))
small = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "leaderboard" / "small.py")))

#: Where screenshots go instead of a temporary folder.
SCREENSHOTS = "TUNEBOARD_SCREENSHOTS"
WAIT_MS = 30_000
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install 'tuneboard[test]'")
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page of the browser that remembers what went wrong in it."""

    page: Any
    site: Any
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))

    def _listen(self, message: Any) -> None:
        # On a page below the root Streamlit's frontend asks there first for its server, and then at the root.
        asked = PROBE.search(message.location.get("url", ""))
        if message.type == "error" and not (asked and "404" in message.text):
            self.wrong.append(f"{message.text} {message.location.get('url')}")

    def open(self, page: str, **query: Any) -> Tab:
        """Load a page and wait until all of it is there."""
        return self.visit(self.site.address(page, query))

    def visit(self, url: str) -> Tab:
        """Load a URL and wait until all of it is there."""
        self.page.goto(url)
        return self.settle()

    def settle(self) -> Tab:
        """Wait until the server has nothing more to say; nothing that went wrong may show."""
        self.page.wait_for_selector("[data-testid=stMainBlockContainer] h1, [data-testid=stException]")
        # The state flickers between two runs; it must hold.
        still = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        for _ in range(3):
            self.page.wait_for_function(still)
            self.page.wait_for_timeout(150)
        # Tables, charts and code are drawn a moment after the rest.
        self.page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
        self.refuse_errors()
        return self

    def refuse_errors(self) -> None:
        """Fail on anything that a visitor or a developer would see as an error."""
        boxes = self.page.locator("[data-testid=stException], [data-testid=stAlertContentError]")
        assert [boxes.nth(i).inner_text() for i in range(boxes.count())] == []
        assert self.wrong == []

    def text(self) -> str:
        """What the page says."""
        lines = str(self.page.locator("[data-testid=stMain]").inner_text()).split("\n")
        return "\n".join(filter(None, map(str.strip, lines)))


#: ``tab(site, **context)`` opens a tab of a new session; arguments are those of ``browser.new_context``.
OpenTab = Callable[..., Tab]


@pytest.fixture
def tab(browser: Any) -> Iterator[OpenTab]:
    contexts = []

    def open_tab(site: Any, **context: Any) -> Tab:
        contexts.append(browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light"} | context))
        return Tab(contexts[-1].new_page(), site)

    yield open_tab
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``with serve(db) as site`` runs the real server on a database."""
    pytest.importorskip("streamlit", reason="the site's extra is not installed: pip install 'tuneboard[site]'")

    @contextmanager
    def serve(db: Path) -> Iterator[Any]:
        with server.running_site(db, tmp_path_factory.mktemp("site") / "server.log") as site:
            yield site

    return serve


@pytest.fixture(scope="session")
def small_site(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The site on a small database with everything in it, for reading alone."""
    db = tmp_path_factory.mktemp("small") / "tuneboard.duckdb"
    small.fill(db)
    with serve(db) as site:
        yield site


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go: the folder that TUNEBOARD_SCREENSHOTS names, else a temporary one."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def visitor() -> Any:
    """``with visitor(site) as one`` asks for pages without a browser."""
    return server.Visitor

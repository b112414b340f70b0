"""Every page in real Chromium: no console error, no exception box, nothing wider than the screen."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.bundled import app_dir

server = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "site_server.py")))
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
#: Everyday: pages that no other test here visits, in turns of theme and size.
TURNS = list(
    zip(
        ("reports", "subjects", "gates", "efficiency", "radar"),
        itertools.cycle(("light", "dark")),
        itertools.cycle(("desktop", "desktop", "phone")),
        strict=False,
    )
)


def check(tab: Any, site: Any, page: str, theme: str, size: str, folder: Path) -> None:
    """Load a page, let charts be drawn, take a screenshot of all of it."""
    here = tab(site, color_scheme=theme, viewport=SIZES[size], is_mobile=size == "phone").open(page)
    here.page.wait_for_timeout(400)
    assert here.page.locator("h1").count() == 1
    # What is wider than the screen makes the whole page scroll sideways.
    assert here.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 1
    whole = here.page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight") + 8
    here.page.set_viewport_size({"width": SIZES[size]["width"], "height": min(whole, 6000)})
    here.page.wait_for_timeout(600)
    here.page.screenshot(path=folder / f"{page}-{theme}-{size}.png")
    background = here.page.evaluate(
        "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    )
    light = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) > 3 * 128
    assert light == (theme == "light")
    here.refuse_errors()


@pytest.mark.parametrize(("page", "theme", "size"), TURNS)
def test_every_page_shows_itself(
    tab: Any, small_site: Any, page: str, theme: str, size: str, screenshots: Path
) -> None:
    check(tab, small_site, page, theme, size, screenshots)


def test_no_page_is_left_out() -> None:
    assert set(server.PAGES) == {page.stem for page in (app_dir() / "app_pages").glob("*.py")}


@pytest.mark.accept
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", server.PAGES)
def test_every_page_in_both_themes_and_sizes(
    tab: Any, small_site: Any, page: str, theme: str, size: str, screenshots: Path
) -> None:
    check(tab, small_site, page, theme, size, screenshots)

"""The way of a visitor in real Chromium: leaderboard, a candidate, its comparison, a sample that broke, its link."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

ROW_PX, HEADER_PX = 35, 36


def click_row(tab: Any, number: int) -> None:
    """Select a row of the first table by the box at its beginning."""
    table = tab.page.locator("[data-testid=stDataFrame]").first
    table.click(position={"x": 14, "y": HEADER_PX + ROW_PX * number + ROW_PX // 2})
    tab.settle()


def query(tab: Any) -> dict[str, list[str]]:
    """The query string of the browser's address."""
    return parse_qs(urlsplit(tab.page.url).query)


def moved(tab: Any, before: str, wait_ms: int = 30_000) -> str:
    """Wait until another sample than this one is open; returns it."""
    script = "before => new URL(location).searchParams.get('sample') !== before"
    tab.page.wait_for_function(script, arg=before, timeout=wait_ms)
    tab.settle()
    return query(tab)["sample"][0]


def press(tab: Any, key: str, before: str) -> str:
    """Press a key until it was heard: a busy page listens to keys a moment after it is drawn."""
    from playwright.sync_api import TimeoutError

    for _ in range(6):
        tab.page.keyboard.press(key)
        try:
            return moved(tab, before, 5_000)
        except TimeoutError:
            continue
    raise AssertionError(f"the key {key} opened no other sample than {before}")


def follow(tab: Any, name: str) -> None:
    """Click on a link within the page."""
    tab.page.locator("[data-testid=stMain] a").filter(has_text=name).first.click()
    tab.settle()


def test_from_the_leaderboard_to_a_broken_sample_and_its_link(tab: Any, small_site: Any) -> None:
    here = tab(small_site).open("leaderboard")
    click_row(here, 1)
    follow(here, "Compare with")
    assert "/compare" in here.page.url
    candidate = query(here)["candidate"][0]
    follow(here, "Look at its samples")
    assert "/samples" in here.page.url and query(here)["candidate"] == [candidate]
    assert "▼ Broke" in here.text()
    first = query(here)["sample"][0]
    here.page.get_by_role("button", name="Next").first.click()
    moved(here, first)
    there = tab(small_site).visit(here.page.url)
    assert there.text() == here.text()
    assert there.page.url == here.page.url


def test_next_and_previous_by_keyboard_and_by_clicking_the_list(tab: Any, small_site: Any) -> None:
    here = tab(small_site).open("samples", base="base", candidate="forgetful", task="hellaswag")
    opened = [query(here)["sample"][0]]
    for key in ("n", "n", "p"):
        opened.append(press(here, key, opened[-1]))
    assert len(set(opened)) == 3 and opened[3] == opened[1]
    click_row(here, 4)
    clicked = query(here)["sample"][0]
    assert clicked not in opened
    assert f"document {clicked.split(':')[1]}" in here.text()


def test_typing_into_a_field_is_no_shortcut(tab: Any, small_site: Any) -> None:
    here = tab(small_site).open("samples", base="base", candidate="forgetful", task="hellaswag")
    opened = query(here)["sample"]
    here.page.get_by_label("Find").press_sequentially("what is n")
    here.settle()
    assert query(here)["sample"] == opened

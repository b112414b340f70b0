"""What models, data sets and file names say is shown as text: in Chromium nothing of it runs, loads or turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

EVIL = {
    "script": "<script>window.taken = 1</script>",
    "image": "<img src=x onerror='window.taken = 1'>",
    "picture": "![i](http://evil.invalid/p.png)",
    "link": "[l](javascript:window.taken=1)",
    "colours": "\x1b[31mred\x1b[0m\x07",
    "direction": "abc\u202edcba",
    "half": "half \ud800 pair",
    "formula": "$x^2$ :red[r] `c` **b**",
}
ALL = " ".join(EVIL.values())
LONG = "long " * 1_000_000
NAMES = ("base", "mine", "forgetful")


def hostile(small: SimpleNamespace, result: Any) -> Any:
    """A result whose names, prompts, choices, targets and answers all are hostile."""
    place = NAMES.index(result.candidate.name)
    candidate = replace(result.candidate, name=f"{result.candidate.name} {ALL}")
    if candidate.adapter:
        candidate = replace(candidate, adapter=replace(candidate.adapter, path=f"adapters/{ALL}"))
    task = replace(result.task, name=f"{result.task.name} {ALL}")
    members = tuple(f"{member} {ALL}" for member in result.members)
    samples = tuple(_sample(sample, place) for sample in result.samples)
    return replace(result, candidate=candidate, task=task, samples=samples, members=members)


def _sample(sample: Any, place: int) -> Any:
    document = sample.document
    document = replace(
        document,
        prompt=f"{document.prompt} {ALL}",
        target=f"{ALL} {document.target}" if not document.choices else document.target,
        choices=tuple(f" {ALL}{choice}" for choice in document.choices),
    )
    if document.choices:
        return replace(sample, document=document)
    text = LONG if document.doc_id == 3 else f"{sample.responses[0]} {ALL} answer of {place}"
    return replace(sample, document=document, responses=(text,), filtered={})


@pytest.fixture(scope="module")
def hostile_site(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import runpy

    small = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "leaderboard" / "small.py")))
    db = tmp_path_factory.mktemp("hostile") / "tuneboard.duckdb"
    small.fill(db, NAMES, lambda result: hostile(small, result))
    with serve(db) as site:
        yield site


def refuse_harm(tab: Any) -> None:
    """Nothing ran, nothing was fetched from elsewhere, no element was made from text, nothing turns the text."""
    page = tab.page
    assert page.evaluate("() => window.taken === undefined")
    assert page.locator("img[src*=evil], [data-testid=stMain] img[src=x], [data-testid=stMain] script").count() == 0
    links = page.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href') || '')")
    assert [link for link in links if "javascript:" in link.lower() or "evil.invalid" in link.split("?")[0]] == []
    text = page.locator("body").inner_text()
    assert [line for line in text.splitlines() if {"\x1b", "\x07", "\u202e"} & set(line)] == []
    tab.refuse_errors()


def watch(tab: Any) -> list[str]:
    """Requests to elsewhere, from now on."""
    asked: list[str] = []
    tab.page.on("request", lambda one: urlsplit(one.url).hostname == "evil.invalid" and asked.append(one.url))
    return asked


@pytest.mark.parametrize("sample", [3, 5])
def test_answers_and_prompts_are_shown_as_they_are_written(tab: Any, hostile_site: Any, sample: int) -> None:
    here = tab(hostile_site)
    asked = watch(here)
    here.open("samples", status="all", task=f"gsm8k {ALL.encode('utf-8', 'backslashreplace').decode()}",
              sample=f"gsm8k {ALL.encode('utf-8', 'backslashreplace').decode()}:{sample}")  # fmt: skip
    # Code is drawn a moment after the rest.
    drawn = "() => [...document.querySelectorAll('[data-testid=stCode]')].filter(one => one.innerText).length >= 3"
    here.page.wait_for_function(drawn)
    text = here.text()
    for shown in ("<script>window.taken = 1</script>", "![i](http://evil.invalid/p.png)",
                  "[l](javascript:window.taken=1)",
                  "\\x1b[31mred", "abc\\u202edcba", "$x^2$ :red[r] `c` **b**"):  # fmt: skip
        assert shown in text
    assert sample != 3 or "of 5,000,000 characters are shown" in text
    refuse_harm(here)
    assert asked == []


@pytest.mark.parametrize("page", ["leaderboard", "compare"])
def test_names_are_shown_as_they_are_written(tab: Any, hostile_site: Any, page: str) -> None:
    here = tab(hostile_site)
    asked = watch(here)
    here.open(page)
    here.page.wait_for_timeout(300)
    refuse_harm(here)
    assert asked == []


@pytest.mark.accept
@pytest.mark.parametrize("page", ["samples", "reports", "model", "subjects", "gates", "efficiency", "radar"])
def test_names_are_harmless_on_every_other_page(tab: Any, hostile_site: Any, page: str) -> None:
    test_names_are_shown_as_they_are_written(tab, hostile_site, page)

"""A verdict's JUnit XML and Markdown, whatever names and answers hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree, html
from markdown_it import MarkdownIt

from tuneboard.compare import Flip
from tuneboard.gates import EXIT_CODES, RuleVerdict, Verdict
from tuneboard.report.junit import junit_xml
from tuneboard.report.verdict import HEADERS, GateReport, verdict_json, verdict_text
from tuneboard.report.verdict_markdown import marker, verdict_markdown

#: What models write and what breaks formats: control characters, lone surrogates, ends of blocks.
NASTY = "a\x00b\x1b[31m\ufffe\ud800 ]]> </failure> <!-- --> ```` </details> | * `x` 漢字 \U0001f600"


@pytest.fixture(scope="module")
def schema() -> Any:
    return etree.XMLSchema(etree.parse(str(Path(__file__).with_name("junit.xsd"))))


def flip(i: int = 0, text: str = "x") -> Flip:
    return Flip("mine", "task", "acc", "none", i, "broke", 1.0, 0.0, text, text, text, text)


def report(
    *outcomes: str, on_inconclusive: str = "report", flips: tuple[Any, ...] = (), text: str = "why"
) -> GateReport:
    rules = tuple(
        RuleVerdict("not_regress", f"task{i}", "acc", "none", outcome, text)  # type: ignore[arg-type]
        for i, outcome in enumerate(outcomes)
    )
    worst: Any = next((one for one in ("fail", "invalid", "inconclusive", "pass") if one in outcomes), "invalid")
    verdict = Verdict(worst, EXIT_CODES[worst], "p", "base", "mine", rules, (text,), 0.05, on_inconclusive)  # type: ignore[arg-type]
    return GateReport(verdict, flips, ("a warning",), 1.5)


def parsed(text: str, schema: Any) -> Any:
    tree = etree.fromstring(text.encode("utf-8"))
    schema.assertValid(tree)
    return tree


def test_every_outcome_has_its_element(schema: Any) -> None:
    tree = parsed(junit_xml(report("pass", "fail", "inconclusive", "invalid")), schema)

    (suite,) = tree
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    cases = suite.findall("testcase")
    outcomes = [[child.tag for child in case if child.tag != "system-out"] for case in cases]
    assert outcomes == [[], ["failure"], ["skipped"], ["error"]]
    assert cases[0].get("name") == "not_regress task0 acc"


@pytest.mark.parametrize(("on_inconclusive", "tag"), [("report", "skipped"), ("warn", "skipped"), ("fail", "failure")])
def test_inconclusive_is_what_the_policy_says(schema: Any, on_inconclusive: str, tag: str) -> None:
    tree = parsed(junit_xml(report("inconclusive", on_inconclusive=on_inconclusive)), schema)
    assert [element.tag for element in tree.iter(tag)] == [tag]


def test_a_verdict_without_rules_is_one_case_that_says_why(schema: Any) -> None:
    tree = parsed(junit_xml(report(text="nothing to compare")), schema)
    (error,) = tree.iter("error")
    assert error.get("message") == "nothing to compare" and tree.get("tests") == "1"


def test_nothing_in_a_text_breaks_the_files(schema: Any) -> None:
    made = report("fail", flips=((flip(text=NASTY),),), text=NASTY)

    tree = parsed(junit_xml(made), schema)
    assert "漢字" in tree.findtext(".//testcase/system-out") and "\ufffd" in tree.findtext(".//failure")
    markdown = verdict_markdown(made)
    markdown.encode("utf-8")
    assert "\x1b" not in markdown + verdict_text(made)
    assert "\n`````text\n" in markdown
    json.loads(json.dumps(verdict_json(made)))


def test_long_outputs_are_cut(schema: Any) -> None:
    flips = tuple(tuple(flip(i, "y" * 5000) for i in range(50)) for _ in range(60))
    made = report(*["fail"] * 60, flips=flips, text="z" * 300)

    outputs = [len(element.text) for element in parsed(junit_xml(made), schema).iter("system-out")]
    assert max(outputs[:-1]) <= 16_001
    markdown = verdict_markdown(made)
    assert len(markdown.encode()) < 60_000
    assert markdown.count("<details>") == markdown.count("</details>") > 0
    assert markdown.count("```") % 2 == 0
    assert "does not fit" in markdown


def test_markdown_starts_with_its_marker_and_the_verdict() -> None:
    lines = verdict_markdown(report("fail", "pass")).splitlines()

    assert lines[0] == marker("p") == "<!-- tuneboard-gate:p -->"
    assert lines[2].startswith("## ❌ FAIL  mine against base, policy p: 1 fail, 1 pass of 2 rules")
    assert marker("a --> b") == "<!-- tuneboard-gate:a-----b -->"
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| ❌") and table[3].startswith("| ✅")


def rendered(text: str) -> Any:
    """What GitHub makes of Markdown, as near as its specification goes."""
    return html.fragment_fromstring(MarkdownIt("commonmark").enable("table").render(text), create_parent="div")


@pytest.mark.parametrize("text", ["why", NASTY])
def test_markdown_renders_as_heading_tables_and_folded_blocks(text: str) -> None:
    page = rendered(verdict_markdown(report("fail", "pass", "inconclusive", flips=((flip(text=text),),), text=text)))

    (heading,) = page.findall("h2")
    assert heading.text_content().startswith("❌ FAIL  mine against base")
    (table,) = page.findall("table")
    assert [len(row.findall("td")) for row in table.findall("tbody/tr")] == [len(HEADERS)] * 3
    assert [one.findtext("summary") for one in page.findall("details")] == [
        "Why each rule came out so",
        "Samples that changed: not_regress task0 acc",
    ]
    why, changed = page.findall("details")
    assert len(why.findall("ul/li")) == 3 and len(changed.findall("pre/code")) == 1
    # Nothing that a name or an answer holds becomes a tag or leaves its place.
    assert {one.tag for one in page.iter() if isinstance(one.tag, str)} == {
        *("div", "h2", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code"),
    }
    shown = text.split(" ", 1)[-1]
    assert shown in changed.text_content() and shown in why.text_content()


def test_the_verdict_is_printed_first() -> None:
    text = verdict_text(report("fail", "inconclusive"))
    assert text.startswith("FAIL  mine against base") and "(exit 1)" in text.splitlines()[0]
    assert "warning: a warning" in text

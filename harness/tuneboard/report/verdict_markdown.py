"""A verdict as Markdown, for a pull request's comment and a CI job's summary."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tuneboard.gates import Outcome, RuleVerdict
from tuneboard.report.junit import flip_lines
from tuneboard.report.markdown import escaped, fenced, markdown_table
from tuneboard.report.tables import harmless
from tuneboard.report.verdict import ALIGN, HEADERS, GateReport, headline, rule_row

#: GitHub refuses comments of more than 65,536 characters.
MOST_BYTES = 60_000
#: Rows of the table that is not folded.
_MOST_ROWS = 40
_MOST_REASONS = 20
_TEXT_CHARS = 400
_ICONS: Mapping[Outcome, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "invalid": "⚠️"}
_WORST_FIRST: Sequence[Outcome] = ("fail", "invalid", "inconclusive", "pass")


def verdict_markdown(report: GateReport) -> str:
    """Lay out a verdict, the verdict itself first and details folded, in less than 60 KB.

    The first line is a hidden marker, by which a bot finds the comment that it is to update.

    Args:
        report: What the gate found.
    """
    verdict = report.verdict
    parts = [marker(verdict.policy), f"## {_ICONS[verdict.verdict]} {_plain(headline(verdict))}"]
    parts.append("\n".join(f"- {_plain(reason)}" for reason in [*verdict.reasons[:_MOST_REASONS], *report.warnings]))
    rules = sorted(verdict.rules, key=lambda rule: _WORST_FIRST.index(rule.verdict))
    if rules:
        parts.append(_table(rules[:_MOST_ROWS]))
    details = (
        [_folded("Why each rule came out so", "\n".join(f"- {_plain(rule.reason)}" for rule in rules))] if rules else []
    )
    if rules[_MOST_ROWS:]:
        details.append(_folded(f"{len(rules) - _MOST_ROWS} more rules", _table(rules[_MOST_ROWS:])))
    details += _flips(report)
    return _fitting(parts, details)


def marker(policy: str) -> str:
    """Return the hidden first line of the comment of a policy."""
    safe = "".join(char if char.isalnum() or char in "._" else "-" for char in policy)
    return f"<!-- tuneboard-gate:{safe} -->"


def _table(rules: Sequence[RuleVerdict]) -> str:
    return markdown_table(HEADERS, [[_ICONS[rule.verdict], *rule_row(rule)[1:]] for rule in rules], ALIGN)


def _flips(report: GateReport) -> list[str]:
    out = []
    for place, rule in enumerate(report.verdict.rules):
        shown = [fenced(harmless("\n".join(flip_lines(flip, _TEXT_CHARS)))) for flip in report.flips_of(place)]
        if shown:
            out.append(_folded(f"Samples that changed: {rule.name}", "\n\n".join(shown)))
    return out


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(harmless(title))}</summary>\n\n{content}\n\n</details>"


def _fitting(parts: Sequence[str], details: Sequence[str]) -> str:
    """Join what fits; whole sections are left out, so that no block stays open."""
    note = "*More does not fit here; `tuneboard gate --json` has all of it.*"
    kept, left = list[str](), MOST_BYTES - len(note.encode()) - 4
    dropped = False
    for part in [*parts, *details]:
        size = len(part.encode("utf-8", "replace")) + 2
        if size <= left:
            kept.append(part)
            left -= size
        else:
            dropped = True
    return "\n\n".join([*kept, *([note] if dropped else [])]) + "\n"


def _plain(text: str) -> str:
    return escaped(harmless(text))

"""Words, icons and numbers of the site, and text of others made safe to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tuneboard.report.numbers import number

#: Stands where there is no number.
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Status:
    """How a status looks; the icon and the word say it without the colour."""

    icon: str
    word: str
    colour: str

    @property
    def label(self) -> str:
        """Icon and word, as cells and legends show them."""
        return f"{self.icon} {self.word}"


#: Statuses of comparisons and verdicts of gates. The colours differ for colour-blind eyes too (Okabe and Ito 2008),
#: and have a contrast of at least 3 with both backgrounds.
STATUS: Mapping[str, Status] = MappingProxyType(
    {
        "improved": Status("▲", "improved", "#0A8F6B"),
        "regressed": Status("▼", "regressed", "#D55E00"),
        "equivalent": Status("≈", "equivalent", "#7C8590"),
        "inconclusive": Status("?", "inconclusive", "#A8790A"),
        "pass": Status("✓", "pass", "#0A8F6B"),
        "fail": Status("✗", "fail", "#D55E00"),
        "invalid": Status("!", "invalid", "#A65A9A"),
    }
)

# Control characters but newline and tab, line separators, what turns the direction of text, what is invisible, and
# surrogates without their other half. Joiners stay: scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# What Markdown, as Streamlit reads it, turns into links, emoji, icons and dashes even behind a backslash: it looks at
# the finished text. An invisible joiner takes it apart.
_EAGER = re.compile(r"\b(?:https?|ftp)(?=:)|\bwww(?=\.)|@|:(?=[\w/+-]+:)|-(?=[->])|<(?=-)", re.IGNORECASE)


def harmless(text: str, limit: int = 20_000) -> str:
    """Return text in which every character can be seen: what would steer a display stands as an escape.

    Args:
        text: Anything, such as a model's answer.
        limit: Characters that are kept; a note at the end says what is missing.
    """
    total = len(text)
    shown = _UNSEEN.sub(_escape, text[:limit].replace("\r\n", "\n"))
    return shown if total <= limit else f"{shown}\n… cut here: {limit:,} of {total:,} characters are shown"


def literal(text: str, limit: int = 300) -> str:
    """Return text of one line for places that read Markdown (titles, captions, labels), which show it as it is.

    Args:
        text: Anything, such as a candidate's name.
        limit: Characters that are kept.
    """
    line = " ".join(harmless(text, limit).split())
    return _PUNCTUATION.sub(r"\\\1", _EAGER.sub("\\g<0>\u2060", line))


def score(value: float | None) -> str:
    """Write a score; a dash where there is none."""
    return NOTHING if value is None else number(value).replace("-", "−")


def signed(value: float | None) -> str:
    """Write a difference with its sign; a dash where there is none."""
    return NOTHING if value is None else number(value, "+").replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """Write an interval; a dash where there is none."""
    return NOTHING if low is None or high is None else f"[{score(low)}, {score(high)}]"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

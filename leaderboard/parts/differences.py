"""Where two answers differ, as text alone: each line begins with what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

#: Signs at the beginning of a line, those of a diff, so that its colours fit too.
SAME, GONE, NEW = "  ", "- ", "+ "

#: Characters from which on a changed line is taken apart into words.
_LONG_LINE = 80
#: Words that two answers must share in a row to be shown as the same; fewer would shred what differs.
_SHARED_WORDS = 3
#: Lines and words beyond which everything that is no shared beginning or end counts as changed: comparing takes the
#: product of both lengths, 0.2 s at this size.
_MOST_LINES, _MOST_WORDS = 1500, 1500

_Part = tuple[bool, str, str]
"""Whether both say the same, what the one says, what the other says."""


def marked(before: str, after: str) -> tuple[str, str]:
    """Return two texts with every line marked: ``-`` only the first says, ``+`` only the second, else both.

    Long lines are broken where they begin to differ.

    Args:
        before: One text.
        after: The other one.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for same, left, right in _parts(before.split("\n"), after.split("\n")):
        for lines, sign, text in ((sides[0], GONE, left), (sides[1], NEW, right)):
            if text or same:
                lines += [f"{SAME if same else sign}{line}" for line in text.split("\n")]
    return "\n".join(sides[0]), "\n".join(sides[1])


def _parts(before: Sequence[str], after: Sequence[str]) -> list[_Part]:
    out: list[_Part] = []
    for same, left, right in _runs(before, after, _MOST_LINES):
        whole = "\n".join(left), "\n".join(right)
        if not same and left and right and max(map(len, [*left, *right])) > _LONG_LINE:
            out += _word_parts(*whole)
        else:
            out.append((same, *whole))
    return out


def _word_parts(before: str, after: str) -> list[_Part]:
    words = [re.findall(r"\s*\S+", text) for text in (before, after)]
    runs = _runs([word.strip() for word in words[0]], [word.strip() for word in words[1]], _MOST_WORDS)
    out: list[_Part] = []
    at = [0, 0]
    for same, left, right in runs:
        texts = []
        for side, run in enumerate((left, right)):
            text = "".join(words[side][at[side] : at[side] + len(run)])
            # Only the first run can begin with an indentation.
            texts.append(text.strip() if at[side] else text.rstrip())
            at[side] += len(run)
        if same and len(left) >= _SHARED_WORDS:
            out.append((True, *texts))
        elif out and not out[-1][0]:
            out[-1] = (False, f"{out[-1][1]} {texts[0]}".strip(), f"{out[-1][2]} {texts[1]}".strip())
        else:
            out.append((False, *texts))
    return out


def _runs(before: Sequence[str], after: Sequence[str], most: int) -> list[tuple[bool, Sequence[str], Sequence[str]]]:
    """Return runs of equal items and of others, in order."""
    if max(len(before), len(after)) <= most:
        codes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        return [(tag == "equal", before[i:j], after[k:m]) for tag, i, j, k, m in codes]
    shortest = min(len(before), len(after))
    start = next((i for i in range(shortest) if before[i] != after[i]), shortest)
    rest = shortest - start
    end = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    cuts = [(True, 0, start, 0, start), (False, start, len(before) - end, start, len(after) - end)]
    cuts.append((True, len(before) - end, len(before), len(after) - end, len(after)))
    return [(same, before[i:j], after[k:m]) for same, i, j, k, m in cuts if j > i or m > k]

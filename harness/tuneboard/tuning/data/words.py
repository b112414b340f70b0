"""Turns texts into words, and runs of words into numbers that can be compared by the million."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int64]
    Hashes: TypeAlias = NDArray[np.uint64]

#: Chinese characters and Japanese kana stand without spaces, so each of them is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

#: Soft hyphens, zero-width spaces and joiners, byte order marks: nobody sees them.
_INVISIBLE = dict.fromkeys([0x00AD, *range(0x200B, 0x2010), 0x2060, 0xFEFF])

#: For ASCII, the same words come four times faster by this table and ``split`` than by the pattern.
_ASCII = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))

#: Characters that are in words at once; as Python strings, words take ten times the memory of their numbers.
_CHUNK = 1_000_000

#: Odd, so that multiplying by it loses nothing modulo 2^64.
_BASE = 0x9E3779B97F4A7C15


def words(text: str) -> list[str]:
    """Return the words of a text, alike for all ways of writing them.

    Unicode forms (NFKC), upper and lower case, punctuation, underscores and any white space make no difference; digits
    count as letters do.
    """
    if text.isascii():
        return text.translate(_ASCII).split()
    return _WORD.findall(unicodedata.normalize("NFKC", text).translate(_INVISIBLE).casefold())


def chunks(texts: Sequence[str], characters: int) -> list[tuple[int, int]]:
    """Cut a sequence of texts into ranges that hold about ``characters`` each, in order."""
    ranges, start, held = [], 0, 0
    for index, text in enumerate(texts):
        held += len(text)
        if held >= characters:
            ranges.append((start, index + 1))
            start, held = index + 1, 0
    return [*ranges, (start, len(texts))] if start < len(texts) else ranges


def numbered(texts: Sequence[str], number: Callable[[str], int]) -> tuple[Ids, Ids]:
    """Return the words of all texts, one after another.

    Args:
        texts: Any number of them.
        number: Gives the number of a word; a negative one leaves the word out.

    Returns:
        For each word its number, and the index of its text.
    """
    import numpy as np

    ids, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start, stop in chunks(texts, _CHUNK):
        parts = [words(text) for text in texts[start:stop]]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        found = np.fromiter(map(number, chain.from_iterable(parts)), np.int64, int(lengths.sum()))
        ids.append(found[found >= 0])
        owners.append(np.repeat(np.arange(start, stop), lengths)[found >= 0])
    return np.concatenate(ids), np.concatenate(owners)


def scattered(numbers: NDArray[np.int64] | Hashes) -> Hashes:
    """Spread numbers evenly over 64 bits, one to one: the finalizer of SplitMix64 (Steele et al. 2014)."""
    import numpy as np

    mixed = numbers.astype(np.uint64) + np.uint64(_BASE)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def grams(words: Hashes, owners: Ids, length: int) -> tuple[Hashes, Ids]:
    """Return a number for each run of ``length`` words within one text.

    Two of 10^7 different runs get the same number with probability 10^-6.

    Args:
        words: ``scattered`` numbers of the words, text after text.
        owners: Index of the text of each word.
        length: Words of a run, 1 or more.

    Returns:
        The numbers of the runs, and the index of the text of each.
    """
    import numpy as np

    count = max(0, len(words) - length + 1)
    mixed = np.full(count, length, np.uint64)
    for offset in range(length):
        mixed *= np.uint64(_BASE)
        mixed += words[offset : offset + count]
    within = owners[:count] == owners[length - 1 : length - 1 + count]
    return scattered(mixed[within]), owners[:count][within]

"""Finds benchmark items that stand in training data, by the runs of words that both share.

An item's text is cut into n-grams of words (``words.words`` says what makes no difference). Those that many items
share, such as "which of the following is not an example of", are boilerplate and do not count. The share of the others
that one row holds is the overlap; the item's question alone, with its answer and with its choices are looked for one by
one, and the largest overlap counts. GPT-3's benchmarks were checked by shared n-grams too (Brown et al. 2020, appendix
C, n from 8 to 13): there one was enough, which finds more and is wrong more often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from tuneboard.tuning.data.benchmarks import BenchmarkItem, benchmark_items
from tuneboard.tuning.data.words import chunks, grams, numbered, scattered
from tuneboard.tuning.records import Leak

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuneboard.tuning.data.words import Hashes, Ids
    from tuneboard.tuning.records import Example, LeakSpec

__all__ = ["FEWEST_WORDS", "BenchmarkItem", "LeakIndex", "benchmark_items", "find_leaks"]

#: Texts of fewer words are not looked for: "what is a cell" stands in many an honest row.
FEWEST_WORDS = 5

#: A gram does not count if it stands in more than these many different texts of all benchmarks, ...
_COMMON_OF_ALL = 20
#: ... or, within one task, in more than 2 % of the texts, but never fewer than 3 nor more than 10.
_COMMON_SHARE, _COMMON_LEAST, _COMMON_MOST = 0.02, 3, 10

#: Of shorter texts a gram is a quarter, but not fewer words than this. A changed word spoils each gram that it is in:
#: of copies with one word in 20 changed, 92 % of MMLU's are found so, and 74 % where all grams have 8 words.
_SHORTEST, _PARTS = 5, 4

#: Grams that make a leak at least, where the text has so many: with two, "how many books are in the" would do.
_FEWEST_SHARED = 3

#: Texts of more words are looked for in passages of ``_PASSAGE`` words, since no row holds half of a whole article.
_LONG, _PASSAGE = 400, 200

#: The article and the letters before choices are no words here: "A. red B. blue" and "red, blue" are alike.
_NO_WORDS = dict.fromkeys("abcde", -1)
_UNKNOWN = 1 << 40

#: Characters of rows that are searched at once: some 150 MB of arrays.
_CHUNK = 4_000_000

#: Bits by which grams are sorted out before they are looked up: of 10^6 grams, 6 % of foreign ones pass.
_SIEVE_BITS = 24


def find_leaks(examples: Sequence[Example], items: Sequence[BenchmarkItem], spec: LeakSpec) -> list[Leak]:
    """Return the benchmark items that stand in rows, in the order of the rows.

    Args:
        examples: The rows; a leak names its row by ``place``.
        items: What must not stand in them.
        spec: Words per gram, and the share of an item's grams that makes a leak.
    """
    return LeakIndex(items, spec).search(examples)


class LeakIndex:
    """The grams of all items, ready to be found in any number of rows.

    Grams have ``spec.ngram`` words in texts of four times as many; in shorter ones a quarter of the text, but 5 at
    least. A text of fewer than ``spec.ngram`` words is one gram of all its words; below ``FEWEST_WORDS`` it is not
    looked for. A leak shares three grams, or all where there are fewer. An item none of whose texts has a gram that
    counts is in ``unmatchable``.

    Args:
        items: What to look for.
        spec: Words per gram, and the share of an item's grams that makes a leak.
    """

    def __init__(self, items: Sequence[BenchmarkItem], spec: LeakSpec) -> None:
        import numpy as np

        self._items, self._spec = items, spec
        texts = [(index, text) for index, item in enumerate(items) for text in (item.text, *item.variants)]
        numbers: defaultdict[str, int] = defaultdict(count().__next__, _NO_WORDS)
        ids, owners = numbered([text for _, text in texts], numbers.__getitem__)
        self._numbers = _Known(numbers)
        passages, text_of = _passages(owners)
        self._item = np.array([index for index, _ in texts], np.int64)[text_of]
        found, holders, self._lengths = _item_grams(ids, passages, len(text_of), spec.ngram)
        order = np.lexsort((holders, found))
        found, holders = found[order], holders[order]
        new = (np.diff(found, prepend=~found[:1]) != 0) | (np.diff(holders, prepend=-1) != 0)
        found, holders = found[new], holders[new]
        counts = ~_boilerplate(found, self._item[holders], items)
        self._holders = holders[counts]
        self._grams, self._starts = np.unique(found[counts], return_index=True)
        self._stops = np.append(self._starts[1:], len(self._holders))
        self._totals = np.bincount(self._holders, minlength=len(self._item))
        self._sieve = np.zeros(1 << _SIEVE_BITS, np.bool_)
        self._sieve[self._grams >> np.uint64(64 - _SIEVE_BITS)] = True

    @property
    def unmatchable(self) -> list[BenchmarkItem]:
        """Items that cannot be found: too short, or made of boilerplate."""
        found = set(self._item[self._totals > 0].tolist())
        return [item for index, item in enumerate(self._items) if index not in found]

    def search(self, examples: Sequence[Example]) -> list[Leak]:
        """Return the items that stand in the rows, in the order of rows and items."""
        texts = [example.whole for example in examples]
        leaks = []
        for start, stop in chunks(texts, _CHUNK):
            best: dict[tuple[int, int], float] = {}
            for row, item, overlap in self._overlaps(texts[start:stop]):
                best[row, item] = max(overlap, best.get((row, item), 0.0))
            for (row, index), overlap in sorted(best.items()):
                leaking = self._items[index]
                leaks.append(Leak(leaking.task, leaking.doc_id, examples[start + row].place, round(overlap, 4)))
        return leaks

    def _overlaps(self, texts: Sequence[str]) -> list[tuple[int, int, float]]:
        """Return row, item and overlap wherever a text of an item stands in a row."""
        import numpy as np

        rows, found = self._known_grams(texts)
        sizes = self._stops[found] - self._starts[found]
        ends = np.cumsum(sizes)
        spread = np.arange(int(sizes.sum())) + np.repeat(self._starts[found] - (ends - sizes), sizes)
        # One number for each gram that a row and a passage share; equal numbers are counted.
        pairs = np.repeat(rows, sizes) * len(self._item) + self._holders[spread]
        pair, shared = np.unique(pairs, return_counts=True)
        row, passage = np.divmod(pair, max(1, len(self._item)))
        overlap = shared / self._totals[passage]
        leaking = (overlap >= self._spec.overlap - 1e-9) & (shared >= np.minimum(_FEWEST_SHARED, self._totals[passage]))
        columns = row[leaking], self._item[passage[leaking]], overlap[leaking]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _known_grams(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return each row and gram of the index that it holds, once; grams by their position in the index."""
        import numpy as np

        ids, owners = numbered(texts, self._numbers.__getitem__)
        spread = scattered(ids)
        known = []
        for length in self._lengths:
            hashes, rows = grams(spread, owners, length)
            passed = self._sieve[hashes >> np.uint64(64 - _SIEVE_BITS)]
            hashes, rows = hashes[passed], rows[passed]
            place = np.searchsorted(self._grams, hashes)
            hit = place < len(self._grams)
            hit[hit] = self._grams[place[hit]] == hashes[hit]
            known.append(rows[hit] * len(self._grams) + place[hit])
        distinct = np.unique(np.concatenate(known)) if known else np.zeros(0, np.int64)
        row, gram = np.divmod(distinct, max(1, len(self._grams)))
        return row, gram


class _Known(dict[str, int]):
    """Numbers of the items' words; all other words share one that no item has."""

    def __missing__(self, word: str) -> int:
        return _UNKNOWN


def _passages(owners: Ids) -> tuple[Ids, Ids]:
    """Number the passages in which texts are looked for.

    Returns:
        The passage of each word, and the text of each passage.
    """
    import numpy as np

    lengths = np.bincount(owners)
    starts = np.cumsum(lengths) - lengths
    position = np.arange(len(owners)) - starts[owners]
    part = np.where(lengths[owners] > _LONG, position // _PASSAGE, 0)
    heads = (np.diff(owners, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0)
    return np.cumsum(heads) - 1, owners[heads]


def _item_grams(ids: Ids, passages: Ids, count: int, ngram: int) -> tuple[Hashes, Ids, list[int]]:
    """Return the grams of all passages, the passage of each, and the lengths of grams in use."""
    import numpy as np

    lengths = np.bincount(passages, minlength=count)
    size = np.where(lengths < ngram, lengths, np.clip(lengths // _PARTS, min(_SHORTEST, ngram), ngram))
    size[lengths < FEWEST_WORDS] = 0
    used = [length for length in np.unique(size).tolist() if length]
    spread, own = scattered(ids), size[passages]
    parts = [grams(spread[own == length], passages[own == length], length) for length in used]
    if not parts:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), used
    hashes, holders = (np.concatenate(column) for column in zip(*parts, strict=True))
    return hashes, holders, used


def _boilerplate(found: Hashes, holders: Ids, items: Sequence[BenchmarkItem]) -> NDArray[np.bool_]:
    """Tell for each gram and item that holds it whether too many different texts share the gram.

    Equal texts count once, however many tasks ask them: TruthfulQA has three tasks of the same questions.

    Args:
        found: Grams, sorted.
        holders: Index of the item that holds each.
        items: All of them.
    """
    import numpy as np

    texts: dict[str, int] = {}
    tasks: dict[str, int] = {}
    text_of = np.array([texts.setdefault(item.text, len(texts)) for item in items], np.int64)[holders]
    task_of = np.array([tasks.setdefault(item.task, len(tasks)) for item in items], np.int64)[holders]
    sizes = np.bincount([tasks[item.task] for item in items], minlength=len(tasks))
    limits = np.clip(sizes * _COMMON_SHARE, _COMMON_LEAST, _COMMON_MOST)
    gram = np.cumsum(np.diff(found, prepend=found[:1]) != 0)
    grams_count = int(gram[-1]) + 1 if len(gram) else 0
    in_all = np.unique(gram * len(texts) + text_of) // max(1, len(texts))
    common = np.bincount(in_all, minlength=grams_count) > _COMMON_OF_ALL
    in_tasks = np.unique((gram * len(tasks) + task_of) * len(texts) + text_of) // max(1, len(texts))
    pair, shared = np.unique(in_tasks, return_counts=True)
    frequent = pair[shared > limits[pair % max(1, len(tasks))]] // max(1, len(tasks))
    common[frequent] = True
    told: NDArray[np.bool_] = common[gram]
    return told

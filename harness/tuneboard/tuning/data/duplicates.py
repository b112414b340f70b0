"""Finds rows that stand in the data already, to the letter or nearly so.

Exact duplicates are equal but for case and white space. Near-duplicates share at least a given part of their word
5-grams (Jaccard similarity: shared over all). Candidates come from MinHash signatures (Broder 1997) in bands
(Leskovec et al., Mining of Massive Datasets, chapter 3); each is then compared in truth, so what is found is right, and
of pairs right at the threshold at most one in 10,000 is missed.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING

from tuneboard.tuning.data.words import chunks, grams, numbered, scattered, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuneboard.tuning.data.words import Hashes, Ids
    from tuneboard.tuning.records import Example

_GRAM = 5

#: Values of a signature at most; more of them sort out candidates better and take longer.
_MOST_HASHES = 72

#: Share of pairs right at the threshold that the bands may miss.
_MISSED = 1e-4

#: Characters whose grams are hashed at once: some 50 MB of arrays.
_CHUNK = 2_000_000

#: Rows that a row is compared with per band: in data made from one template all look alike, and to compare all with
#: all would take hours. Rows beyond these are compared with the latest ones.
_MOST_COMPARED = 100

#: Gram sets that are kept while pairs are compared.
_KEPT_SETS = 20_000

#: Answers of fewer words are labels, numbers or names: where they differ, the rows do, whatever the prompts share.
_SHORT_ANSWER = 5


def exact_duplicates(examples: Sequence[Example]) -> dict[int, int]:
    """Return the rows that repeat an earlier one up to case and white space.

    Returns:
        Index of the repeating row to that of the first of its kind.
    """
    first: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for row, example in enumerate(examples):
        folded = " ".join(example.whole.casefold().split())
        key = blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        earlier = first.setdefault(key, row)
        if earlier != row:
            found[row] = earlier
    return found


def near_duplicates(examples: Sequence[Example], threshold: float) -> dict[int, int]:
    """Return the rows that are nearly the same as an earlier one that is kept.

    A text of fewer than five words has one gram, all of its words: it is the near-duplicate only of texts with the
    same words. A text without words has none. Rows whose answers differ and are shorter than five words, as labels
    are, never count as near-duplicates. Rows are visited in order and compared with those kept so far, so the outcome
    depends on nothing else, and a chain of small changes does not fold into its first link.

    Args:
        examples: In the order in which the first of each kind is kept.
        threshold: Least Jaccard similarity, 0.5 to 1.

    Returns:
        Index of the repeating row to that of the row it repeats.
    """
    import numpy as np

    bands, width = _banding(threshold)
    signatures, filled = _signatures([example.whole for example in examples], bands * width)
    buckets = _buckets(signatures, filled, bands)
    sets = _GramSets(examples)
    kept: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    for row in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        keys = [(band, bucket) for band, bucket in enumerate(buckets[row].tolist()) if bucket >= 0]
        rivals = sorted({rival for key in keys for rival in kept[key][-_MOST_COMPARED:]})
        for rival in _promising(signatures, row, rivals, threshold):
            if _same_answer(examples[row], examples[rival]) and sets.similarity(row, rival) >= threshold:
                found[row] = rival
                break
        else:
            for key in keys:
                kept[key].append(row)
    return found


def _banding(threshold: float) -> tuple[int, int]:
    """Choose bands and their width: as wide as ``_MOST_HASHES`` allows without missing more than ``_MISSED``."""
    if threshold >= 1:
        return 1, 8
    best = (1, 1)
    for width in range(1, 17):
        bands = math.ceil(math.log(_MISSED) / math.log1p(-(threshold**width)))
        if bands * width <= _MOST_HASHES:
            best = (bands, width)
    return best


def _signatures(texts: Sequence[str], size: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Return a MinHash signature per text, and which texts have words at all."""
    import numpy as np

    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    signatures = np.zeros((len(texts), size), np.uint32)
    filled = np.zeros(len(texts), np.bool_)
    # Multiply-shift hashing (Dietzfelbinger et al. 1997), with multipliers that are the same on every machine.
    multipliers = scattered(np.arange(1, size + 1)) | np.uint64(1)
    for start, stop in chunks(texts, _CHUNK):
        ids, owners = numbered(texts[start:stop], numbers.__getitem__)
        hashes, rows = _text_grams(ids, owners)
        if not len(rows):
            continue
        heads = np.flatnonzero(np.diff(rows, prepend=-1))
        filled[start + rows[heads]] = True
        for column, multiplier in enumerate(multipliers):
            products = ((hashes * multiplier) >> np.uint64(32)).astype(np.uint32)
            signatures[start + rows[heads], column] = np.minimum.reduceat(products, heads)
    return signatures, filled


def _text_grams(ids: Ids, owners: Ids) -> tuple[Hashes, Ids]:
    """Return the 5-grams of each text, sorted by text; of a shorter text all its words as one gram."""
    import numpy as np

    spread = scattered(ids)
    parts = [grams(spread, owners, _GRAM)]
    lengths = np.bincount(owners)[owners] if len(owners) else owners
    for length in range(1, _GRAM):
        short = lengths == length
        parts.append(grams(spread[short], owners[short], length))
    hashes, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return hashes[order], rows[order]


def _buckets(signatures: NDArray[np.uint32], filled: NDArray[np.bool_], bands: int) -> Ids:
    """Return for each row and band the number of a bucket that it shares with others, or -1."""
    import numpy as np

    buckets = np.full((len(signatures), bands), -1, np.int64)
    rows = np.flatnonzero(filled)
    for band, part in enumerate(np.array_split(signatures[rows], bands, axis=1)):
        key = np.zeros(len(rows), np.uint64)
        for column in part.T:
            key = scattered(key ^ column)
        _, bucket, sizes = np.unique(key, return_inverse=True, return_counts=True)
        buckets[rows, band] = np.where(sizes[bucket] > 1, bucket, -1)
    return buckets


def _promising(signatures: NDArray[np.uint32], row: int, rivals: Sequence[int], threshold: float) -> list[int]:
    """Return the rivals whose signatures agree about as often as the threshold asks, in order.

    The share of equal values estimates the similarity with a standard deviation of sqrt(t(1-t)/size); four of them are
    allowed for.
    """
    import numpy as np

    if not rivals:
        return []
    size = signatures.shape[1]
    agreement = (signatures[list(rivals)] == signatures[row]).mean(axis=1)
    least = threshold - 4 * math.sqrt(threshold * (1 - threshold) / size)
    return [rivals[index] for index in np.flatnonzero(agreement >= least).tolist()]


def _same_answer(one: Example, other: Example) -> bool:
    if one.answer == other.answer:
        return True
    mine, theirs = words(one.answer), words(other.answer)
    return mine == theirs or min(len(mine), len(theirs)) >= _SHORT_ANSWER


class _GramSets:
    """True gram sets of rows, made when they are first compared."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._sets: OrderedDict[int, frozenset[tuple[str, ...]]] = OrderedDict()

    def similarity(self, row: int, other: int) -> float:
        """Return the Jaccard similarity of two rows that have words."""
        mine, theirs = self._set(row), self._set(other)
        shared = len(mine & theirs)
        return shared / (len(mine) + len(theirs) - shared)

    def _set(self, row: int) -> frozenset[tuple[str, ...]]:
        if row in self._sets:
            self._sets.move_to_end(row)
            return self._sets[row]
        if len(self._sets) >= _KEPT_SETS:
            self._sets.popitem(last=False)
        parts = words(self._examples[row].whole)
        length = min(_GRAM, len(parts))
        made = frozenset(tuple(parts[start : start + length]) for start in range(len(parts) - length + 1))
        self._sets[row] = made
        return made

"""Samples of a base and a candidate side by side, for looking through them page by page.

What changed is found once for a pair of results and kept as arrays of a few bytes a sample; a page then asks the
database for its own rows alone, so that it takes as long with ten million samples as with ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from tuneboard.compare.roles import assign_places
from tuneboard.compare.scores import MetricName
from tuneboard.headline import headline_metric
from tuneboard.store.arrays import ScoreArrays, name_of
from tuneboard.store.cells import find_cells
from tuneboard.store.database import reading
from tuneboard.store.matching import Block, Choice, choose
from tuneboard.store.pairs import suite_entries, task_rows
from tuneboard.store.results import load_metrics
from tuneboard.store.searching import holding

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

Change: TypeAlias = Literal["broke", "fixed", "both wrong", "both right", "not scored"]

#: What can have become of a sample; the place of each is its code in ``SampleIndex.changes``.
CHANGES: tuple[Change, ...] = get_args(Change)

SampleKey: TypeAlias = tuple[str, int]
"""Task and document."""

Span: TypeAlias = tuple[int, int]
"""First and last row of a result in a table: its rows were written together, and no index leads to them."""


_NOWHERE: Span = (0, -1)


@dataclass(frozen=True, slots=True)
class SamplePair:
    """A task that the base and the candidate answered on the same documents under the same settings."""

    block: Block
    metric: MetricName
    """What tells right from wrong: the task's headline metric, unless another one was asked for."""
    metrics: tuple[MetricName, ...]
    """What both sides have."""
    member_of: str | None
    """The suite's entry (or the largest group) that the task is part of."""
    samples: tuple[Span, ...]
    """Where the answers of the base and of the candidate stand."""
    scores: tuple[Span, ...]

    @property
    def task(self) -> str:
        """Its name."""
        return self.block.task


@dataclass(frozen=True, slots=True)
class Pairing:
    """What a base and a candidate have in common."""

    pairs: tuple[SamplePair, ...]
    """In the order of the suite."""
    missing: tuple[tuple[str, str], ...]
    """Tasks that cannot be paired, with the reason; the candidate's name where it is none of its tasks."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleIndex:
    """Samples in the order of their tasks and documents, each with what became of it."""

    tasks: tuple[str, ...]
    places: NDArray[np.int16]
    """(samples,) Which of ``tasks`` each belongs to."""
    doc_ids: NDArray[np.int64]
    changes: NDArray[np.int8]
    """(samples,) Codes, places in ``CHANGES``."""
    base: NDArray[np.float32]
    """(samples,) Score, averaged over repeats; NaN where there is none."""
    candidate: NDArray[np.float32]

    def counts(self) -> dict[Change, int]:
        """Return how many samples of each kind there are."""
        import numpy as np

        found = np.bincount(self.changes, minlength=len(CHANGES))
        return {change: int(count) for change, count in zip(CHANGES, found, strict=True)}

    def of(self, change: Change | None) -> NDArray[np.int64]:
        """Return where the samples of a kind stand; None stands for all."""
        import numpy as np

        wanted = slice(None) if change is None else self.changes == CHANGES.index(change)
        return np.arange(len(self.changes))[wanted]

    def key(self, at: int) -> SampleKey:
        """Return which sample stands at a place."""
        return self.tasks[self.places[at]], int(self.doc_ids[at])

    def find(self, key: SampleKey) -> int | None:
        """Return where a sample stands, None where it is not among these."""
        import numpy as np

        if key[0] not in self.tasks:
            return None
        start, end = np.searchsorted(self.places, [self.tasks.index(key[0]), self.tasks.index(key[0]) + 1])
        at = int(start + np.searchsorted(self.doc_ids[start:end], key[1]))
        return at if at < end and self.doc_ids[at] == key[1] else None


def find_pairs(db: Path, base: str, candidate: str) -> Pairing:
    """Pair the newest results of a base and a candidate, as a comparison does.

    Args:
        db: The database file.
        base: Name of the base.
        candidate: Name of the candidate.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        cells = find_cells(connection, names=[base, candidate])
        refs = task_rows(connection, cells)
        choice = choose(cells, base, [candidate], refs, ())
        metrics = load_metrics(connection, sorted({cell.id for block in choice.blocks for cell in block.cells}))
        entries = suite_entries(connection, choice)
        samples, scores = (_spans(connection, table, list(metrics)) for table in ("samples", "scores"))
    members = {cell.task: cell.members for cell in choice.groups}
    places = assign_places(choice.order, members, entries, {}, rest=True)
    order = list(places)
    pairs = []
    for block in choice.blocks:
        of_sides = [metrics.get(cell.id, ()) for cell in block.cells]
        shared = [one for one in of_sides[0] if name_of(one) in {name_of(other) for other in of_sides[1]}]
        if headline := headline_metric(block.task, shared, places[block.task].headline):
            names = tuple(name_of(one) for one in shared)
            pairs.append(
                SamplePair(
                    block=block,
                    metric=name_of(headline),
                    metrics=names,
                    member_of=places[block.task].member_of,
                    samples=tuple(samples.get(cell.id, _NOWHERE) for cell in block.cells),
                    scores=tuple(scores.get(cell.id, _NOWHERE) for cell in block.cells),
                )
            )
    info = choice.candidates[0]
    missing = [(refusal.task, refusal.reason) for refusal in info.refused if refusal.task not in members]
    if info.reason:
        missing.append((candidate, info.reason))
    return Pairing(tuple(sorted(pairs, key=lambda pair: order.index(pair.task))), tuple(missing))


def _spans(connection: duckdb.DuckDBPyConnection, table: str, cells: Sequence[str]) -> dict[str, Span]:
    """Find the rows of results: 0.1 s among 20 million, after which each row is there in milliseconds."""
    found = connection.execute(
        f"""SELECT cell_id, min(rowid), max(rowid) FROM {table}
            WHERE cell_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY cell_id""",
        [cells],
    ).fetchall()
    return {cell: (first, last) for cell, first, last in found}


def index_samples(db: Path, pairs: Sequence[SamplePair], text: str = "") -> SampleIndex:
    """Find out what became of every sample of some tasks.

    A sample broke when it scores worse than before, and was fixed when it scores better. Of those that score the same,
    the full score (1, or 0 where lower is better) counts as right and everything else as wrong.

    Args:
        db: The database file.
        pairs: From ``find_pairs``.
        text: Only samples that hold it in their prompt, choices, target or one of the answers, whatever its case.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    import numpy as np

    blocks = [pair.block for pair in pairs]
    with reading(db) as connection:
        refs = task_rows(connection, [block.cells[0] for block in blocks])
        arrays = ScoreArrays(connection, Choice(tuple(blocks), (), (), ()))
        parts = [_changes(connection, arrays, pair, refs[pair.block.cells[0].task_fingerprint], text) for pair in pairs]
    sizes = [len(part[0]) for part in parts]
    empty: tuple[Any, ...] = (
        np.empty(0, np.int64),
        np.empty(0, np.int8),
        np.empty(0, np.float32),
        np.empty(0, np.float32),
    )
    columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
    places = np.repeat(np.arange(len(parts), dtype=np.int16), sizes)
    return SampleIndex(tuple(pair.task for pair in pairs), places, *columns)


def _changes(
    connection: duckdb.DuckDBPyConnection, arrays: ScoreArrays, pair: SamplePair, ref: dict[str, Any], text: str
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    import numpy as np

    scores = arrays.block(pair.block, ref)
    metric = scores.metrics[pair.metric]
    doc_ids = np.union1d(scores.doc_ids, _failed(connection, pair))
    values = np.full((2, len(doc_ids)), np.nan)
    values[:, np.searchsorted(doc_ids, scores.doc_ids)] = metric.averaged
    base, candidate = values
    better = candidate - base if metric.higher_is_better else base - candidate
    full = base >= 1 if metric.higher_is_better else base <= 0
    kinds: list[Change] = ["both wrong", "both right", "broke", "fixed", "not scored"]
    tests = [~full, full, better < 0, better > 0, np.isnan(values).any(axis=0)]
    changes = np.zeros(len(doc_ids), dtype=np.int8)
    for kind, test in zip(kinds, tests, strict=True):
        changes[test] = CHANGES.index(kind)
    kept = np.isin(doc_ids, holding(connection, pair, text)) if text else slice(None)
    return (
        doc_ids[kept],
        changes[kept],
        base[kept].astype(np.float32),
        candidate[kept].astype(np.float32),
    )


def _failed(connection: duckdb.DuckDBPyConnection, pair: SamplePair) -> list[int]:
    """Return the documents without an answer, where the results count some."""
    found: list[int] = []
    for cell, span in zip(pair.block.cells, pair.samples, strict=True):
        if cell.failed:
            rows = connection.execute(
                "SELECT doc_id FROM samples WHERE rowid BETWEEN ? AND ? AND cell_id = ? AND status = 'failed'",
                [*span, cell.id],
            ).fetchall()
            found += [doc_id for (doc_id,) in rows]
    return found


def with_metric(pairs: Iterable[SamplePair], metric: MetricName) -> tuple[SamplePair, ...]:
    """Return the pairs that have a metric, judged by it.

    Args:
        pairs: From ``find_pairs``.
        metric: Name and filter.
    """
    return tuple(replace(pair, metric=metric) for pair in pairs if metric in pair.metrics)


def parse_key(text: str) -> SampleKey | None:
    """Return the sample that ``TASK:DOCUMENT`` names, None where it names none."""
    task, _, number = text.rpartition(":")
    # A document has a number of 64 bits.
    known = task and number.isdecimal() and number.isascii() and len(number) <= 18
    return (task, int(number)) if known else None

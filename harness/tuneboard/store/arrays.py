"""The scores of chosen results as NumPy arrays, fetched in one query however many there are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard.compare.scores import MetricName, MetricScores, TaskScores
from tuneboard.records import MetricValue
from tuneboard.store.matching import Block, Choice
from tuneboard.store.results import load_metrics

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

_Key: TypeAlias = tuple[str, str, str]
"""Cell, metric, filter."""


class ScoreArrays:
    """The scores of all chosen cells, by cell, metric and filter.

    Args:
        connection: An open database.
        choice: Whose scores.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, choice: Choice) -> None:
        self.connection = connection
        ids = {cell.id for block in choice.blocks for repeats in block.repeats for cell in repeats}
        self.metrics = load_metrics(connection, sorted(ids))
        self.keys: list[_Key] = [
            (cell, metric.metric, metric.filter) for cell, metrics in self.metrics.items() for metric in metrics
        ]
        self.numbers = self._load_numbers()
        self.details = self._load_details()

    def _load_numbers(self) -> dict[_Key, tuple[Integers, Floats]]:
        import numpy as np

        found = self._query("code, doc_id, value", "value IS NOT NULL").fetchnumpy()
        ends = np.searchsorted(found["code"], np.arange(len(self.keys) + 1))
        return {
            key: (found["doc_id"][start:end], np.ma.filled(found["value"][start:end], np.nan))
            for key, start, end in zip(self.keys, ends[:-1], ends[1:], strict=True)
            if end > start
        }

    def _load_details(self) -> dict[_Key, dict[int, Any]]:
        details: defaultdict[_Key, dict[int, Any]] = defaultdict(dict)
        for code, doc_id, text in self._query("code, doc_id, detail", "detail IS NOT NULL").fetchall():
            details[self.keys[code]][doc_id] = json.loads(text)
        return details

    def _query(self, columns: str, condition: str) -> duckdb.DuckDBPyConnection:
        return self.connection.execute(
            f"""WITH keys AS (SELECT unnest($1::VARCHAR[]) AS cell_id, unnest($2::VARCHAR[]) AS metric,
                                     unnest($3::VARCHAR[]) AS filter, unnest(range(len($1))) AS code),
                     -- First by cell alone: among 27 million scores six times as fast as by all three at once.
                     mine AS MATERIALIZED (SELECT * FROM scores WHERE {condition}
                                               AND cell_id IN (SELECT unnest($1::VARCHAR[])))
                SELECT {columns} FROM mine JOIN keys USING (cell_id, metric, filter) ORDER BY code, doc_id""",
            [[key[part] for key in self.keys] for part in range(3)],
        )

    def add(
        self,
        cell: str,
        metrics: Sequence[MetricValue],
        scores: Mapping[MetricName, tuple[Sequence[int], Sequence[Any]]],
    ) -> None:
        """Add the scores of a result that is not in the database.

        Args:
            cell: Its identity.
            metrics: Its aggregated metrics.
            scores: Documents of each metric, ascending, with a number or what a corpus metric keeps for each.
        """
        import numpy as np

        self.metrics[cell] = tuple(metrics)
        for name, (docs, values) in scores.items():
            if docs and all(isinstance(value, int | float) for value in values):
                self.numbers[cell, *name] = np.asarray(docs, dtype=np.int64), np.asarray(values, dtype=float)
            elif docs:
                self.details[cell, *name] = dict(zip(docs, values, strict=True))

    def block(self, block: Block, ref: Mapping[str, Any]) -> TaskScores:
        """Lay the scores of a block side by side."""
        import numpy as np

        first = [repeats[0] for repeats in block.repeats]
        doc_ids = self._doc_ids(block)
        config = json.loads(ref["config"])
        shared = [
            metric
            for metric in self.metrics.get(first[0].id, ())
            if all(any(name_of(other) == name_of(metric) for other in self.metrics.get(cell.id, ())) for cell in first)
        ]
        metrics = {
            name_of(metric): self._metric(block, metric, doc_ids, _aggregation(config, metric)) for metric in shared
        }
        return TaskScores(
            task=block.task,
            names=tuple(cell.candidate for cell in first),
            n_docs=int(ref["n_docs"]) or len(doc_ids),
            output_type=str(ref["output_type"]),
            doc_ids=np.asarray(doc_ids, dtype=np.int64),
            metrics=metrics,
            repeats=tuple(len(repeats) for repeats in block.repeats),
            cells=tuple(cell.id for cell in first),
            clusters=self._clusters(block, config, doc_ids),
        )

    def _doc_ids(self, block: Block) -> Integers:
        import numpy as np

        ids = [cell.id for repeats in block.repeats for cell in repeats]
        arrays = [
            np.asarray(sorted(found) if isinstance(found, dict) else found[0], dtype=np.int64)
            for cell in ids
            for metric in self.metrics.get(cell, ())
            for found in (self.numbers.get((cell, *name_of(metric))), self.details.get((cell, *name_of(metric))))
            if found
        ]
        return np.unique(np.concatenate(arrays)) if arrays else np.empty(0, dtype=np.int64)

    def _metric(self, block: Block, metric: MetricValue, doc_ids: Integers, aggregation: str | None) -> MetricScores:
        import numpy as np

        name = name_of(metric)
        tables = [np.stack([self._row((cell.id, *name), doc_ids) for cell in repeats]) for repeats in block.repeats]
        scores = [[_value(self.metrics[cell.id], name) for cell in repeats] for repeats in block.repeats]
        repeated = any(len(repeats) > 1 for repeats in block.repeats)
        return MetricScores(
            metric=metric.metric,
            filter=metric.filter,
            higher_is_better=metric.higher_is_better is not False,
            reported=tuple(values[0] for values in scores),
            values=np.stack([table[0] for table in tables]),
            averaged=np.stack([_average(table) for table in tables]),
            details=self._pieces([cell.id for cell in block.cells], name, doc_ids),
            aggregation=aggregation,
            spread=np.array([_spread(table) for table in tables]) if repeated else None,
            scatter=np.array([_scatter(values) for values in scores]) if repeated else None,
        )

    def _pieces(self, cells: Sequence[str], name: MetricName, doc_ids: Integers) -> tuple[tuple[Any, ...], ...]:
        found = [self.details.get((cell, *name), {}) for cell in cells]
        return tuple(tuple(pieces.get(doc) for doc in doc_ids.tolist()) for pieces in found) if any(found) else ()

    def _row(self, key: _Key, doc_ids: Integers) -> Floats:
        import numpy as np

        row = np.full(len(doc_ids), np.nan)
        if key in self.numbers:
            found, values = self.numbers[key]
            row[np.searchsorted(doc_ids, found)] = values
        return row

    def _clusters(self, block: Block, config: Mapping[str, Any], doc_ids: Integers) -> tuple[str, ...] | None:
        """Return what the documents share, where the task's metadata names a column of it and it was kept."""
        if not names_cluster(config):
            return None
        found = dict(
            self.connection.execute(
                "SELECT doc_id, cluster FROM documents WHERE task_fingerprint = ?", [block.cells[0].task_fingerprint]
            ).fetchall()
        )
        clusters = [found.get(doc) for doc in doc_ids.tolist()]
        return None if None in clusters else tuple(map(str, clusters))


def _average(table: Floats) -> Floats:
    """Return the mean over evaluations (rows) of each document, of those that scored it."""
    import numpy as np

    known = (~np.isnan(table)).sum(axis=0)
    out = np.full(table.shape[1], np.nan)
    np.divide(np.nansum(table, axis=0), known, out=out, where=known > 0)
    return out


def _spread(table: Floats) -> float:
    """Return the variance that evaluating again gives a mean over documents: that of each document, over n^2."""
    import numpy as np

    known = table[:, ~np.isnan(table).any(axis=0)]
    return float(known.var(axis=0, ddof=1).sum() / known.shape[1] ** 2) if len(table) > 1 and known.size else np.nan


def _scatter(values: Sequence[float]) -> float:
    import numpy as np

    return float(np.var(values, ddof=1)) if len(values) > 1 else np.nan


def names_cluster(config: Mapping[str, Any]) -> bool:
    """Tell whether a task's config names a column that its documents share values of."""
    return bool((config.get("metadata") or {}).get("cluster"))


def name_of(metric: MetricValue) -> MetricName:
    """Return what tells a metric apart within a task."""
    return metric.metric, metric.filter


def _value(metrics: Iterable[MetricValue], name: MetricName) -> float:
    return next((metric.value for metric in metrics if name_of(metric) == name), float("nan"))


def _aggregation(config: Mapping[str, Any], metric: MetricValue) -> str | None:
    for entry in config.get("metric_list") or ():
        if isinstance(entry, dict) and entry.get("metric") == metric.metric:
            name = entry.get("aggregation")
            return name if isinstance(name, str) else (name or {}).get("function")
    return None

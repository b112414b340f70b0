"""What ``tuneboard show tasks`` says: what can be asked, out of which data, scored how, and how much of it there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneboard.store.queries import TaskRow
    from tuneboard.suites.index import IndexEntry


def task_rows(db: Path, mirror: Path | None, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return one row per task, group and tag, by name; a task that is known from results alone is among them.

    Args:
        db: The database file; it may be missing.
        mirror: Where data sets stand, whose rows can be counted; None without.
        wanted: Tells by its first keys whether a row is asked for; the others are not looked at any further.
    """
    from tuneboard.suites.index import task_index

    index, evaluated, results = task_index(), {}, dict[str, int]()
    if db.exists():
        from tuneboard.store import queries

        for task in queries.tasks(db):
            results[task.name] = results.get(task.name, 0) + task.cells
            evaluated[task.name] = task  # the newest comes last
    sizes = _Sizes(index, evaluated, mirror)
    rows = []
    for name in sorted({*index, *evaluated}):
        kind = index[name].kind if name in index else "task"
        row: dict[str, Any] = {"task": name, "kind": "task" if kind == "class" else kind}
        if wanted(row):
            told = _told(index.get(name), evaluated.get(name))
            rows.append(row | told | {"size": sizes.of(name), "results": results.get(name, 0)})
    return rows


class _Sizes:
    """Documents of tasks: as they were evaluated, or as the mirror holds them; of groups and tags, the sum."""

    def __init__(self, index: Mapping[str, IndexEntry], evaluated: Mapping[str, TaskRow], mirror: Path | None) -> None:
        self.index, self.evaluated, self.mirror = index, evaluated, mirror
        self._known: dict[str, int | None] = {}

    def of(self, name: str) -> int | None:
        """Return the size of a task or group; None where its data is not at hand."""
        if name not in self._known:
            self._known[name] = None  # for a group that is in itself
            self._known[name] = self._count(name)
        return self._known[name]

    def _count(self, name: str) -> int | None:
        if name in self.evaluated and self.evaluated[name].n_docs:
            return self.evaluated[name].n_docs
        entry = self.index.get(name)
        if entry is None:
            return None
        members = entry.members if entry.kind == "tag" else entry.facts.members
        if members:
            counts = [self.of(member) for member in members]
            known = [count for count in counts if count is not None]
            return sum(known) if len(known) == len(counts) else None
        return self._rows(entry)

    def _rows(self, entry: IndexEntry) -> int | None:
        facts = entry.facts
        if self.mirror is None or facts.source is None or facts.split is None:
            return None
        file = self.mirror / facts.source / (facts.config or "default") / f"{facts.split}.parquet"
        if not file.is_file():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(file).num_rows)
        except (pa.ArrowException, OSError):
            return None


def _told(entry: IndexEntry | None, evaluated: TaskRow | None) -> dict[str, Any]:
    """Return what a task's YAML says, or, of a task without one, the config that it was evaluated with."""
    from tuneboard.suites.facts import NOTHING, facts_of

    if entry is not None:
        facts, shots = entry.facts, entry.facts.num_fewshot
        if shots is None and (entry.kind == "task" or facts.source):
            shots = 0  # lm-eval's rule; what is written in Python alone may have another
    elif evaluated is not None:
        facts, shots = facts_of(evaluated.config), evaluated.num_fewshot
    else:
        facts, shots = NOTHING, None
    source = " ".join(part for part in (facts.source, facts.config) if part) or None
    return {"source": source, "metric": ", ".join(facts.metrics) or None, "num_fewshot": shots}

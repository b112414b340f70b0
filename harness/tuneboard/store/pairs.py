"""Scores of a base and its candidates, side by side, for ``tuneboard.compare``.

The scores of all candidates come in one query as NumPy arrays: 10 candidates on 27,000 samples each take half a second.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.compare.scores import (
    CandidateInfo,
    GroupScores,
    Scores,
    TaskScores,
)
from tuneboard.config import SuiteTask
from tuneboard.errors import DataError, UnknownName
from tuneboard.store.arrays import ScoreArrays, name_of, names_cluster
from tuneboard.store.baselines import Baseline
from tuneboard.store.blessed import (
    baseline_cells,
    baseline_refs,
    hashed_config,
    metric_values,
    sample_scores,
)
from tuneboard.store.cells import CellRow, find_cells
from tuneboard.store.database import reading, rows_as_dicts
from tuneboard.store.matching import Choice, choose
from tuneboard.store.results import load_metrics

if TYPE_CHECKING:
    import duckdb


def load_scores(
    db: Path,
    base: str,
    candidates: Sequence[str],
    *,
    run: str | None = None,
    baseline: Baseline | None = None,
) -> Scores:
    """Load everything that a comparison needs.

    The newest result of each candidate and task is meant. It is paired with the base's newest result on the same task
    fingerprint, document set and generation settings; where there is none, the task is refused with what differs.
    Samples pair by their document: one task fingerprint has one list of documents, told apart by hash and occurrence.

    Args:
        db: The database file.
        base: Name of the base.
        candidates: Names of the candidates.
        run: Only results that this run computed or reused.
        baseline: Stands in for the base; ``base`` is its label then.

    Raises:
        UnknownName: The database has no such run or candidate.
        DataError: There is no result of the base.
        StoreError: The database is missing or cannot be read.
    """
    with reading(db) as connection:
        adapters = _known(connection, [*(() if baseline else (base,)), *candidates], db)
        cells = find_cells(connection, run=run, names=[base, *candidates])
        cells += baseline_cells(baseline) if baseline else []
        if not any(cell.candidate == base for cell in cells):
            where = f" in run {run}" if run else ""
            raise DataError(f"no result of '{base}'{where}; evaluate it, or see: tuneboard show {base} --db {db}")
        refs = task_rows(connection, cells)
        known = _alike(refs, baseline) if baseline else refs
        choice = choose(cells, base, list(dict.fromkeys(candidates)), known, adapters)
        loaded = ScoreArrays(connection, choice)
        if baseline:
            _add(loaded, baseline)
        of_block = [refs[block.cells[0].task_fingerprint] for block in choice.blocks]
        blocks = [loaded.block(block, ref) for block, ref in zip(choice.blocks, of_block, strict=True)]
        groups = _groups(connection, choice.groups, known, baseline)
        entries = suite_entries(connection, choice)
        unapplied = _identical(connection, choice, blocks)
    lost = [block for block, ref in zip(blocks, of_block, strict=True) if _lost_clusters(block, ref)]
    infos = tuple(
        _unapplied(info, base) if info.name in unapplied else _with_notes(info, lost) for info in choice.candidates
    )
    return Scores(base, infos, tuple(blocks), groups, entries, choice.order)


def _known(connection: duckdb.DuckDBPyConnection, names: Iterable[str], db: Path) -> frozenset[str]:
    """Return the candidates that have an adapter; raises ``UnknownName`` for names that are not there."""
    known = dict(connection.execute("SELECT name, adapter_sha256 IS NOT NULL FROM candidates").fetchall())
    for name in names:
        if name not in known:
            raise UnknownName("candidate", name, known, f"see: tuneboard show models --db {db}")
    return frozenset(name for name, adapter in known.items() if adapter)


def task_rows(connection: duckdb.DuckDBPyConnection, cells: Sequence[CellRow]) -> dict[str, dict[str, Any]]:
    """Return the rows of the tasks that cells are results of, by fingerprint.

    Args:
        connection: An open database.
        cells: Whose tasks.
    """
    rows = rows_as_dicts(
        connection,
        """SELECT fingerprint, name, version, num_fewshot, output_type, data_hash, config, n_docs FROM tasks
           WHERE fingerprint IN (SELECT unnest(?::VARCHAR[]))""",
        [sorted({cell.task_fingerprint for cell in cells})],
    )
    return {row["fingerprint"]: row for row in rows}


def _alike(refs: Mapping[str, Mapping[str, Any]], baseline: Baseline) -> dict[str, dict[str, Any]]:
    """Return tasks of database and baseline with configs that compare: the baseline's are hashes."""
    own = {key: {**ref, "config": json.dumps(hashed_config(json.loads(ref["config"])))} for key, ref in refs.items()}
    return baseline_refs(baseline) | own


def _add(loaded: ScoreArrays, baseline: Baseline) -> None:
    for cell, entry in zip(baseline_cells(baseline), baseline.entries, strict=True):
        if cell.kind == "task":
            scores = {(one["metric"], one["filter"]): sample_scores(entry, one) for one in entry["metrics"]}
            loaded.add(cell.id, metric_values(entry), scores)


def _groups(
    connection: duckdb.DuckDBPyConnection,
    cells: Sequence[CellRow],
    refs: Mapping[str, Mapping[str, Any]],
    baseline: Baseline | None,
) -> tuple[GroupScores, ...]:
    metrics = load_metrics(connection, [cell.id for cell in cells])
    if baseline:
        own = zip(baseline_cells(baseline), baseline.entries, strict=True)
        metrics |= {cell.id: metric_values(entry) for cell, entry in own}
    by_name: defaultdict[str, list[CellRow]] = defaultdict(list)
    for cell in cells:
        by_name[cell.task].append(cell)
    return tuple(
        GroupScores(
            group=name,
            members=members[0].members,
            n_docs=int(refs[members[0].task_fingerprint]["n_docs"]) or members[0].n,
            reported={cell.candidate: {name_of(m): m.value for m in metrics.get(cell.id, ())} for cell in members},
            sizes={cell.candidate: cell.n for cell in members},
        )
        for name, members in by_name.items()
    )


def suite_entries(connection: duckdb.DuckDBPyConnection, choice: Choice) -> tuple[SuiteTask, ...]:
    """Return the suite entries of the runs that show the chosen cells; those of the newest run first."""
    ids = sorted({cell.id for block in choice.blocks for cell in block.cells} | {cell.id for cell in choice.groups})
    rows = connection.execute(
        """SELECT settings FROM runs WHERE id IN
               (SELECT run_id FROM run_cells WHERE cell_id IN (SELECT unnest(?::VARCHAR[])))
           ORDER BY started DESC, id DESC""",
        [ids],
    ).fetchall()
    entries: dict[str, SuiteTask] = {}
    for (settings,) in rows:
        for known in entries_of(json.loads(settings)):
            entries.setdefault(known.task, known)
    return tuple(entries.values())


def entries_of(settings: Mapping[str, Any]) -> tuple[SuiteTask, ...]:
    """Return the suite entries, with roles and headlines, that a run was asked with.

    Args:
        settings: Of the run.
    """
    return tuple(
        SuiteTask(task["task"], role=task.get("role", "none"), headline=task.get("headline"))
        for task in settings.get("tasks") or ()
        if isinstance(task, dict) and isinstance(task.get("task"), str)
    )


def _identical(connection: duckdb.DuckDBPyConnection, choice: Choice, blocks: Sequence[TaskScores]) -> frozenset[str]:
    """Return candidates with weights of their own that gave, to the last bit, the base's log-probabilities."""
    import numpy as np

    other = {info.name for info in choice.candidates if not info.same_weights and info.reason is None}
    compared: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for block in blocks:
        for slot, name in enumerate(block.names[1:], start=1):
            if not all(np.array_equal(m.values[0], m.values[slot], equal_nan=True) for m in block.metrics.values()):
                other.discard(name)
            # Equal texts prove nothing: greedy decoding forgives small changes.
            elif "generate" not in block.output_type:
                compared[name].append((block.cells[0], block.cells[slot]))
    other &= set(compared)
    if not other:
        return frozenset()
    ids = sorted({cell for name in other for pair in compared[name] for cell in pair})
    hashes = dict(
        connection.execute(
            """SELECT cell_id, bit_xor(hash(doc_id, responses)) FROM samples
               WHERE cell_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY cell_id""",
            [ids],
        ).fetchall()
    )
    return frozenset(
        name for name in other if all(hashes.get(a) == hashes.get(b) is not None for a, b in compared[name])
    )


def _unapplied(info: CandidateInfo, base: str) -> CandidateInfo:
    reason = (
        f"'{info.name}' was not applied: its log-probabilities are those of '{base}' to the last bit; "
        "check that the adapter was loaded, then evaluate it again"
    )
    return replace(info, applied=False, reason=reason)


def _lost_clusters(block: TaskScores, ref: Mapping[str, Any]) -> bool:
    return block.clusters is None and bool(len(block.doc_ids)) and names_cluster(json.loads(ref["config"]))


def _with_notes(info: CandidateInfo, lost: Sequence[TaskScores]) -> CandidateInfo:
    tasks = [block.task for block in lost if info.name in block.names[1:]]
    if not tasks:
        return info
    note = (
        f"samples count as independent on {', '.join(tasks)}: an older tuneboard stored them without their clusters; "
        "evaluate into another --db to have them"
    )
    return replace(info, notes=(*info.notes, note))

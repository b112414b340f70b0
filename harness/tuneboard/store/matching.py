"""Which results of a candidate and of its base can be compared, and why others cannot."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuneboard.compare.scores import CandidateInfo, Refusal
from tuneboard.store.cells import CellRow

_FINISHED = ("done", "reused")


@dataclass(frozen=True, slots=True)
class Block:
    """Results of one task on the same documents under the same settings."""

    task: str
    repeats: tuple[tuple[CellRow, ...], ...]
    """Of the base, then of each candidate: its evaluations, the chosen one first."""

    @property
    def cells(self) -> tuple[CellRow, ...]:
        """The chosen result of the base and of each candidate."""
        return tuple(repeats[0] for repeats in self.repeats)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is compared."""

    blocks: tuple[Block, ...]
    candidates: tuple[CandidateInfo, ...]
    groups: tuple[CellRow, ...]
    """Results of groups, of the base and of candidates."""
    order: tuple[str, ...]
    """Tasks and groups as they were evaluated."""


def choose(
    found: Sequence[CellRow],
    base: str,
    candidates: Sequence[str],
    refs: Mapping[str, Mapping[str, Any]],
    adapters: Collection[str],
) -> Choice:
    """Pair the newest result of every candidate and task with the base's.

    Args:
        found: Cells, newest first.
        base: Name of the base.
        candidates: Names, each once.
        refs: Task fingerprint to its row in the database, to say how two tasks differ.
        adapters: Names of candidates that have an adapter; an evaluation has seen it applied, or is marked invalid.
    """
    cells: defaultdict[tuple[str, str], list[CellRow]] = defaultdict(list)
    for cell in found:
        cells[cell.candidate, cell.task].append(cell)
    order = tuple(dict.fromkeys(cell.task for cell in sorted(found, key=lambda cell: (cell.created, cell.seen))))
    blocks: defaultdict[tuple[str, ...], list[CellRow]] = defaultdict(list)
    infos = []
    for name in candidates:
        info, pairs = _pair_all((base, name), cells, order, refs)
        if info.reason is None and name in adapters:
            info = replace(info, applied=True)
        infos.append(info)
        for theirs, mine in pairs if info.reason is None else ():
            blocks[theirs.id, mine.task_fingerprint].append(mine)
    by_id = {cell.id: cell for cell in found if cell.candidate == base}
    return Choice(
        blocks=tuple(
            Block(
                mine[0].task,
                (_repeats(by_id[key[0]], cells), *(_repeats(cell, cells) for cell in mine)),
            )
            for key, mine in blocks.items()
        ),
        candidates=tuple(infos),
        groups=tuple(
            finished[0]
            for (name, _), these in cells.items()
            if name in {base, *candidates}
            and (finished := [cell for cell in these if cell.kind == "group" and cell.status in _FINISHED])
        ),
        order=order,
    )


def _pair_all(
    names: tuple[str, str],
    cells: Mapping[tuple[str, str], Sequence[CellRow]],
    order: Sequence[str],
    refs: Mapping[str, Mapping[str, Any]],
) -> tuple[CandidateInfo, list[tuple[CellRow, CellRow]]]:
    base, name = names
    refused, pairs, notes = [], [], []
    mine = [cells[name, task][0] for task in order if (name, task) in cells]
    if invalid := next((cell for cell in mine if cell.status == "invalid"), None):
        return CandidateInfo(name, False, invalid.reason or "the candidate was not applied"), []
    for cell in mine:
        if cell.kind == "group":
            continue
        match = _match(cell, cells.get((base, cell.task), ()), refs, names)
        if isinstance(match, str):
            refused.append(Refusal(cell.task, match))
        else:
            pairs.append((match, cell))
            notes += _differences(match, cell)
    missing = [task for task in order if (base, task) in cells and (name, task) not in cells]
    refused += [Refusal(task, f"no result of '{name}'") for task in missing]
    prints = {cell.candidate: cell.candidate_fingerprint for these in cells.values() for cell in these[:1]}
    same = prints.get(name) == prints.get(base)
    return (
        CandidateInfo(
            name=name,
            applied=None,
            reason=None if mine else f"no result of '{name}' is there; evaluate it beside '{base}'",
            refused=tuple(refused),
            same_weights=same,
            notes=tuple(dict.fromkeys(notes)),
        ),
        pairs,
    )


def _match(
    mine: CellRow, theirs: Sequence[CellRow], refs: Mapping[str, Mapping[str, Any]], names: tuple[str, str]
) -> CellRow | str:
    """Return the base's newest result that a candidate's can be paired with, or why none can."""
    base, candidate = names
    if mine.status not in _FINISHED:
        return f"the newest result of '{candidate}' is {_status(mine)}; evaluate it again"
    finished = [cell for cell in theirs if cell.status in _FINISHED]
    if not finished or theirs[0].status == "invalid":
        return f"the newest result of '{base}' is {_status(theirs[0])}; evaluate it again" if theirs else _none(base)
    fitting = [cell for cell in finished if _asked(cell) == _asked(mine)]
    # The same engine and precision first, so that nothing but the candidate differs.
    if fitting:
        return next((cell for cell in fitting if _setting(cell) == _setting(mine)), fitting[0])
    other = next((cell for cell in finished if cell.task_fingerprint == mine.task_fingerprint), finished[0])
    return _mismatch(other, mine, refs, names)


def _asked(cell: CellRow) -> tuple[str, str, str]:
    return cell.task_fingerprint, cell.documents, cell.generation


def _setting(cell: CellRow) -> tuple[str, str, str | None]:
    return cell.engine, cell.dtype, cell.quantization


def _status(cell: CellRow) -> str:
    return f"{cell.status} ({cell.reason})" if cell.reason else cell.status


def _none(name: str) -> str:
    return f"no result of '{name}'"


def _mismatch(theirs: CellRow, mine: CellRow, refs: Mapping[str, Mapping[str, Any]], names: tuple[str, str]) -> str:
    base, candidate = names
    advice = "evaluate both the same way (finished answers are reused), or name a run with --run"
    if theirs.task_fingerprint != mine.task_fingerprint:
        difference = task_difference(refs[theirs.task_fingerprint], refs[mine.task_fingerprint], names)
        return f"asked in different ways: {difference}; {advice}"
    if theirs.documents != mine.documents:
        return f"different documents: {theirs.n:,} of '{base}', {mine.n:,} of '{candidate}'; {advice}"
    return f"generation settings differ between '{base}' and '{candidate}'; {advice}"


def task_difference(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Say how two tasks of one name differ.

    Args:
        a: A task's row in the database.
        b: Another one.
        names: Of the candidates that were asked them.
    """
    for key, label in (("num_fewshot", "few-shot examples"), ("version", "task version")):
        if a[key] != b[key]:
            return f"{label} {a[key]} of '{names[0]}', {b[key]} of '{names[1]}'"
    if a["data_hash"] != b["data_hash"]:
        return "the data set has changed"
    ours, other = json.loads(a["config"]), json.loads(b["config"])
    keys = [key for key in {**ours, **other} if ours.get(key) != other.get(key)]
    if keys:
        return f"the task's config differs in {', '.join(keys[:5])}"
    return "chat template, system instruction or few-shot seed differ"


def _differences(theirs: CellRow, mine: CellRow) -> list[str]:
    """Say what else differs: a quantization or an engine may be the very thing that is compared."""
    labels = ("engine", "dtype", "quantization")
    return [
        f"{label} differs: {a or 'none'} of '{theirs.candidate}', {b or 'none'} of '{mine.candidate}'"
        for label, a, b in zip(labels, _setting(theirs), _setting(mine), strict=True)
        if a != b
    ]


def _repeats(cell: CellRow, cells: Mapping[tuple[str, str], Sequence[CellRow]]) -> tuple[CellRow, ...]:
    """Return a result and its repeats: the same work under other seeds or batch orders."""
    plain = replace(cell.key, repeat=0)
    others = [
        other
        for other in cells[cell.candidate, cell.task]
        if other.id != cell.id and other.status in _FINISHED and replace(other.key, repeat=0) == plain
    ]
    return cell, *others

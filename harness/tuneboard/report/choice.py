"""What a reader must know of the results that stand in one table, where each is the newest of its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tuneboard.report.tables import listed
from tuneboard.store.queries import CellRow, RunRow, newest


def wider_notes(found: Sequence[CellRow]) -> list[str]:
    """Say where the newest result has fewer documents than an earlier one, and how to get at that.

    Args:
        found: All results of which the newest are shown, newest first.
    """
    widest: dict[tuple[str, str], CellRow] = {}
    for cell in found:
        place = cell.candidate, cell.task
        if cell.status in ("done", "reused") and cell.n > (widest[place].n if place in widest else 0):
            widest[place] = cell
    behind: dict[tuple[str, str], list[tuple[CellRow, CellRow]]] = {}
    for cell in newest(found):
        best = widest.get((cell.candidate, cell.task), cell)
        if best.n > cell.n:
            behind.setdefault((cell.candidate, best.run), []).append((cell, best))
    notes = []
    for (candidate, run), pairs in behind.items():
        within = {name for cell, best in pairs for name in (*cell.members, *best.members)}
        outer = [pair for pair in pairs if pair[0].task not in within]
        few, many = (sum(pair[place].n for pair in outer) for place in (0, 1))
        tasks = listed([cell.task for cell, _ in outer])
        notes.append(
            f"{candidate} on {tasks}: the newest result has {few:,} documents, "
            f"that of run {run} has {many:,}; to see it, add --run {run}"
        )
    return notes


def setting_notes(cells: Sequence[CellRow], runs: Mapping[str, RunRow]) -> list[str]:
    """Say in which settings results of one table differ, one line a setting; few-shot numbers have their column.

    Args:
        cells: The results of one candidate, or of one task.
        runs: By id, those that computed them.
    """
    of_one_task = len({cell.task for cell in cells}) == 1
    values: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        for setting, value in _settings(cell, runs.get(cell.run), of_one_task).items():
            if value is not None:
                name = cell.candidate if of_one_task else cell.task
                values.setdefault(setting, {}).setdefault(value, []).append(name)
    return [
        f"asked in different ways, {setting}: "
        + "; ".join(f"{value} for {listed(names)}" for value, names in by_value.items())
        for setting, by_value in values.items()
        if len(by_value) > 1
    ]


def _settings(cell: CellRow, run: RunRow | None, of_one_task: bool) -> dict[str, str | None]:
    """Return how a result was asked for; None where that is not known or plays no part."""
    asked = run.settings if run else {}
    seed = run.seeds.get("fewshot") if run and cell.num_fewshot else None
    chosen = "all" if cell.documents == "all" else f"{cell.n + cell.failed:,} (set {cell.documents[:6]})"
    return {
        "documents": chosen if of_one_task else None,
        "few-shot seed": None if seed is None else str(seed),
        "chat template": _chat(asked.get("prompts")),
        "system instruction": _text((asked.get("prompts") or {}).get("system_instruction"), asked, "none"),
        "generation settings": _text(asked.get("gen_kwargs"), asked, "the task's own"),
        "context length": _text(asked.get("max_length"), asked, "the model's own"),
        "engine": cell.engine,
        "dtype": cell.dtype,
        "quantization": cell.quantization or "none",
        "repeat": str(cell.repeat),
    }


def _chat(prompts: Mapping[str, object] | None) -> str | None:
    if prompts is None:
        return None
    if not prompts.get("apply_chat_template"):
        return "no"
    return "yes" if prompts.get("fewshot_as_multiturn", True) else "yes, with all examples in one turn"


def _text(value: object, asked: Mapping[str, object], otherwise: str) -> str | None:
    """Return a setting as text; runs that did not note how they asked, such as imports, have none."""
    if "prompts" not in asked:
        return None
    return json.dumps(value, ensure_ascii=False) if value else otherwise

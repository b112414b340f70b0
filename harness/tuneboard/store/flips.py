"""Prompt, target and both answers of samples that changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard.compare.records import Flip
from tuneboard.compare.scores import Scores
from tuneboard.store.database import reading
from tuneboard.store.rows import clean


def with_texts(db: Path, scores: Scores, flips: Sequence[Flip]) -> list[Flip]:
    """Fill in what was asked and what either side answered.

    Args:
        db: The database file that ``scores`` came from.
        scores: Tell which results were compared.
        flips: From ``compare.flips.changed_samples``.

    Raises:
        StoreError: The database is missing or cannot be read.
    """
    cells = {
        (block.names[i], block.task): (block.cells[0], block.cells[i])
        for block in scores.tasks
        for i in range(1, len(block.names))
    }
    pairs = [cells[flip.candidate, flip.task] for flip in flips]
    wanted = sorted({(cell, flip.doc_id) for pair, flip in zip(pairs, flips, strict=True) for cell in pair})
    with reading(db) as connection:
        rows = connection.execute(
            """WITH wanted AS (SELECT unnest($1::VARCHAR[]) AS cell_id, unnest($2::BIGINT[]) AS doc_id)
               SELECT cell_id, doc_id, prompt, target, choices, responses, filtered
               FROM wanted JOIN samples USING (cell_id, doc_id) JOIN cells ON cells.id = cell_id
               JOIN documents USING (task_fingerprint, doc_id)""",
            [[cell for cell, _ in wanted], [doc for _, doc in wanted]],
        ).fetchall()
    found = {(row[0], row[1]): row[2:] for row in rows}
    filled = []
    for (base, candidate), flip in zip(pairs, flips, strict=True):
        # A baseline keeps scores alone.
        before, after = found.get((base, flip.doc_id)), found[candidate, flip.doc_id]
        filled.append(
            replace(
                flip,
                prompt=after[0],
                target=_target(after[1], after[2]),
                base_answer=clean(_answer(before, flip)) if before else "",
                candidate_answer=clean(_answer(after, flip)),
            )
        )
    return filled


def _target(target: str, choices: Sequence[str]) -> str:
    """Return the right choice where the target is its number."""
    return choices[int(target)].strip() if target.isdecimal() and int(target) < len(choices) else target


def _answer(row: Sequence[Any], flip: Flip) -> str:
    _, _, choices, text, filtered = row
    responses = json.loads(text)
    if filtered and (kept := json.loads(filtered).get(flip.filter)):
        return str(kept[0][0] if isinstance(kept[0], list) and kept[0] else kept[0])
    scored = [one[0] for one in responses if isinstance(one, list)]
    if len(choices) > 1 and len(scored) >= len(choices):
        # acc_norm prefers the choice that is likeliest per character, as lm-eval counts them: without the space before.
        lengths = [max(1, len(choice.removeprefix(" "))) if flip.metric == "acc_norm" else 1 for choice in choices]
        return str(max(zip(scored, lengths, choices, strict=False), key=lambda one: one[0] / one[1])[2]).strip()
    return "" if not responses or responses[0] is None else str(responses[0])

"""Prompt, target and both answers of samples that changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tuneboard.compare.records import Flip
from tuneboard.compare.scores import Scores
from tuneboard.store.answers import answer, shown_target
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
                target=shown_target(after[1], after[2]),
                base_answer=clean(_answer(before, flip)) if before else "",
                candidate_answer=clean(_answer(after, flip)),
            )
        )
    return filled


def _answer(row: Sequence[str], flip: Flip) -> str:
    _, _, choices, responses, filtered = row
    return answer(json.loads(responses), json.loads(filtered) if filtered else None, choices, flip.metric, flip.filter)

"""Which samples changed."""

from __future__ import annotations

from collections.abc import Iterator

from tuneboard.compare.records import Comparison, Flip, TaskComparison
from tuneboard.compare.scores import Scores, TaskScores


def changed_samples(scores: Scores, comparison: Comparison, limit: int) -> list[Flip]:
    """List samples whose score changed, of the headline metric of every task; those that broke come first.

    Args:
        scores: What the comparison was made from.
        comparison: Its rows.
        limit: Samples of a task that broke, and as many that were fixed, largest changes first; at least 1.

    Returns:
        Flips without texts, which ``store.flips.with_texts`` adds.
    """
    blocks = {
        (name, block.task): (block, slot) for block in scores.tasks for slot, name in enumerate(block.names) if slot > 0
    }
    return [
        flip
        for candidate in comparison.candidates
        for row in candidate.tasks
        if row.headline and row.kind == "task" and row.fixed is not None
        for flip in _of_row(*blocks[candidate.name, row.task], row, limit)
    ]


def _of_row(block: TaskScores, slot: int, row: TaskComparison, limit: int) -> Iterator[Flip]:
    import numpy as np

    values = block.metrics[row.metric, row.filter].averaged
    gains = (values[slot] - values[0]) * (1 if row.higher_is_better else -1)
    for sign in (-1, 1):
        size = np.nan_to_num(sign * gains, nan=0.0)
        # Stable: samples that changed as much stay in the order of the task.
        for at in np.argsort(-size, kind="stable")[:limit].tolist():
            if size[at] > 0:
                yield Flip(
                    candidate=block.names[slot],
                    task=row.task,
                    metric=row.metric,
                    filter=row.filter,
                    doc_id=int(block.doc_ids[at]),
                    direction="fixed" if sign > 0 else "broke",
                    base_score=float(values[0, at]),
                    candidate_score=float(values[slot, at]),
                )

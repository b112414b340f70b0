"""Notes on scores of generated answers that were earned, or lost, by length or repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneboard.records import TaskResult

#: Share of repetitive, or of empty, answers that is worth a line.
_NOTICED = 0.05
#: A brevity penalty below this is told: BLEU is a twentieth lower than its words.
_LEAST_PENALTY = 0.95
#: Answers are much shorter, or longer, than their references beyond these.
_SHORT, _LONG = 2 / 3, 3 / 2
#: Scores of the words that answers and references share.
_OF_WORDS = ("bleu", "chrf", "chrf++", "rouge1", "rouge2", "rougeL", "rougeLsum", "token_f1")


def answer_notes(results: Sequence[TaskResult]) -> list[str]:
    """Say whose answers repeat themselves, are empty, or are too short or too long; a line each.

    Args:
        results: Of any tasks; only those that were scored with these statistics have notes.
    """
    lines = []
    for result in results:
        values = {metric.metric: metric.value for metric in result.metrics}
        lines += [f"{result.candidate.name} on {result.task.name}: {line}" for line in watched(values)]
    return lines


def watched(values: Mapping[str, float]) -> list[str]:
    """Return what the statistics of one task's answers say against its scores.

    Args:
        values: Metric to its value.
    """
    scores = [name for name in _OF_WORDS if name in values]
    repetitive, empty = values.get("repetitive", 0.0), values.get("empty", 0.0)
    ratio, penalty = values.get("length_ratio", 1.0), values.get("brevity_penalty", 1.0)
    out = []
    if repetitive >= _NOTICED:
        earned = f"; {', '.join(scores)} may come from repeated words" if scores else ""
        out.append(f"{repetitive:.0%} of the answers repeat themselves, far more than their references do{earned}")
    if empty >= _NOTICED:
        out.append(f"{empty:.0%} of the answers are empty")
    if penalty < _LEAST_PENALTY:
        out.append(f"bleu is lowered to {penalty:.0%} of what its words earn, since answers are too short")
    elif ratio < _SHORT:
        out.append(f"answers have {ratio:.0%} of the length of their references")
    if ratio > _LONG:
        out.append(f"answers are {ratio:.1f} times as long as their references, which a score of recall rewards")
    return out

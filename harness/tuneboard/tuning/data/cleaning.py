"""Takes out rows that teach nothing or teach it twice, and points at those that hold secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tuneboard.tuning.data.duplicates import exact_duplicates, near_duplicates
from tuneboard.tuning.data.secrets import find_secrets
from tuneboard.tuning.records import CleaningStep

if TYPE_CHECKING:
    from tuneboard.tuning.records import CleaningSpec, Example

#: Rows that a step names at most.
MOST_PLACES = 20


def clean(examples: Sequence[Example], spec: CleaningSpec) -> tuple[list[Example], list[CleaningStep]]:
    """Apply the steps that a recipe asks for, each to what the one before it left.

    Empty rows go first, then exact duplicates, then near-duplicates; of duplicates the first stays. Rows with secrets
    are flagged or dropped. Over-long rows and the balance of labels are no matter of single texts and are seen to
    where tokens are counted and labels are known.

    Args:
        examples: In their order, which is kept.
        spec: Which steps, and how strict.

    Returns:
        The rows that are left, and a step for each that was asked for, even if it met nothing.
    """
    kept, steps = list(examples), []
    if spec.empty:
        kept, step = _without(kept, "empty rows", {row: "" for row, one in enumerate(kept) if is_empty(one)})
        steps.append(step)
    if spec.exact_duplicates:
        found = exact_duplicates(kept)
        kept, step = _without(kept, "exact duplicates", _repeats(kept, found))
        steps.append(step)
    if spec.near_duplicates is not None:
        found = near_duplicates(kept, spec.near_duplicates)
        kept, step = _without(kept, "near-duplicates", _repeats(kept, found))
        steps.append(step)
    if spec.secrets != "ignore":
        met = _secrets(kept)
        if spec.secrets == "drop":
            kept, step = _without(kept, "secrets", met)
        else:
            step = step_of("secrets", _places(kept, met), removed=False)
        steps.append(step)
    return kept, steps


def step_of(name: str, places: Sequence[str], *, removed: bool = True) -> CleaningStep:
    """Return a step that met the rows at ``places``, of which the first ``MOST_PLACES`` are named.

    Args:
        name: As the report shows it, such as ``over-long rows``.
        places: One for each row that the step met.
        removed: Whether these rows are gone; else they are only pointed at.
    """
    count = len(places)
    return CleaningStep(name, count if removed else 0, 0 if removed else count, tuple(places[:MOST_PLACES]))


def is_empty(example: Example) -> bool:
    """Tell whether a row has nothing to learn from.

    That is a plain text without text, a chat in which the assistant says nothing, a row without an answer, and a label
    without input.
    """
    if example.format == "chat":
        return not any(content.strip() for role, content in example.messages if role == "assistant")
    if example.format == "text":
        return not example.whole.strip()
    if example.format == "label" and not (example.text.strip() or (example.text_pair or "").strip()):
        return True
    return not example.answer.strip()


def _without(examples: Sequence[Example], name: str, remarks: Mapping[int, str]) -> tuple[list[Example], CleaningStep]:
    left = [example for row, example in enumerate(examples) if row not in remarks]
    return left, step_of(name, _places(examples, remarks))


def _places(examples: Sequence[Example], remarks: Mapping[int, str]) -> list[str]:
    return [f"{examples[row].place} ({remark})" if remark else examples[row].place for row, remark in remarks.items()]


def _repeats(examples: Sequence[Example], found: Mapping[int, int]) -> dict[int, str]:
    return {row: f"as {examples[first].place}" for row, first in found.items()}


def _secrets(examples: Sequence[Example]) -> dict[int, str]:
    """Return the kinds and places of each row's secrets, by row; never a secret itself."""
    met = {}
    for row, example in enumerate(examples):
        found = find_secrets(example.whole)
        if found:
            met[row] = ", ".join(f"{secret.kind} at character {secret.position + 1}" for secret in found[:3])
            if len(found) > 3:
                met[row] += f", and {len(found) - 3} more"
    return met

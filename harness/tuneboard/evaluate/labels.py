"""Whether the right answer of multiple-choice documents is one of their choices."""

from __future__ import annotations

from tuneboard.evaluate.recording import RecordedTask
from tuneboard.records import Document

#: Documents that a note names.
_NAMED = 5


def label_note(recorded: RecordedTask) -> str | None:
    """Name the documents whose label fits no choice: lm-eval scores them 0 whatever the model answers.

    Args:
        recorded: The task with its documents; only choices that lm-eval itself scores are looked at.
    """
    config = recorded.task.config
    asks_choices = getattr(config, "output_type", None) == "multiple_choice"
    if not asks_choices or config.process_results is not None or getattr(recorded.task, "multiple_input", False):
        return None
    lost = [document.doc_id for document in recorded.documents if not _is_labelled(document)]
    if not lost:
        return None
    named = ", ".join(map(str, lost[:_NAMED])) + (", ..." if len(lost) > _NAMED else "")
    return (
        f"{recorded.ref.name}: the label of {len(lost):,} of {len(recorded.documents):,} documents is none of their "
        f"choices (document {named}); they count as wrong, as in lm-eval; mend the data, or drop them in process_docs"
    )


def _is_labelled(document: Document) -> bool:
    """Tell whether a target, as text, can be one of the choices: a list of several, their place, or what they say."""
    target = document.target.strip()
    if target.startswith("[") or target in (choice.strip() for choice in document.choices):
        return True
    return target.isdecimal() and int(target) < len(document.choices)

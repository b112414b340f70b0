"""Which samples hold a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    from tuneboard.store.browsing import SamplePair

#: What lm-eval puts between few-shot examples unless a task says otherwise.
_DELIMITER = "\n\n"


def question(prompt: str, num_fewshot: int) -> str:
    """Return the part of a prompt that asks: few-shot examples, which many prompts share, are left out.

    Args:
        prompt: Of one document.
        num_fewshot: Examples before the question.
    """
    last = prompt.rsplit(_DELIMITER, 1)[-1] if num_fewshot else prompt
    return last if last.strip() else prompt


def holding(connection: duckdb.DuckDBPyConnection, pair: SamplePair, text: str) -> NDArray[np.int64]:
    """Return the documents whose question, choices or target, or one of whose answers, holds a text in any case.

    Args:
        connection: An open database.
        pair: One task and its results.
        text: What is looked for; not empty.
    """
    import numpy as np

    first = pair.block.cells[0]
    asked = connection.execute(
        """SELECT doc_id FROM documents
           WHERE task_fingerprint = $task AND (
               contains(lower(CASE WHEN $shots > 0 THEN string_split(prompt, $delimiter)[-1] ELSE prompt END), $text)
               OR contains(lower(target), $text) OR contains(lower(array_to_string(choices, chr(10))), $text))""",
        {
            "task": first.task_fingerprint,
            "shots": first.num_fewshot,
            "delimiter": _DELIMITER,
            "text": text.lower(),
        },
    ).fetchnumpy()["doc_id"]
    answered = [
        connection.execute(_ANSWERS, [*span, cell.id, _as_stored(text)]).fetchnumpy()["doc_id"]
        for cell, span in zip(pair.block.cells, pair.samples, strict=True)
    ]
    found: NDArray[np.int64] = np.unique(np.concatenate([asked, *answered]))
    return found


# Log-probabilities are no words to look for: only answers that are texts.
_ANSWERS = """
SELECT doc_id FROM samples WHERE rowid BETWEEN ? AND ? AND cell_id = ? AND starts_with(responses, '["')
    AND len(list_filter(?::VARCHAR[], lambda one: contains(lower(responses), one))) > 0"""


def _as_stored(text: str) -> list[str]:
    """Return how answers may hold a text: as JSON in ASCII, where the case of an escaped letter is in its number."""
    forms = (text, text.lower(), text.upper(), text.title())
    return sorted({json.dumps(form)[1:-1].lower() for form in forms})

"""Whether an answer is a reference: to the letter, or as SQuAD reads it."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from tuneboard.metrics.family import Metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(references: Sequence[str], answer: str) -> float:
    """Return 1 where an answer equals one of the references, blanks around them apart; else 0."""
    return float(answer.strip() in {one.strip() for one in references})


def normalized_answer(text: str) -> str:
    """Return lower-case text without punctuation, articles and spare blanks.

    Source: the official scorer of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), ``normalize_answer``.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalized_match(references: Sequence[str], answer: str) -> float:
    """Return 1 where an answer equals one of the references as SQuAD's scorer reads them; else 0."""
    return float(normalized_answer(answer) in {normalized_answer(one) for one in references})


METRICS = (Metric("exact_match", True, exact_match), Metric("normalized_match", True, normalized_match))

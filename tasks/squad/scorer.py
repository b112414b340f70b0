"""Scores answers out of a text by the rules of SQuAD's official scripts, versions 1.1 and 2.0, in per cent.

Both compare normalised texts, take the best of several references, and part where an answer is empty: version 1.1 gives
it no F1, and version 2.0 full F1 where the question has no answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from tuneboard.metrics.exact_match import normalized_answer, normalized_match
from tuneboard.metrics.token_f1 import token_f1

#: What the search for a threshold needs of a question: how likely the model holds it to have no answer; what giving
#: its answer, instead of none, adds; what giving none scores.
Weighed = tuple[float, float, float]


class SquadV2(ConfigurableTask):
    """A task of two requests per question: its answer, and how likely ``unanswerable`` is instead."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Ask for a text, then for the log-likelihood of ``unanswerable``."""
        shared = {key: value for key, value in kwargs.items() if key not in ("chat_template", "apply_chat_template")}
        text = super().construct_requests(doc, ctx, **kwargs)
        none = Instance("loglikelihood", doc=doc, arguments=(ctx, " unanswerable"), idx=0, **shared)
        return [text, none]


def score_v1(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score one answer as ``evaluate-v1.1.py`` does."""
    said, references = results[0], doc["answers"]["text"]
    return {
        "exact_match": 100 * normalized_match(references, said),
        "f1": 100 * token_f1(references, said) if normalized_answer(said) else 0.0,
    }


def score_v2(doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Score one answer as ``evaluate-v2.0.py`` does; a question counts to those with an answer or to those without."""
    said, (logprob, _) = results
    answerable = bool(doc["answers"]["text"])
    references = [one for one in doc["answers"]["text"] if normalized_answer(one)] or [""]
    exact, f1 = normalized_match(references, said), token_f1(references, said)
    kind = "HasAns" if answerable else "NoAns"
    # The library through which lm-eval runs the official script keeps 32 bits of it: that decides ties.
    chance = float(np.float32(math.exp(logprob)))
    return {
        "exact": 100 * exact,
        "f1": 100 * f1,
        f"{kind}_exact": 100 * exact,
        f"{kind}_f1": 100 * f1,
        "best_exact": (chance, *_gain(exact, said, answerable)),
        "best_f1": (chance, *_gain(f1, said, answerable)),
    }


def best_score(items: Sequence[Weighed]) -> float:
    """Return the score at the threshold that is best for it: from there on, questions get no answer."""
    score = best = sum(none for _, _, none in items)
    for _, gain, _ in sorted(items, key=lambda item: item[0]):
        score += gain
        best = max(best, score)
    return 100 * best / len(items)


def score_record(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Score the likeliest entity of a ReCoRD query, from 0 to 1, by the rules of SQuAD 2.0, as lm-eval does."""
    said = doc["entities"][int(np.argmax([logprob for logprob, _ in results]))]
    return {"f1": token_f1(doc["answers"], said), "em": normalized_match(doc["answers"], said)}


def distinct_names(docs: Any) -> Any:
    """Name each entity and each answer of a ReCoRD query once, in alphabetical order."""

    def document(doc: dict[str, Any]) -> dict[str, Any]:
        return {key: sorted(set(doc[key])) for key in ("entities", "answers")}

    return docs.map(document)


def article(doc: dict[str, Any]) -> str:
    """Return the text of a ReCoRD passage, its highlights as a list below."""
    text, *highlights = doc["passage"].strip().split("\n@highlight\n")
    return "\n".join([text, "", *(f"  - {one}." for one in highlights), ""])


def filled_queries(doc: dict[str, Any]) -> list[str]:
    """Return the query of a ReCoRD passage, filled with each entity in turn."""
    return [_filled(doc, entity) for entity in doc["entities"]]


def filled_with_answer(doc: dict[str, Any]) -> str:
    """Return the query of a ReCoRD passage, filled with the first answer."""
    return _filled(doc, doc["answers"][0])


def _gain(score: float, said: str, answerable: bool) -> tuple[float, float]:
    """Return what an answer adds to none, and what none scores."""
    if answerable:
        return score, 0.0
    return (-1.0 if said else 0.0), 1.0


def _filled(doc: dict[str, Any], entity: str) -> str:
    return f"  - {doc['query']}".replace("@placeholder", entity)

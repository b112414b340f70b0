"""Canary prompts: an adapter that changes no log-probability was not applied, and its results would mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tuneboard.engines.protocol import BASE, Engine, Work
from tuneboard.errors import EngineError

_CANARIES = (
    ("The capital of France is", " Paris"),
    ("Question: What is 2 + 2?\nAnswer:", " 4"),
    ("Once upon a time, there was a", " little girl"),
    ("def add(a, b):\n    return", " a + b"),
)


def unapplied(engine: Engine, adapters: Sequence[str]) -> dict[str, str]:
    """Return the adapters that leave every canary's log-probability as the base has it, each with a reason.

    Args:
        engine: With the adapters attached.
        adapters: Names in the engine.

    Raises:
        EngineError: The engine cannot answer the canaries at all.
    """
    if not adapters:
        return {}
    names = [BASE, BASE, *adapters]
    scores = [_scores(engine, name) for name in names]
    noise = max(abs(a - b) for a, b in zip(scores[0], scores[1], strict=True))
    found = {}
    for name, own in zip(names[2:], scores[2:], strict=True):
        largest = max(abs(a - b) for a, b in zip(scores[0], own, strict=True))
        if largest <= max(1e-7, 2 * noise):
            found[name] = (
                f"adapter '{name}' was not applied: it changes no log-probability on {len(_CANARIES)} canary prompts; "
                "check that it was trained and saved"
            )
    return found


def _scores(engine: Engine, name: str) -> list[float]:
    work = [Work(i, name, "loglikelihood", pair) for i, pair in enumerate(_CANARIES)]
    scores = [0.0] * len(work)
    for answer in engine.run(work):
        if not isinstance(answer.response, tuple):
            raise EngineError(f"the engine cannot score a canary prompt with '{name or 'the base'}': {answer.error}")
        scores[answer.id] = answer.response[0]
    return scores

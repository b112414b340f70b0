"""Canary prompts: an adapter that changes no log-probability was not applied, and its results would mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tuneboard.engines.protocol import BASE, Engine, Work
from tuneboard.errors import EngineError

_CANARIES = (
    ("The capital of France is", " Paris"),
    ("Question: What is 2 + 2?\nAnswer:", " 4"),
    ("Once upon a time, there was a", " little girl"),
    ("def add(a, b):\n    return", " a + b"),
)


@runtime_checkable
class SelfComparing(Protocol):
    """An engine that has no log-probabilities of canary prompts: they are of labels, or a server keeps them."""

    def shift(self, name: str, contexts: Sequence[str]) -> float:
        """Return the largest change of a log-probability that an adapter makes; 0 if it makes none.

        Not a number where the engine cannot tell; the adapter then counts as applied.
        """
        ...


def unapplied(engine: Engine, adapters: Sequence[str]) -> dict[str, str]:
    """Return the adapters that leave every canary's log-probability as the base has it, or break it, with a reason.

    Args:
        engine: With the adapters attached.
        adapters: Names in the engine.

    Raises:
        EngineError: The base itself cannot answer the canaries.
    """
    if not adapters:
        return {}
    if isinstance(engine, SelfComparing):
        return _without_shift(engine, adapters)
    base, again = _scores(engine, BASE), _scores(engine, BASE)
    noise = max(abs(a - b) for a, b in zip(base, again, strict=True))
    found = {}
    for name in adapters:
        try:
            own = _scores(engine, name)
        except EngineError as error:  # a diverged training leaves weights that are not numbers
            found[name] = str(error)
            continue
        largest = max(abs(a - b) for a, b in zip(base, own, strict=True))
        if largest <= max(1e-7, 2 * noise):
            found[name] = _reason(name)
    return found


def _without_shift(engine: SelfComparing, adapters: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in adapters:
        try:
            if not engine.shift(name, [context for context, _ in _CANARIES]):
                found[name] = _reason(name)
        except EngineError as error:
            found[name] = str(error)
    return found


def _reason(name: str) -> str:
    return (
        f"adapter '{name}' was not applied: it changes no log-probability on {len(_CANARIES)} canary prompts; "
        "check that it was trained and saved"
    )


def _scores(engine: Engine, name: str) -> list[float]:
    work = [Work(i, name, "loglikelihood", pair) for i, pair in enumerate(_CANARIES)]
    scores = [0.0] * len(work)
    for answer in engine.run(work):
        if not isinstance(answer.response, tuple):
            who = f"adapter '{name}'" if name else "the base"
            raise EngineError(f"{who} cannot score a canary prompt: {answer.error}; check the weights")
        scores[answer.id] = answer.response[0]
    return scores

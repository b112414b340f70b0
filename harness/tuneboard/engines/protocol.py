"""What every engine speaks.

An engine loads one base model, attaches any number of adapters, and answers lm-eval's requests for a mixture of
candidates, streaming each answer as soon as it is ready so that it can be journalled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from tuneboard.records import AdapterRef, Response, TokenCount

RequestKind = Literal["loglikelihood", "loglikelihood_rolling", "generate_until"]

#: Name of the base model among the candidates of an engine.
BASE = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One distinct request for one candidate.

    ``arguments`` are those of lm-eval's ``Instance``: ``(context, continuation)``, ``(text,)`` or
    ``(context, generation settings)``.
    """

    id: int
    candidate: str
    """Name under which the adapter was attached; ``BASE`` for the base model."""
    kind: RequestKind
    arguments: tuple[Any, ...]
    group: int = 0
    """Works of a lower group are answered first where that costs nothing (tasks, in the order of the suite)."""
    seed: int = 0
    """For sampled generation: makes the text independent of what else is in the batch."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine found for one ``Work``."""

    id: int
    response: Response | None
    """None where the engine failed."""
    error: str | None = None
    tokens: TokenCount = field(default_factory=TokenCount)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What ran: goes into every run's provenance."""

    name: str
    version: str
    device: str
    dtype: str
    details: dict[str, Any]


#: Called now and then with a line such as "halved the batch to 512 tokens".
Notice = Callable[[str], None]


class Engine(Protocol):
    """One loaded base model with its adapters."""

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        ...

    @property
    def tokenizer_name(self) -> str:
        """Identifies the tokenizer and chat template."""
        ...

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``; raises ``AdapterError`` if it does not fit the base."""
        ...

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work`` in the order that is cheapest, one ``Answer`` each."""
        ...

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def load_seconds(engine: Engine) -> float:
    """Return how long an engine has loaded models so far; some load more while answers are waited for."""
    return float(engine.info.details.get("load_s", 0.0))


@runtime_checkable
class LoadsLate(Protocol):
    """An engine that loads its model when all adapters are attached."""

    def start(self) -> None:
        """Load it now; raises ``ModelError`` if it cannot be loaded. Otherwise the first ``run`` loads it."""
        ...

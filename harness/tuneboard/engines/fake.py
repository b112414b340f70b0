"""A deterministic engine without a model: what it answers follows from the request and the weights' hashes alone.

It makes the logic around engines testable: what is asked and how often, what happens when requests fail, when the
engine breaks or is slow, and when adapters are not applied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tuneboard.engines.protocol import BASE, Answer, EngineInfo, Work
from tuneboard.errors import AdapterError, EngineError
from tuneboard.records import AdapterRef, ModelRef, Response, TokenCount, fingerprint


def _never(item: Work) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a fake engine behaves; by default it answers everything at once."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Generations by the end of their context; of several that fit, the longest. Others are made from a hash."""
    fails: Callable[[Work], bool] = _never
    """Which requests are answered with an error."""
    breaks_at: int | None = None
    """Raises ``EngineError`` in place of this answer, counted from 0 over the engine's life."""
    room: int | None = None
    """Words that fit its context; longer requests count as cut."""
    pass_s: float = 0.0
    """Seconds that one pass takes."""
    pass_requests: int = 8
    """Requests that are computed together, before the first of them is answered."""
    ignores_adapters: bool = False
    """Answers for every adapter as the base does."""
    refuses: frozenset[str] = frozenset()
    """Hashes of adapters that do not fit the base."""


class FakeEngine:
    """Answers from hashes; see ``protocol.Engine``.

    Args:
        ref: The base model; only its hash matters.
        behaviour: What it does wrong, and how fast.
    """

    def __init__(self, ref: ModelRef, behaviour: Behaviour | None = None) -> None:
        self.ref, self.behaviour = ref, behaviour or Behaviour()
        self.computed: list[Work] = []
        """Every request that went through it, in order."""
        self.closed = False
        self._weights = {BASE: ref.sha256}
        self._answered = 0

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        return EngineInfo("fake", "1", "memory", self.ref.dtype, {"load_s": 0.0})

    @property
    def tokenizer_name(self) -> str:
        """The fake has one tokenizer, which splits at spaces."""
        return "fake"

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``.

        Raises:
            AdapterError: It was told to refuse this one.
        """
        if adapter.sha256 in self.behaviour.refuses:
            raise AdapterError(f"adapter {adapter.path} does not fit this base model; was it trained on another model?")
        own = not self.behaviour.ignores_adapters
        self._weights[name] = fingerprint(self.ref.sha256, adapter.sha256) if own else self.ref.sha256

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat as ``<role>text`` lines."""
        text = "".join(f"<{message['role']}>{message['content']}\n" for message in chat_history)
        return text + ("<assistant>" if add_generation_prompt else "")

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``, group by group, ``pass_requests`` at a time.

        Raises:
            EngineError: It was told to break, or an adapter is not attached.
        """
        ordered = sorted(work, key=lambda item: item.group)
        size = self.behaviour.pass_requests
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            self.computed += batch
            answers = [self._answer(item) for item in batch]
            time.sleep(self.behaviour.pass_s)
            for answer in answers:
                if self._answered == self.behaviour.breaks_at:
                    raise EngineError("the fake engine was told to break here")
                self._answered += 1
                yield answer

    def _answer(self, item: Work) -> Answer:
        if item.candidate not in self._weights:
            raise EngineError(f"no adapter named '{item.candidate}' is attached")
        if self.behaviour.fails(item):
            return Answer(item.id, None, "the fake engine was told to fail this request")
        asked = sum(len(str(part).split()) for part in item.arguments)
        room = self.behaviour.room
        cut = int(room is not None and asked > room)
        return Answer(item.id, self._respond(item), tokens=TokenCount(computed=asked, distinct=asked, truncated=cut))

    def _respond(self, item: Work) -> Response:
        weights = self._weights[item.candidate]
        if item.kind == "generate_until":
            return self._text(item, weights)
        draw = _draw(weights, item.kind, item.arguments)
        if item.kind == "loglikelihood_rolling":
            return -(0.5 + draw) * max(1, len(item.arguments[0].split()))
        # A longer continuation is less likely, as with real models; otherwise length normalisation changes nothing.
        return -4.0 * draw - 0.1 * len(item.arguments[1]), draw < 0.25

    def _text(self, item: Work, weights: str) -> str:
        context, settings = item.arguments
        known = [end for end in self.behaviour.texts if context.endswith(end)]
        if known:
            return self.behaviour.texts[max(known, key=len)]
        sampled = settings.get("do_sample") or float(settings.get("temperature") or 0.0) > 0
        draw = _draw(weights, context, item.seed if sampled else None)
        return f" so the answer is {int(draw * 10)}."


def _draw(*parts: object) -> float:
    """Return a number in [0, 1) that follows from ``parts``."""
    return int(fingerprint(*parts)[:13], 16) / 16**13

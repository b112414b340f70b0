"""Puts parts of answers together and books tokens on the requests that they were computed for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.tokens import ScoredSequence, common_prefix, sort_key
from tuneboard.records import TokenCount


@dataclass(slots=True)
class OpenScore:
    """Collects the windows of one log-likelihood request.

    Attributes:
        missing: Windows without a result.
        truncated: Windows that were cut.
    """

    missing: int
    truncated: int
    logprob: float = 0.0
    greedy: bool = True
    tokens: TokenCount = field(default_factory=TokenCount)

    def add(self, logprob: float, greedy: bool, tokens: TokenCount) -> bool:
        """Add one window; returns whether it was the last."""
        self.missing -= 1
        self.logprob += logprob
        self.greedy &= greedy
        self.tokens += tokens
        return self.missing == 0

    def answer(self, item: Work) -> Answer:
        """Return the answer to the request, after its last window."""
        tokens = self.tokens + TokenCount(truncated=int(self.truncated > 0))
        if math.isnan(self.logprob):
            return Answer(item.id, None, "the model's log-probability is not a number", tokens)
        rolling = item.kind == "loglikelihood_rolling"
        return Answer(item.id, self.logprob if rolling else (self.logprob, self.greedy), tokens=tokens)


class Ledger:
    """Books the tokens of passes on the requests that they answered; sums are exact, single shares are not.

    Args:
        parts: The sequences that will be answered, each once.
    """

    def __init__(self, parts: Sequence[ScoredSequence]) -> None:
        self._parts = parts
        self._distinct = distinct_shares([part.tokens for part in parts])
        self._open = 0
        self._left = len(parts)

    def add(self, computed: int) -> None:
        """Note a pass over so many tokens."""
        self._open += computed

    def take(self, index: int) -> TokenCount:
        """Return the tokens of one sequence that is answered now."""
        length = len(self._parts[index].tokens)
        self._left -= 1
        computed = min(self._open, length) if self._left else self._open
        self._open -= computed
        return TokenCount(computed, length - computed, self._distinct[index])


def distinct_shares(sequences: Sequence[Any]) -> list[int]:
    """Count distinct prefix-tree nodes of all sequences, booked on the first sequence that has them."""
    out = [0] * len(sequences)
    before = None
    for index in sorted(range(len(sequences)), key=lambda i: sort_key(sequences[i])):
        out[index] = len(sequences[index]) - (0 if before is None else common_prefix(before, sequences[index]))
        before = sequences[index]
    return out

"""Scoring and generation one sequence at a time, for architectures that cannot share prefixes.

State-space and hybrid models keep no key-value cache that could be cut back, and models with their own position biases
ignore a tree mask. The engine finds that out by comparing both ways on a few sequences when it loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tuneboard.engines.generation import Generated, Prompt
from tuneboard.engines.sampling import BROKEN, choose
from tuneboard.engines.scoring import Scored, pick, summed
from tuneboard.engines.tokens import ScoredSequence, Tokens
from tuneboard.engines.virtual import VirtualTokens


class PlainScorer:
    """Scores each distinct input with one ordinary forward pass.

    Args:
        model: A transformers causal LM.
        virtual: Virtual tokens to put before every sequence.
    """

    def __init__(self, model: Any, virtual: VirtualTokens | None = None) -> None:
        self.model, self.virtual = model, virtual

    def score(self, requests: Sequence[ScoredSequence], order: Sequence[int]) -> Iterator[Scored]:
        """Score all requests, yielding after every forward pass; see ``scoring.TreeScorer.score``."""
        by_input: dict[bytes, list[int]] = {}
        for index in sorted(range(len(requests)), key=lambda i: order[i]):
            by_input.setdefault(requests[index].tokens.tobytes(), []).append(index)
        for members in by_input.values():
            tokens = requests[members[0]].tokens
            logits = self.logits(tokens)
            results = []
            for index in members:
                targets = requests[index].targets.astype(np.int64)
                rows = np.arange(len(tokens) - len(targets), len(tokens))
                picked, best = pick(logits, rows, targets)
                results.append((index, summed(picked), bool(best.all())))
            yield Scored(results, len(tokens))

    @torch.inference_mode()
    def logits(self, tokens: Tokens) -> torch.Tensor:
        """Return the logits of one sequence, shape [length, vocabulary]."""
        inputs = {"use_cache": False} | _inputs(self.model, tokens, self.virtual)
        out: torch.Tensor = self.model(**inputs).logits[0, -len(tokens) :]
        return out


class PlainGenerator:
    """Generates one text at a time with whatever cache the model brings.

    Args:
        model: A transformers causal LM.
        tokenizer: Its tokenizer.
        virtual: Virtual tokens to put before every prompt.
    """

    def __init__(self, model: Any, tokenizer: Any, virtual: VirtualTokens | None = None) -> None:
        self.model, self.tokenizer, self.virtual = model, tokenizer, virtual

    def generate(self, prompts: Sequence[Prompt], order: Sequence[int]) -> Iterator[Generated]:
        """Generate all texts, yielding each as it ends; see ``generation.Generator.generate``."""
        for index in sorted(range(len(prompts)), key=lambda i: order[i]):
            yield self._one(index, prompts[index])

    @torch.inference_mode()
    def _one(self, index: int, prompt: Prompt) -> Generated:
        rules = prompt.rules
        tokens: list[int] = []
        generator = torch.Generator().manual_seed(prompt.seed) if rules.do_sample else None
        state: dict[str, Any] = {}
        while len(tokens) < prompt.max_new_tokens:
            history = [*prompt.tokens.tolist(), *tokens]
            new = np.asarray(tokens[-1:] if state else history)
            inputs = _inputs(self.model, new, None if state else self.virtual)
            output = self.model(**{"use_cache": True} | inputs | state)
            state = {k: output[k] for k in ("past_key_values", "cache_params") if output.get(k) is not None}
            token = choose(output.logits[:, -1], [rules], [history], [generator])[0]
            if token == BROKEN:
                return Generated(index, None, len(history), len(tokens))
            tokens.append(token)
            text = self.tokenizer.decode(tokens)
            if tokens[-1] in rules.end_ids or any(term in text for term in rules.stop if term):
                break
        text = rules.finish(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Generated(index, text, len(prompt.tokens) + len(tokens) - 1, len(tokens))


def _inputs(model: Any, tokens: Tokens, virtual: VirtualTokens | None) -> dict[str, Any]:
    ids = torch.from_numpy(tokens.astype(np.int64))[None].to(next(model.parameters()).device)
    return {"input_ids": ids} if virtual is None else virtual.inputs(model, ids)

"""Log-likelihoods and generation with an encoder-decoder model, many requests at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tuneboard.engines.batches import Batches
from tuneboard.engines.encoder_decoder import Decoding, EncoderDecoder
from tuneboard.engines.generation import Generated, Prompt, Row, stopped
from tuneboard.engines.sampling import BROKEN, choose
from tuneboard.engines.scoring import pick, summed
from tuneboard.engines.tokens import Tokens

Score = tuple[float, bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A context and the distinct continuations to score after it."""

    context: Tokens
    targets: tuple[Tokens, ...]


@dataclass(slots=True)
class Scorer:
    """Scores continuations; all of one context share its encoder pass, its cross-attention and the start token.

    Attributes:
        model: The passes.
        active: What ``AdaptedModel.active`` yielded.
        questions: Batches of contexts.
        choices: Batches of continuations.
    """

    model: EncoderDecoder
    active: Any
    questions: Batches
    choices: Batches

    def score(
        self, questions: Sequence[Question], order: Sequence[int]
    ) -> Iterator[tuple[int, tuple[Score | None, ...] | None, int]]:
        """Score everything, batch by batch.

        Args:
            questions: What to score.
            order: One number per question; lower ones come first.

        Yields:
            Place of the question, the summed log-probability of each target and whether all its tokens were the
            likeliest (None for what did not fit into memory), and the padding of its context.
        """
        lengths = [len(question.context) for question in questions]
        for batch, made in self.questions.run(lengths, order, lambda part: self._score([questions[i] for i in part])):
            width = max(lengths[place] for place in batch)
            for at, place in enumerate(batch):
                yield place, None if made is None else made[at], width - lengths[place]

    def _score(self, questions: Sequence[Question]) -> list[tuple[Score | None, ...]]:
        state = self.model.begin(self.active, [question.context for question in questions])
        pairs = [(row, target) for row, question in enumerate(questions) for target in question.targets]
        rows = np.asarray([row for row, _ in pairs])
        heads, head_best = pick(state.logits, rows, np.asarray([target[0] for _, target in pairs], dtype=np.int64))
        scores: list[Score | None] = [
            (float(logprob), bool(best)) for logprob, best in zip(heads, head_best, strict=True)
        ]
        longer = [place for place, (_, target) in enumerate(pairs) if len(target) > 1]
        # A row copies the cross-attention of its context.
        width = state.hidden.shape[1]
        lengths = [width + len(pairs[place][1]) for place in longer]
        rest = self.choices.run(lengths, lengths, lambda part: self._rest(state, [pairs[longer[i]] for i in part]))
        for batch, made in rest:
            for at, i in enumerate(batch):
                place = longer[i]
                scores[place] = None if made is None else _joined(heads[place], head_best[place], *made[at])
        found = iter(scores)
        return [tuple(next(found) for _ in question.targets) for question in questions]

    def _rest(self, state: Decoding, pairs: Sequence[tuple[int, Tokens]]) -> list[tuple[Any, Any]]:
        """Log-probabilities of all tokens but the first, and whether each was the likeliest."""
        branches = state.select([row for row, _ in pairs])
        _, logits = self.model.feed(branches, [target[:-1].tolist() for _, target in pairs])
        width = logits.shape[1]
        sizes = [len(target) - 1 for _, target in pairs]
        rows = np.concatenate([np.arange(size) + at * width for at, size in enumerate(sizes)])
        targets = np.concatenate([target[1:] for _, target in pairs]).astype(np.int64)
        picked, best = pick(logits.flatten(0, 1), rows, targets)
        edges = np.cumsum(sizes)[:-1]
        return list(zip(np.split(picked, edges), np.split(best, edges), strict=True))


def _joined(head: Any, head_best: Any, rest: Any, rest_best: Any) -> Score:
    return summed(np.concatenate([[head], rest])), bool(head_best and rest_best.all())


@dataclass(slots=True)
class Writer:
    """Generates texts: token by token for a whole batch, from which rows that ended are taken out.

    ``model.generate`` draws the tokens of all rows from one random state, so that a sampled text would depend on what
    else is in its batch, and it knows one set of stop texts per call.

    Attributes:
        model: The passes.
        active: What ``AdaptedModel.active`` yielded.
        tokenizer: The model's.
        prompts: Batches of prompts.
    """

    model: EncoderDecoder
    active: Any
    tokenizer: Any
    prompts: Batches

    def generate(self, prompts: Sequence[Prompt], order: Sequence[int]) -> Iterator[tuple[int, Generated | None]]:
        """Generate all texts, batch by batch; yields the place of the prompt, and None if it did not fit into memory.

        Args:
            prompts: What to generate after.
            order: One number per prompt; lower ones come first.
        """
        lengths = [len(prompt.tokens) + prompt.max_new_tokens for prompt in prompts]
        for batch, made in self.prompts.run(lengths, order, lambda part: self._generate([prompts[i] for i in part])):
            yield from ((place, None if made is None else made[at]) for at, place in enumerate(batch))

    def _generate(self, prompts: Sequence[Prompt]) -> list[Generated]:
        contexts: dict[bytes, int] = {}
        owners = [contexts.setdefault(prompt.tokens.tobytes(), len(contexts)) for prompt in prompts]
        first = {owner: index for index, owner in reversed(list(enumerate(owners)))}
        state = self.model.begin(self.active, [prompts[first[owner]].tokens for owner in range(len(contexts))])
        state = state.select(owners)
        rows = [Row(i, prompt, _generator(prompt)) for i, prompt in enumerate(prompts)]
        done: dict[int, Generated] = {}
        while True:
            self._extend(rows, state.logits)
            kept = []
            for place, (row, ended) in enumerate(zip(rows, stopped(self.tokenizer, rows), strict=True)):
                if ended:
                    encoded = len(row.prompt.tokens) if first[owners[row.index]] == row.index else 0
                    done[row.index] = self._finished(row, encoded)
                else:
                    kept.append(place)
            if not kept:
                return [done[index] for index in range(len(prompts))]
            if len(kept) < len(rows):
                rows, state = [rows[place] for place in kept], state.select(kept)
            state, _ = self.model.feed(state, [row.tokens[-1:] for row in rows])

    def _extend(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        rules = [row.prompt.rules for row in rows]
        # Penalties look at what the decoder has read, which does not include the context.
        histories = [[self.model.start_id, *row.tokens] for row in rows]
        chosen = choose(logits, rules, histories, [row.generator for row in rows])
        forced = getattr(self.model.model.generation_config, "forced_bos_token_id", None)
        for row, token in zip(rows, chosen, strict=True):
            row.broken = token == BROKEN
            if not row.broken:
                row.tokens.append(int(forced) if forced is not None and not row.tokens else token)

    def _finished(self, row: Row, encoded: int) -> Generated:
        text = row.prompt.rules.finish(self.tokenizer.decode(row.tokens, skip_special_tokens=True))
        new = len(row.tokens)
        return Generated(row.index, None if row.broken else text, encoded + max(1, new), new)


def _generator(prompt: Prompt) -> torch.Generator | None:
    return torch.Generator().manual_seed(prompt.seed) if prompt.rules.do_sample else None

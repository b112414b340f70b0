"""Generation for many prompts at once: shared prefixes computed once, rows that end make room for waiting ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from tuneboard.engines.caches import RowLayer, RowState
from tuneboard.engines.forward import TreeModel
from tuneboard.engines.memory import is_out_of_memory, release
from tuneboard.engines.prefix import Budget, Crop, Extend, Pack, Plan, lay_out
from tuneboard.engines.protocol import Notice
from tuneboard.engines.sampling import BROKEN, Rules, choose
from tuneboard.engines.tokens import Tokens
from tuneboard.errors import OutOfMemory

#: Rows grow their key-value buffers by this many tokens at a time.
_GROW = 128
#: Bytes of keys and values up to which more rows than the usual number are taken.
_ROOM = 256 << 20


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text to generate."""

    tokens: Tokens
    max_new_tokens: int
    rules: Rules
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished text.

    Attributes:
        index: Index of the prompt.
        text: Without its stop text; None where the model's logits are not numbers.
        computed: Tokens put through the model since the last finished text.
        new_tokens: Tokens of this text.
    """

    index: int
    text: str | None
    computed: int
    new_tokens: int


@dataclass(slots=True)
class Row:
    """One text in the making."""

    index: int
    prompt: Prompt
    generator: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    broken: bool = False


def stopped(tokenizer: Any, rows: Sequence[Row]) -> list[bool]:
    """Say which rows are complete after their newest token; whole texts are decoded only where the end holds a stop."""
    tails = tokenizer.batch_decode([row.tokens[-row.prompt.rules.window :] for row in rows])
    out = []
    for row, tail in zip(rows, tails, strict=True):
        rules = row.prompt.rules
        full = row.broken or row.tokens[-1] in rules.end_ids or len(row.tokens) >= row.prompt.max_new_tokens
        if not full and any(term in tail for term in rules.stop if term):
            text = tokenizer.decode(row.tokens)
            full = any(term in text for term in rules.stop if term)
        out.append(full)
    return out


class Generator:
    """Generates with one model.

    Args:
        model: The model; its active adapter generates.
        tokenizer: Its tokenizer.
        budget: Tokens of a prefill pass; halved when memory runs out.
        rows: Texts generated at the same time; halved when memory runs out.
        most_rows: As many are taken where their keys and values are small: then a step costs about the same, however
            many rows it has.
        notice: Told about halved rows.
    """

    def __init__(
        self, model: TreeModel, tokenizer: Any, budget: Budget, rows: int, most_rows: int, notice: Notice
    ) -> None:
        self.model, self.tokenizer, self.budget, self.notice = model, tokenizer, budget, notice
        self.rows, self.most_rows = rows, max(rows, most_rows)

    def generate(self, prompts: Sequence[Prompt], order: Sequence[int]) -> Iterator[Generated]:
        """Generate all texts, yielding each as it ends.

        Raises:
            OutOfMemory: One row at a time does not fit.
        """
        pending = set(range(len(prompts)))
        while pending:
            left = sorted(pending)
            batch = _Batch(self, [(i, prompts[i]) for i in left], [order[i] for i in left])
            try:
                for done in batch.run():
                    pending.discard(done.index)
                    yield done
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows == 1 and self.budget.row_tokens <= 16:
                    raise OutOfMemory("out of memory with one text at a time; try --quantization 4bit") from error
                self.rows, self.budget.row_tokens = max(1, self.rows // 2), max(16, self.budget.row_tokens // 2)
                self.most_rows = self.rows
                self.notice(f"out of memory: going on with {self.rows} texts at a time")
            del batch
            self.model.crop(0)
            release(self.model.device)


class _Batch:
    """One attempt at a set of prompts."""

    def __init__(self, owner: Generator, prompts: list[tuple[int, Prompt]], order: Sequence[int]) -> None:
        self.model, self.tokenizer = owner.model, owner.tokenizer
        self.state = RowState(min(owner.rows, len(prompts)))
        self.most_rows = min(owner.most_rows, len(prompts))
        self.layers: list[RowLayer] = []
        self.rows: list[Row] = []
        self.computed = 0
        members: dict[bytes, list[int]] = {}
        for place, (_, prompt) in enumerate(prompts):
            members.setdefault(prompt.tokens.tobytes(), []).append(place)
        groups = list(members.values())
        self.prompts = prompts
        self.plan = Plan(
            [prompts[g[0]][1].tokens for g in groups], [min(order[i] for i in g) for g in groups], owner.budget
        )
        self.members = [groups[i] for i in self.plan.source]

    def run(self) -> Iterator[Generated]:
        """Prefill and decode everything."""
        self.model.crop(0)
        for step in self.plan.steps():
            if isinstance(step, Crop):
                self.model.crop(step.depth)
            elif isinstance(step, Extend):
                positions = np.arange(step.start, step.stop, dtype=np.int32)
                tokens = self.plan.tokens[step.first][step.start : step.stop]
                self.model.forward(tokens, positions, None, np.empty(0, dtype=np.int64))
                self.computed += len(tokens)
            else:
                yield from self._prefill(step)
        while self.rows:
            yield from self._decode()

    def _prefill(self, step: Pack) -> Iterator[Generated]:
        row = lay_out(self.plan, step)
        ends = np.asarray([path[-1] for path in row.slots.values()], dtype=np.int64)
        keep, at = np.unique(ends, return_inverse=True)
        before = self.model.root + step.depth
        logits = self.model.forward(row.tokens, row.positions, row.allowed, keep, row.starts)
        self.computed += len(row.tokens)
        for place, (sequence, path) in zip(at.tolist(), row.slots.items(), strict=True):
            cached = np.concatenate([np.arange(before), path + before])
            for member in self.members[sequence]:
                while len(self.rows) >= self.state.limit:
                    yield from self._decode()
                self._admit(*self.prompts[member], torch.from_numpy(cached).to(self.model.device))
                yield from self._advance(logits[place : place + 1], [len(self.rows) - 1])
        self.model.crop(step.depth)

    def _admit(self, index: int, prompt: Prompt, cached: torch.Tensor) -> None:
        stack = self.model.cache.layers
        if not self.layers:
            self.layers = [RowLayer(self.state) for _ in stack]
            self.state.limit = max(self.state.limit, min(self.most_rows, _ROOM // self._row_bytes()))
        at, length = len(self.rows), len(cached)
        needed = -(-(length + prompt.max_new_tokens) // _GROW) * _GROW
        for layer, source in zip(self.layers, stack, strict=True):
            layer.admit(at, source.keys[0][:, cached], source.values[0][:, cached], needed)
        generator = torch.Generator().manual_seed(prompt.seed) if prompt.rules.do_sample else None
        self.rows.append(Row(index, prompt, generator))

    def _row_bytes(self) -> int:
        """Bytes of keys and values of the longest row."""
        longest = max(len(prompt.tokens) + prompt.max_new_tokens for _, prompt in self.prompts)
        token: int = sum(
            part[0][:, :1].nbytes for layer in self.model.cache.layers for part in (layer.keys, layer.values)
        )
        return token * (self.model.root + longest)

    def _length(self, row: Row) -> int:
        """Cached tokens of a row, which is also the place of its newest one."""
        return self.model.root + len(row.prompt.tokens) + len(row.tokens) - 1

    @torch.inference_mode()
    def _decode(self) -> Iterator[Generated]:
        lengths = torch.tensor([self._length(row) for row in self.rows])
        state = self.state
        state.width = int(lengths.max()) + 1
        state.lengths = lengths.to(self.model.device)
        state.active = torch.arange(len(self.rows), device=self.model.device)
        output = self.model.model(
            input_ids=torch.tensor([[row.tokens[-1]] for row in self.rows], device=self.model.device),
            position_ids=state.lengths[:, None],
            attention_mask=self.model.row_masks(lengths, state.width),
            past_key_values=Cache(layers=self.layers),
            use_cache=True,
        )
        self.computed += len(self.rows)
        yield from self._advance(output.logits[:, -1], list(range(len(self.rows))))

    def _advance(self, logits: torch.Tensor, places: list[int]) -> Iterator[Generated]:
        rows = [self.rows[i] for i in places]
        histories = [[*row.prompt.tokens.tolist(), *row.tokens] if row.prompt.rules.processors else () for row in rows]
        chosen = choose(logits, [r.prompt.rules for r in rows], histories, [r.generator for r in rows])
        for row, token in zip(rows, chosen, strict=True):
            row.broken = token == BROKEN
            row.tokens += [] if row.broken else [token]
        ended = [place for place, stop in zip(places, stopped(self.tokenizer, rows), strict=True) if stop]
        for place in reversed(ended):
            row = self.rows[place]
            text = row.prompt.rules.finish(self.tokenizer.decode(row.tokens, skip_special_tokens=True))
            yield Generated(row.index, None if row.broken else text, self.computed, len(row.tokens))
            self.computed = 0
            self._remove(place)

    def _remove(self, place: int) -> None:
        last = len(self.rows) - 1
        if place != last:
            for layer in self.layers:
                layer.move(last, place, self._length(self.rows[last]))
            self.rows[place] = self.rows[last]
        self.rows.pop()

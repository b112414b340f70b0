"""The embedded engine: any Hugging Face causal LM with any number of adapters over one copy of its weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tuneboard.engines.forward import TreeModel
from tuneboard.engines.generation import Generator, Prompt
from tuneboard.engines.loading import LoadOptions, attach_adapter, load_model
from tuneboard.engines.plain import PlainGenerator, PlainScorer
from tuneboard.engines.prefix import Budget
from tuneboard.engines.protocol import BASE, Answer, EngineInfo, Notice, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.scoring import TreeScorer
from tuneboard.engines.sharing import can_share
from tuneboard.engines.tokens import Encoder, ScoredSequence, common_prefix, context_length, sort_key
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef, TokenCount

#: Tokens of one forward pass. On two cores 768 is 5 % faster than 512 and than 1024; a GPU wants more.
_ROW_TOKENS = {"cpu": 768, "cuda": 8192, "mps": 2048}
_ROWS = {"cpu": 16, "cuda": 256, "mps": 32}
#: Short shared prefixes are computed again with each row: below this many tokens a pass of their own costs more.
_MIN_EXTEND = {"cpu": 24, "cuda": 256, "mps": 64}


class TransformersEngine:
    """Answers requests with a transformers model; see ``protocol.Engine``.

    Args:
        ref: The base model.
        options: Device and what is trusted.
        notice: Told about halved batches and missing capabilities.

    Raises:
        ModelError: The model cannot be loaded.
    """

    def __init__(self, ref: ModelRef, options: LoadOptions | None = None, notice: Notice = lambda line: None) -> None:
        import peft  # noqa: F401  # seconds of imports are no part of the time that loading takes

        started = time.perf_counter()
        options = options or LoadOptions()
        self.notice = notice
        self.model, self.tokenizer = load_model(ref, options)
        self.encoder = Encoder(self.tokenizer, options.max_length or context_length(self.model.config, self.tokenizer))
        self.tree = TreeModel(self.model)
        self._peft: Any = None
        self._names: dict[str, str] = {}
        self._kind: str | None = None
        self._requests: dict[tuple[Any, ...], list[ScoredSequence]] = {}
        kind = self.tree.device.type
        self.budget = Budget(_ROW_TOKENS.get(kind, 512), min_extend=_MIN_EXTEND.get(kind, 24))
        self.rows = _ROWS.get(kind, 16)
        self.shares_prefixes = can_share(self.tree, notice)
        if not self.shares_prefixes:
            notice(f"{type(self.model).__name__} cannot share prefixes; every request is computed whole")
        self._load_s = time.perf_counter() - started

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        import transformers

        device = str(self.tree.device)
        if self.tree.device.type == "cuda":
            device = torch.cuda.get_device_name(self.tree.device)
        details = {
            "max_length": self.encoder.max_length,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "architecture": type(self.model).__name__,
            "shares_prefixes": self.shares_prefixes,
            "load_s": self._load_s,
        }
        dtype = str(self.tree.dtype).split(".")[-1]
        return EngineInfo("transformers", transformers.__version__, device, dtype, details)

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer."""
        return str(self.tokenizer.name_or_path)

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``.

        Raises:
            AdapterError: It does not fit, or is of another type than those attached already.
        """
        if self._kind not in (None, adapter.kind):
            raise AdapterError(f"adapter {adapter.path} is {adapter.kind}, beside {self._kind}; load it on its own")
        started = time.perf_counter()
        inner = f"candidate{len(self._names)}"
        self._peft = attach_adapter(self._peft if self._peft is not None else self.model, inner, adapter)
        self._kind, self._names[name] = adapter.kind, inner
        self._load_s += time.perf_counter() - started

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template.

        Raises:
            ModelError: The tokenizer has none.
        """
        if not self.tokenizer.chat_template:
            raise ModelError(f"{self.tokenizer_name} has no chat template; leave --apply-chat-template out")
        options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        text: str = self.tokenizer.apply_chat_template(
            chat_history, continue_final_message=not add_generation_prompt, **options
        )
        return text

    def close(self) -> None:
        """Free the model."""
        self.tree = self.model = self._peft = None  # type: ignore[assignment]
        self._requests.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``: candidate by candidate, log-likelihoods before generations."""
        self.encoder.warm(text for item in work for text in self.encoder.texts(item.kind, item.arguments))
        by_candidate: defaultdict[str, list[Work]] = defaultdict(list)
        for item in work:
            by_candidate[item.candidate].append(item)
        for candidate, items in by_candidate.items():
            texts = [item for item in items if item.kind == "generate_until"]
            scores = [item for item in items if item.kind != "generate_until"]
            with self._active(candidate):
                yield from _guarded(scores, self._score(scores))
                yield from _guarded(texts, self._generate(texts))
        self.encoder.forget()

    @contextlib.contextmanager
    def _active(self, candidate: str) -> Iterator[None]:
        if candidate != BASE and candidate not in self._names:
            raise EngineError(f"no adapter named '{candidate}' is attached")
        if self._peft is None:
            yield
        elif candidate == BASE:
            with self._peft.disable_adapter():
                yield
        else:
            self._peft.set_adapter(self._names[candidate])
            yield

    def _score(self, work: Sequence[Work]) -> Iterator[Answer]:
        parts: list[ScoredSequence] = []
        owners: list[int] = []
        open_parts: dict[int, _Sum] = {}
        for place, item in enumerate(work):
            try:
                mine = self._encoded(item)
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            open_parts[place] = _Sum(len(mine), sum(part.truncated for part in mine))
            owners += [place] * len(mine)
            parts += mine
            if not mine:
                yield Answer(item.id, 0.0)
        order = [work[owner].group for owner in owners]
        tokens = _Ledger(parts)
        scorer = TreeScorer(self.tree, self.budget, self.notice) if self.shares_prefixes else PlainScorer(self.model)
        for passed in scorer.score(parts, order):
            tokens.add(passed.computed)
            for index, logprob, greedy in passed.results:
                item, total = work[owners[index]], open_parts[owners[index]]
                if total.add(logprob, greedy, tokens.take(index)):
                    yield total.answer(item)

    def _encoded(self, item: Work) -> list[ScoredSequence]:
        key = (item.kind, *item.arguments)
        if key not in self._requests:
            rolling = item.kind == "loglikelihood_rolling"
            self._requests[key] = (
                self.encoder.windows(item.arguments[0]) if rolling else [self.encoder.pair(*item.arguments)]
            )
        return self._requests[key]

    def _generate(self, work: Sequence[Work]) -> Iterator[Answer]:
        book = RuleBook(self.tokenizer, self.model.generation_config)
        prompts, items, cut = [], [], []
        for item in work:
            try:
                rules = book.rules(item.arguments[1])
                tokens, room, truncated = self.encoder.prompt(item.arguments[0], rules.max_new_tokens)
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            prompts.append(Prompt(tokens, room, rules, item.seed))
            items.append(item)
            cut.append(truncated)
        if not prompts:
            return
        generator = (
            Generator(self.tree, self.tokenizer, self.budget, self.rows, self.notice)
            if self.shares_prefixes
            else PlainGenerator(self.model, self.tokenizer)
        )
        distinct = _shares([prompt.tokens for prompt in prompts])
        for done in generator.generate(prompts, [item.group for item in items]):
            asked = len(prompts[done.index].tokens) + done.new_tokens
            count = TokenCount(
                computed=done.computed,
                reused=asked - done.computed,
                distinct=distinct[done.index] + done.new_tokens,
                truncated=int(cut[done.index]),
            )
            problem = "the model's scores of the next token are not numbers" if done.text is None else None
            yield Answer(items[done.index].id, done.text, problem, count)


@dataclass(slots=True)
class _Sum:
    """Collects the windows of one request."""

    missing: int
    truncated: int
    logprob: float = 0.0
    greedy: bool = True
    tokens: TokenCount = field(default_factory=TokenCount)

    def add(self, logprob: float, greedy: bool, tokens: TokenCount) -> bool:
        self.missing -= 1
        self.logprob += logprob
        self.greedy &= greedy
        self.tokens += tokens
        return self.missing == 0

    def answer(self, item: Work) -> Answer:
        tokens = self.tokens + TokenCount(truncated=int(self.truncated > 0))
        if math.isnan(self.logprob):
            return Answer(item.id, None, "the model's log-probability is not a number", tokens)
        rolling = item.kind == "loglikelihood_rolling"
        return Answer(item.id, self.logprob if rolling else (self.logprob, self.greedy), tokens=tokens)


class _Ledger:
    """Books the tokens of passes on the requests that they answered; sums are exact, single shares are not."""

    def __init__(self, parts: Sequence[ScoredSequence]) -> None:
        self._parts = parts
        self._distinct = _shares([part.tokens for part in parts])
        self._open = 0
        self._left = len(parts)

    def add(self, computed: int) -> None:
        self._open += computed

    def take(self, index: int) -> TokenCount:
        length = len(self._parts[index].tokens)
        self._left -= 1
        computed = min(self._open, length) if self._left else self._open
        self._open -= computed
        return TokenCount(computed, length - computed, self._distinct[index])


def _shares(sequences: Sequence[Any]) -> list[int]:
    """Distinct prefix-tree nodes of all sequences, booked on the first sequence that has them."""
    out = [0] * len(sequences)
    before = None
    for index in sorted(range(len(sequences)), key=lambda i: sort_key(sequences[i])):
        out[index] = len(sequences[index]) - (0 if before is None else common_prefix(before, sequences[index]))
        before = sequences[index]
    return out


def _guarded(work: Sequence[Work], answers: Iterator[Answer]) -> Iterator[Answer]:
    """Pass answers on; what breaks the engine fails the works that are still open, and nothing else."""
    open_ids = {item.id for item in work}
    try:
        for answer in answers:
            open_ids.discard(answer.id)
            yield answer
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        for item in work:
            if item.id in open_ids:
                yield Answer(item.id, None, reason)

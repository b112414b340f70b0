"""The embedded engine: any Hugging Face causal LM with any number of adapters over one copy of its weights."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tuneboard.engines.accounting import Ledger, OpenScore, distinct_shares
from tuneboard.engines.adapters import Adapters, Serving
from tuneboard.engines.batches import guarded
from tuneboard.engines.forward import TreeModel
from tuneboard.engines.generation import Generator, Prompt
from tuneboard.engines.loading import LoadOptions, load_model
from tuneboard.engines.plain import PlainGenerator, PlainScorer
from tuneboard.engines.prefix import Budget
from tuneboard.engines.protocol import Answer, EngineInfo, Notice, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.scoring import TreeScorer
from tuneboard.engines.sharing import can_share
from tuneboard.engines.tokens import Encoder, ScoredSequence, context_length
from tuneboard.errors import EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef, TokenCount

#: Tokens of one forward pass. Twice as many on two cores save a tenth of the time where attention goes by chunks; with
#: one masked product over the row they save less, and round further from lm-eval.
_ROW_TOKENS = {"cpu": 512, "cuda": 8192, "mps": 2048}
_CHUNKED_ROW_TOKENS = 1024
_ROWS = {"cpu": 16, "cuda": 256, "mps": 32}
#: Rows of small models.
_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 64}
#: Short shared prefixes are computed again with each row: below this many tokens a pass of their own costs more.
_MIN_EXTEND = {"cpu": 24, "cuda": 256, "mps": 64}


class TransformersEngine:
    """Answers requests with a transformers model; see ``protocol.Engine``.

    Where a candidate puts virtual tokens before every sequence, its context holds that many real tokens less, and the
    same rules of truncation cut to what is left: a long request may keep a few tokens less than the base's does.

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
        context = context_length(self.model.config, self.tokenizer)
        if options.max_length and options.max_length > context:
            notice(f"--max-length {options.max_length} is more than the {context} tokens that {ref.id} was made for")
        self.encoder = Encoder(self.tokenizer, options.max_length or context)
        self.tree = TreeModel(self.model)
        self._requests: dict[tuple[Any, ...], list[ScoredSequence]] = {}
        kind = self.tree.device.type
        row_tokens = _CHUNKED_ROW_TOKENS if self.tree.by_chunk else _ROW_TOKENS.get(kind, 512)
        self.budget = Budget(row_tokens, min_extend=_MIN_EXTEND.get(kind, 24))
        self.rows, self.most_rows = _ROWS.get(kind, 16), _MOST_ROWS.get(kind, 64)
        self.shares_prefixes = can_share(self.tree, notice)
        if not self.shares_prefixes:
            notice(f"{type(self.model).__name__} cannot share prefixes; every request is computed whole")
        self._adapters = Adapters(self.tree, self.shares_prefixes, self.encoder.max_length, notice)
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
        started = time.perf_counter()
        self._adapters.attach(name, adapter)
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
        self.tree = self.model = self._adapters = None  # type: ignore[assignment]
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
            with self._adapters.active(candidate) as serving:
                yield from guarded(scores, self._score(scores, serving))
                yield from guarded(texts, self._generate(texts, serving))
        self.encoder.forget()

    def _score(self, work: Sequence[Work], serving: Serving) -> Iterator[Answer]:
        encoder = self._encoder(serving)
        parts: list[ScoredSequence] = []
        owners: list[int] = []
        open_scores: dict[int, OpenScore] = {}
        for place, item in enumerate(work):
            try:
                mine = self._encoded(item, encoder)
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            open_scores[place] = OpenScore(len(mine), sum(part.truncated for part in mine))
            owners += [place] * len(mine)
            parts += mine
            if not mine:
                yield Answer(item.id, 0.0)
        order = [work[owner].group for owner in owners]
        ledger = Ledger(parts)
        for passed in self._scorer(serving).score(parts, order):
            ledger.add(passed.computed)
            for index, logprob, greedy in passed.results:
                item, score = work[owners[index]], open_scores[owners[index]]
                if score.add(logprob, greedy, ledger.take(index)):
                    yield score.answer(item)

    def _scorer(self, serving: Serving) -> TreeScorer | PlainScorer:
        if serving.shares_prefixes:
            return TreeScorer(self.tree, self.budget, self.notice)
        return PlainScorer(self.model, serving.virtual)

    def _encoder(self, serving: Serving) -> Encoder:
        """Return an encoder for what the virtual tokens leave of the context; all remember the same encodings."""
        if serving.virtual is None:
            return self.encoder
        narrow = copy.copy(self.encoder)
        narrow.max_length -= serving.virtual.count
        return narrow

    def _encoded(self, item: Work, encoder: Encoder) -> list[ScoredSequence]:
        key = (encoder.max_length, item.kind, *item.arguments)
        if key not in self._requests:
            self._requests[key] = encoder.sequences(item.kind, item.arguments)
        return self._requests[key]

    def _generate(self, work: Sequence[Work], serving: Serving) -> Iterator[Answer]:
        book, encoder = RuleBook(self.tokenizer, self.model.generation_config), self._encoder(serving)
        prompts, items, cut = [], [], []
        for item in work:
            try:
                rules = book.rules(item.arguments[1])
                tokens, room, truncated = encoder.prompt(item.arguments[0], rules.max_new_tokens)
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            prompts.append(Prompt(tokens, room, rules, item.seed))
            items.append(item)
            cut.append(truncated)
        if not prompts:
            return
        distinct = distinct_shares([prompt.tokens for prompt in prompts])
        for done in self._generator(serving).generate(prompts, [item.group for item in items]):
            asked = len(prompts[done.index].tokens) + done.new_tokens
            count = TokenCount(
                computed=done.computed,
                reused=asked - done.computed,
                distinct=distinct[done.index] + done.new_tokens,
                truncated=int(cut[done.index]),
            )
            problem = "the model's scores of the next token are not numbers" if done.text is None else None
            yield Answer(items[done.index].id, done.text, problem, count)

    def _generator(self, serving: Serving) -> Generator | PlainGenerator:
        if serving.shares_prefixes:
            return Generator(self.tree, self.tokenizer, self.budget, self.rows, self.most_rows, self.notice)
        return PlainGenerator(self.model, self.tokenizer, serving.virtual)

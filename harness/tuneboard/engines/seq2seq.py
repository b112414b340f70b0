"""The engine of encoder-decoder models such as T5: the context goes to the encoder, the continuation to the decoder.

Requests become tokens by the rules of lm-eval's ``hf`` model with a seq2seq backend (0.4.13, ``_encode_pair`` and
``_loglikelihood_tokens``): trailing spaces of a context move to its continuation; the context is encoded with the
tokenizer's special tokens (T5: EOS behind it), the continuation without, so that its end is not scored; an empty
context is the BOS token (EOS where there is none); contexts keep their last ``max_length`` tokens.

Where that backend is wrong, it is not followed:

- it pads prompts for generation on the left, which shifts the positions of BART-like encoders; here on the right;
- it adds the prompt's length to the number of new tokens (the decoder does not hold the prompt), and looks for stop
  texts only behind as many tokens; here ``max_gen_toks`` counts the decoder's tokens, and rows stop where they should;
- it takes on beam search, and an EOS forced at the limit, from a model's generation config; here generation is greedy
  or sampled, as it is asked for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tuneboard.engines.adapted import AdaptedModel
from tuneboard.engines.batches import TOO_LARGE, Batches, guarded
from tuneboard.engines.encoder_decoder import EncoderDecoder
from tuneboard.engines.families import Family
from tuneboard.engines.generation import Prompt
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.protocol import Answer, EngineInfo, Notice, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.seq2seq_scoring import Question, Score, Scorer, Writer
from tuneboard.engines.tokens import Encoder, Tokens, check_room, context_length, distinct_prefixes
from tuneboard.errors import EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef, TokenCount

_FAMILY = Family("transformers-seq2seq", "AutoModelForSeq2SeqLM", "PeftModelForSeq2SeqLM")
#: Tokens of one forward pass. On one core 2048 is 40 % faster than 512 and as fast as 4096 at four choices a context.
_TOKENS = {"cpu": 2048, "cuda": 32768, "mps": 4096}
_ROWS = {"cpu": 32, "cuda": 256, "mps": 64}
_NO_ROLLING = (
    "an encoder-decoder model gives no log-likelihood of a text without a prompt; leave tasks of rolling "
    "log-likelihood out for it"
)


@dataclass(slots=True)
class _Asked:
    """One distinct context with the requests of it, by the tokens of their continuation."""

    context: Tokens
    truncated: bool
    members: dict[bytes, list[Work]] = field(default_factory=dict)
    targets: list[Tokens] = field(default_factory=list)

    def add(self, item: Work, target: Tokens) -> None:
        key = target.tobytes()
        if key not in self.members:
            self.members[key] = []
            self.targets.append(target)
        self.members[key].append(item)

    @property
    def group(self) -> int:
        return min(item.group for items in self.members.values() for item in items)


class Seq2SeqEngine:
    """Answers requests with an encoder-decoder model; see ``protocol.Engine``.

    Args:
        ref: The base model.
        options: Device and what is trusted.
        notice: Told about halved batches.

    Raises:
        ModelError: The model cannot be loaded.
    """

    def __init__(self, ref: ModelRef, options: LoadOptions | None = None, notice: Notice = lambda line: None) -> None:
        options = options or LoadOptions()
        self.adapted = AdaptedModel(ref, options, _FAMILY)
        if lost := self.adapted.missing:
            raise ModelError(
                f"{ref.id} is not a whole encoder-decoder model: weight '{lost[0]}' is missing, and {len(lost) - 1} "
                "more; transformers would make them up at random"
            )
        self.passes = EncoderDecoder(self.adapted)
        self.tokenizer = self.adapted.tokenizer
        self.max_length = options.max_length or context_length(self.adapted.model.config, self.tokenizer)
        check_room(ref.id, self.tokenizer, self.max_length)
        self.encoder = Encoder(self.tokenizer, self.max_length)
        device, kind = self.adapted.device, self.adapted.device.type
        self._new_batches: Callable[[], Batches] = lambda: Batches(
            _TOKENS.get(kind, 2048), _ROWS.get(kind, 32), device, notice
        )
        self.contexts, self.choices, self.texts = (self._new_batches() for _ in range(3))

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        return self.adapted.info({"max_length": self.max_length})

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer."""
        return self.adapted.tokenizer_name

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``; raises ``AdapterError`` if it does not fit."""
        start = np.asarray([self.encoder.prefix_id], dtype=np.int32)
        self.adapted.attach(name, adapter, lambda active: self.passes.begin(active, [start]))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template; raises ``ModelError`` if it has none."""
        return self.adapted.apply_chat_template(chat_history, add_generation_prompt)

    def close(self) -> None:
        """Free the model."""
        self.adapted.close()
        self.passes = None  # type: ignore[assignment]

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``: candidate by candidate, log-likelihoods before generations."""
        by_candidate: defaultdict[str, list[Work]] = defaultdict(list)
        for item in work:
            by_candidate[item.candidate].append(item)
        self.encoder.warm(_context(item) for item in work if item.kind != "loglikelihood_rolling")
        for candidate, items in by_candidate.items():
            texts = [item for item in items if item.kind == "generate_until"]
            scores = [item for item in items if item.kind != "generate_until"]
            yield from guarded(scores, self._score(candidate, scores))
            yield from guarded(texts, self._generate(candidate, texts))
        self.encoder.forget()

    def _score(self, candidate: str, work: Sequence[Work]) -> Iterator[Answer]:
        with self.adapted.active(candidate) as active:
            asked: dict[bytes, _Asked] = {}
            for item in work:
                try:
                    context, target, cut = self._pair(item, self._room(candidate))
                except EngineError as error:
                    yield Answer(item.id, None, str(error))
                    continue
                asked.setdefault(context.tobytes(), _Asked(context, cut)).add(item, target)
            every = list(asked.values())
            scorer = Scorer(self.passes, active, self.contexts, self.choices)
            questions = [Question(one.context, tuple(one.targets)) for one in every]
            for place, scores, padding in scorer.score(questions, [one.group for one in every]):
                yield from _answers(every[place], scores, padding)

    def _pair(self, item: Work, room: int) -> tuple[Tokens, Tokens, bool]:
        """Context, continuation and whether the context was cut."""
        if item.kind != "loglikelihood":
            raise EngineError(_NO_ROLLING)
        context, continuation = item.arguments
        spaces = len(context) - len(context.rstrip())
        continuation = context[len(context) - spaces :] + continuation
        before = self.encoder.encode(_context(item)) if context else np.empty(0, dtype=np.int32)
        if len(before) == 0:
            before = np.asarray([self.encoder.prefix_id], dtype=np.int32)
        try:
            ids = self.tokenizer.encode(continuation, add_special_tokens=False)
        except (TypeError, UnicodeError) as error:
            raise EngineError(f"the tokenizer cannot read {continuation[:40]!r}; expected valid Unicode") from error
        if not context and len(ids) > 1 and ids[0] == self.encoder.prefix_id:
            before, ids = np.asarray(ids[:1], dtype=np.int32), ids[1:]
        if not ids:
            raise EngineError(f"the continuation {continuation[:40]!r} has no token")
        if len(ids) > room:
            raise EngineError(f"the continuation {continuation[:40]!r} has {len(ids)} tokens; the context holds {room}")
        return before[-room:], np.asarray(ids, dtype=np.int32), len(before) > room

    def _room(self, candidate: str) -> int:
        return self.max_length - self.adapted.virtual_tokens(candidate)

    def _generate(self, candidate: str, work: Sequence[Work]) -> Iterator[Answer]:
        room = self._room(candidate)
        book = RuleBook(self.tokenizer, self.adapted.model.generation_config)
        prompts, items, cut = [], [], []
        for item in work:
            try:
                rules = book.rules(item.arguments[1])
                tokens = self.encoder.encode(item.arguments[0])
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            tokens = tokens if len(tokens) else np.asarray([self.encoder.prefix_id], dtype=np.int32)
            prompts.append(Prompt(tokens[-room:], min(rules.max_new_tokens, room), rules, item.seed))
            items.append(item)
            cut.append(len(tokens) > room)
        if not prompts:
            return
        first = {prompt.tokens.tobytes(): place for place, prompt in reversed(list(enumerate(prompts)))}
        with self.adapted.active(candidate) as active:
            writer = Writer(self.passes, active, self.tokenizer, self.texts)
            for place, done in writer.generate(prompts, [item.group for item in items]):
                if done is None:
                    yield Answer(items[place].id, None, TOO_LARGE)
                    continue
                length = len(prompts[place].tokens)
                owns = first[prompts[place].tokens.tobytes()] == place
                count = TokenCount(
                    computed=done.computed,
                    reused=length + max(1, done.new_tokens) - done.computed,
                    distinct=length * owns + max(1, done.new_tokens),
                    truncated=int(cut[place]),
                )
                problem = "the model's scores of the next token are not numbers" if done.text is None else None
                yield Answer(items[place].id, done.text, problem, count)


def _context(item: Work) -> str:
    """The text that goes to the encoder."""
    context = str(item.arguments[0])
    return context.rstrip() if item.kind == "loglikelihood" else context


def _answers(asked: _Asked, scores: tuple[Score | None, ...] | None, padding: int) -> Iterator[Answer]:
    """Answer the requests of one context; its encoder pass and the start token are booked on the first of them."""
    length, first = len(asked.context), True
    nodes = 1 + distinct_prefixes(target[:-1] for target in asked.targets)
    for place, target in enumerate(asked.targets):
        score = None if scores is None else scores[place]
        own = len(target) - 1
        for twin, item in enumerate(asked.members[target.tobytes()]):
            if score is None:
                yield Answer(item.id, None, TOO_LARGE)
                continue
            computed = (length + 1) * first + (0 if twin else own)
            tokens = TokenCount(
                computed=computed,
                reused=length + 1 + own - computed,
                distinct=(length + nodes) * first,
                padded=padding * first,
                truncated=int(asked.truncated),
            )
            first = False
            if math.isnan(score[0]):
                yield Answer(item.id, None, "the model's log-probability is not a number", tokens)
            else:
                yield Answer(item.id, score, tokens=tokens)

"""The engine of models with a classification head: log-likelihood requests whose continuations are label names.

The score of a continuation is the log-softmax of the head at the label of that name; a task of lm-eval's type
``multiple_choice`` whose choices are label names is then answered as by a model that can say nothing else. Choices of
one context share one pass. See ``labels`` for where names come from and which contexts are pairs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tuneboard.engines.adapted import AdaptedModel
from tuneboard.engines.batches import TOO_LARGE, Batches, guarded
from tuneboard.engines.families import Family
from tuneboard.engines.heads import HeadSlot
from tuneboard.engines.kinds import ENCODERS, model_kind
from tuneboard.engines.labels import Labels, adapter_labels, model_labels
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.protocol import BASE, Answer, EngineInfo, Notice, Work
from tuneboard.engines.texts import EncodedText, TextEncoder, positions
from tuneboard.engines.tokens import check_room, context_length
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef, TokenCount

_FAMILY = Family(
    "transformers-classifier",
    "AutoModelForSequenceClassification",
    "PeftModelForSequenceClassification",
    ("classifier", "score", "classification_head", "pre_classifier", "pooler", "pooler.dense", "logits_proj"),
)
#: Tokens of one forward pass. On one core 2048 is 5 to 20 % faster than 512 and than 8192 at texts of 10 to 100 tokens.
_TOKENS = {"cpu": 2048, "cuda": 32768, "mps": 4096}
_ROWS = {"cpu": 32, "cuda": 512, "mps": 64}
_NO_TEXT = "a classification model writes no text and scores none but its labels; leave this task out for it"


@dataclass(slots=True)
class _Asked:
    """The requests that one context answers."""

    members: list[tuple[Work, int]]
    """Each with the place of its label."""

    @property
    def group(self) -> int:
        return min(item.group for item, _ in self.members)


class ClassifierEngine:
    """Answers requests with a classification model; see ``protocol.Engine``.

    The base may be a bare encoder: then only the adapters on it, which bring their heads, answer.

    Args:
        ref: The base model.
        options: Device and what is trusted.
        notice: Told about halved batches.

    Raises:
        ModelError: The model cannot be loaded, or its head does not tell labels apart.
    """

    def __init__(self, ref: ModelRef, options: LoadOptions | None = None, notice: Notice = lambda line: None) -> None:
        options = options or LoadOptions()
        self.adapted = AdaptedModel(ref, options, _FAMILY)
        model, tokenizer = self.adapted.model, self.adapted.tokenizer
        self.head = HeadSlot(model)
        self.labels: dict[str, Labels] = {}
        """Of each candidate that has a head."""
        if not self.adapted.missing:
            _check_exclusive(ref, model.config)
            self.labels[BASE] = model_labels(ref.id, model.config.id2label)
        elif model_kind(model.config.to_dict()) == "classification":
            lost = self.adapted.missing
            raise ModelError(
                f"{ref.id} is not a whole classification model: weight '{lost[0]}' is missing, and {len(lost) - 1} "
                "more; transformers would make them up at random"
            )
        self.encoder = TextEncoder(tokenizer, model)
        own = positions(model, context_length(model.config, tokenizer))
        self.max_length = options.max_length or min(own, tokenizer.model_max_length)
        check_room(ref.id, tokenizer, self.max_length)
        self.batches = _batches(self.adapted, notice)

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        labels = {name: list(own.names) for name, own in self.labels.items()}
        return self.adapted.info({"max_length": self.max_length, "labels": labels})

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer."""
        return self.adapted.tokenizer_name

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter with a head of its own, or for the base's head.

        Raises:
            AdapterError: It does not fit, or is of another type than those attached already.
        """
        count = self.head.labels_in(self.adapted.weights(adapter))
        base = self.labels.get(BASE)
        if count is None and base is not None:
            count = len(base.names)
        if count is None:
            raise AdapterError(f"adapter {adapter.path} brings no classification head, and its base has none either")
        labels = adapter_labels(adapter.path, count, base)
        with self.head.sized(count):
            self.adapted.attach(name, adapter, lambda model: self._forward(model, self._trial_rows()))
        self.labels[name] = labels

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template; raises ``ModelError`` if it has none."""
        return self.adapted.apply_chat_template(chat_history, add_generation_prompt)

    def close(self) -> None:
        """Free the model."""
        self.adapted.close()
        self.head = self.encoder = None  # type: ignore[assignment]

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``, candidate by candidate; each distinct context is computed once."""
        by_candidate: defaultdict[str, list[Work]] = defaultdict(list)
        for item in work:
            by_candidate[item.candidate].append(item)
        for candidate, items in by_candidate.items():
            yield from guarded(items, self._answer(candidate, items))

    def shift(self, name: str, contexts: Sequence[str]) -> float:
        """Return the largest change that an adapter makes to the log-probability of a label; 0 if it is noise.

        It is compared with the base where that has a head for as many labels, else with the adapter's own head on the
        encoder as it is.

        Args:
            name: Of the adapter.
            contexts: What to ask.

        Raises:
            EngineError: The adapter's scores are not numbers.
        """
        base = self.labels.get(BASE)
        comparable = base is not None and len(base.names) == len(self.labels[name].names)
        own, again = (self._scores(name, name, contexts) for _ in range(2))
        other = self._scores(BASE if comparable else name, name, contexts, head_alone=not comparable)
        if not own.isfinite().all():
            raise EngineError(f"adapter '{name}' cannot score a canary prompt: its scores are not numbers")
        noise = float((own - again).abs().max())
        change = float((own - other).abs().max())
        return change if change > max(1e-7, 2 * noise) else 0.0

    def _scores(self, active: str, name: str, contexts: Sequence[str], head_alone: bool = False) -> torch.Tensor:
        rows = self.encoder.encode([self.labels[name].texts(one) for one in contexts], self._room(name))
        with self.adapted.active(active, head_alone) as model:
            return torch.cat([self._forward(model, [row]) for row in rows if row is not None])

    def _answer(self, candidate: str, work: Sequence[Work]) -> Iterator[Answer]:
        labels = self._labels(candidate)
        asked: dict[tuple[str, ...], _Asked] = {}
        for item in work:
            try:
                label = _label(labels, item)
            except EngineError as error:
                yield Answer(item.id, None, str(error))
                continue
            asked.setdefault(labels.texts(item.arguments[0]), _Asked([])).members.append((item, label))
        rows, open_asked = [], []
        encoded = self.encoder.encode(list(asked), self._room(candidate))
        for (text, one), row in zip(asked.items(), encoded, strict=True):
            if row is None:
                reason = f"the tokenizer cannot read {text[0][:40]!r}; expected valid Unicode"
                yield from (Answer(item.id, None, reason) for item, _ in one.members)
            else:
                rows.append(row)
                open_asked.append(one)
        lengths, order = [len(row) for row in rows], [one.group for one in open_asked]
        with self.adapted.active(candidate) as model:
            passes = self.batches.run(lengths, order, lambda part: self._forward(model, [rows[i] for i in part]))
            for batch, made in passes:
                width = max(lengths[place] for place in batch)
                for at, place in enumerate(batch):
                    scores = None if made is None else made[at]
                    yield from _answers(open_asked[place], rows[place], scores, width)

    def _trial_rows(self) -> list[EncodedText]:
        return [row for row in self.encoder.encode([("a",)], self.max_length) if row is not None]

    def _labels(self, candidate: str) -> Labels:
        if candidate in self.labels:
            return self.labels[candidate]
        if candidate == BASE:
            raise EngineError("the base is an encoder without a classification head: it knows no label")
        raise EngineError(f"no adapter named '{candidate}' is attached")

    def _room(self, candidate: str) -> int:
        return self.max_length - self.adapted.virtual_tokens(candidate)

    @torch.inference_mode()
    def _forward(self, model: Any, rows: Sequence[EncodedText]) -> torch.Tensor:
        """Log-probabilities of the labels, shape [rows, labels]."""
        logits = model(**self.encoder.pad(rows, self.adapted.device)).logits
        if logits.ndim != 2:
            raise EngineError(f"the head's scores have shape {tuple(logits.shape)}; expected one row per text")
        return torch.log_softmax(logits.cpu().double(), dim=-1)


def _label(labels: Labels, item: Work) -> int:
    if item.kind != "loglikelihood":
        raise EngineError(_NO_TEXT)
    return labels.index(item.arguments[1])


def _answers(asked: _Asked, row: EncodedText, scores: torch.Tensor | None, width: int) -> Iterator[Answer]:
    length, cut = len(row), int(row.truncated)
    best = int(scores.argmax()) if scores is not None else -1
    for place, (item, label) in enumerate(asked.members):
        if scores is None:
            yield Answer(item.id, None, TOO_LARGE)
            continue
        logprob = float(scores[label])
        first = TokenCount(computed=length, distinct=length, padded=width - length, truncated=cut)
        tokens = TokenCount(reused=length, truncated=cut) if place else first
        if math.isnan(logprob):
            yield Answer(item.id, None, "the model's log-probability is not a number", tokens)
        else:
            yield Answer(item.id, (logprob, label == best), tokens=tokens)


def _batches(adapted: AdaptedModel, notice: Notice) -> Batches:
    """Size batches; a head that reads the last token finds it for certain only where nothing is padded."""
    config, kind = adapted.model.config, adapted.device.type
    ragged = config.model_type in ENCODERS and config.model_type != "xlnet"
    text_config = config.get_text_config()
    if not ragged and getattr(text_config, "pad_token_id", None) is None:
        text_config.pad_token_id = adapted.tokenizer.pad_token_id
    alone = not ragged and getattr(text_config, "pad_token_id", None) is None
    rows = 1 if alone else _ROWS.get(kind, 32)
    return Batches(_TOKENS.get(kind, 2048), rows, adapted.device, notice, ragged)


def _check_exclusive(ref: ModelRef, config: Any) -> None:
    kind = config.problem_type
    if config.num_labels < 2 or kind not in (None, "single_label_classification"):
        raise ModelError(
            f"the head of {ref.id} does not choose one of several labels ({kind or 'one output'}); expected a head for "
            "two or more, of which one is right"
        )

"""Examples to token ids and labels, so that training reads exactly what evaluation will read.

- The tokenizer itself adds BOS (or CLS and SEP); a text that starts with BOS gets no second one; EOS ends each example.
- Prompt and answer are encoded in one piece, and the answer's tokens are those beyond the length of the prompt's own
  encoding without the white space at its end: lm-eval's rule for log-likelihoods (``engines/tokens.py``).
- By default only the answer is learnt; ``NOT_TRAINED`` marks all other labels.
- What is longer than ``max_length``: of prompt and answer the *beginning of the prompt* goes, since evaluation cuts
  there too; of a chat the end; a plain text is cut into pieces, none of which is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tuneboard.errors import DataError
from tuneboard.tuning.chats import ChatEncoder
from tuneboard.tuning.records import Example, ModelKind

#: Label of a token that adds nothing to the loss; torch's own.
NOT_TRAINED = -100
#: Texts per call of the tokenizer.
_CHUNK = 1024

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodingRules:
    """What becomes of an example."""

    kind: ModelKind
    max_length: int
    """Tokens of one example, 2 or more; of input and answer each for seq2seq."""
    loss_on: Literal["answer", "all"] = "answer"
    overlong: Literal["truncate", "drop"] = "truncate"
    labels: tuple[str, ...] = ()
    """Names of the classes, for classification."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example in tokens.

    Attributes:
        ids: What the model reads, shape [n].
        labels: Causal: the token itself where it is learnt, else ``NOT_TRAINED``, shape [n]; seq2seq: the answer, shape
            [m]; classification: the class, shape [1].
        types: Which of two texts a token is of, shape [n]; None where the model does not ask.
    """

    ids: Ids
    labels: Ids
    types: Ids | None = None

    @property
    def trained(self) -> int:
        """How many labels add to the loss."""
        return int((self.labels != NOT_TRAINED).sum())


@dataclass(frozen=True, slots=True)
class EncodingReport:
    """What happened to the examples."""

    examples: int = 0
    kept: int = 0
    """Sequences that came out: a long text makes several."""
    truncated: int = 0
    split: int = 0
    dropped: int = 0
    """Too long, or without a token to learn."""
    tokens: int = 0
    lost_tokens: int = 0
    """Cut off or dropped."""
    merged: int = 0
    """Prompts whose last token merges with the answer's first; evaluation asks them in other tokens."""


def encode(examples: Sequence[Example], tokenizer: Any, rules: EncodingRules) -> tuple[list[Encoded], EncodingReport]:
    """Encode examples in order.

    Args:
        examples: As prepared for the kind of model.
        tokenizer: A transformers tokenizer.
        rules: What to learn, and how long.

    Raises:
        DataError: An example cannot be learnt by this kind of model; a label is unknown.
        UsageError: A chat, and the model has no chat template, or one that hides what the assistant says.
    """
    counts: Counter[str] = Counter()
    makers: dict[ModelKind, Callable[..., Iterator[Encoded]]] = {
        "causal": _causal,
        "seq2seq": _seq2seq,
        "classification": _labelled,
    }
    made = list(makers[rules.kind](examples, tokenizer, rules, counts))
    kept = [one for one in made if one.trained]
    counts["dropped"] += len(made) - len(kept)
    tokens = sum(len(one.ids) for one in kept)
    return kept, EncodingReport(len(examples), len(kept), tokens=tokens, **counts)


def text_ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Return the token ids of texts, each with one BOS at most."""
    bos = tokenizer.bos_token
    out: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        has_bos = [bool(bos) and text.startswith(bos) for text in chunk]
        rows = tokenizer(chunk, **options)["input_ids"]
        for text, own, row in zip(chunk, has_bos, rows, strict=True):
            out.append(tokenizer(text, add_special_tokens=False, **options)["input_ids"] if own else row)
    return out


def _causal(
    examples: Sequence[Example], tokenizer: Any, rules: EncodingRules, counts: Counter[str]
) -> Iterator[Encoded]:
    chats = ChatEncoder(tokenizer) if any(example.messages for example in examples) else None
    eos = tokenizer.eos_token_id
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        wholes = iter(text_ids(tokenizer, [one.text + one.answer for one in chunk if not one.messages]))
        prompts = iter(text_ids(tokenizer, [one.text for one in chunk if _is_asked(one)]))
        bares = iter(text_ids(tokenizer, [one.text.rstrip() for one in chunk if _is_asked(one)]))
        for example in chunk:
            if chats and example.messages:
                ids, learnt = chats.encode(example, rules.loss_on)
                yield from _fitted(ids, learnt, "end", rules, counts)
                continue
            ids = _without(next(wholes), eos)
            asked = _is_asked(example)
            if asked:
                prompt, bare = _without(next(prompts), eos), _without(next(bares), eos)
                counts["merged"] += ids[: len(prompt)] != prompt
                begin = 0 if rules.loss_on == "all" else min(len(bare), len(ids))
            else:
                begin = 0
            ids = [*ids, eos] if eos is not None else ids
            learnt = [False] * begin + [True] * (len(ids) - begin)
            yield from _fitted(ids, learnt, "prompt" if asked else "pieces", rules, counts)


def _is_asked(example: Example) -> bool:
    """Say whether a text is a prompt, also one that is answered with nothing: that is not what is learnt."""
    return not example.messages and (bool(example.answer) or example.format != "text")


def _without(ids: list[int], eos: int | None) -> list[int]:
    """Take off the EOS that some tokenizers add, so that it never stands within an example."""
    return ids[:-1] if ids and ids[-1] == eos else ids


def _fitted(
    ids: Sequence[int],
    learnt: Sequence[bool],
    where: Literal["prompt", "end", "pieces"],
    rules: EncodingRules,
    counts: Counter[str],
) -> Iterator[Encoded]:
    size, length = rules.max_length, len(ids)
    tokens, mask = np.asarray(ids, dtype=np.int32), np.asarray(learnt, dtype=np.bool_)
    if length <= size:
        yield _masked(tokens, mask)
        return
    if where == "pieces":
        counts["split"] += 1
        for start in range(0, length - 1, size - 1):  # the last token of a piece predicts the first of the next
            yield _masked(tokens[start : start + size], mask[start : start + size])
        return
    if rules.overlong == "drop":
        counts["dropped"] += 1
        counts["lost_tokens"] += length
        return
    counts["truncated"] += 1
    counts["lost_tokens"] += length - size
    keep = _kept_places(mask, size) if where == "prompt" else np.arange(size)
    yield _masked(tokens[keep], mask[keep])


def _kept_places(learnt: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.int64]:
    """Keep the end of the prompt, and as much of the answer as leaves the prompt a quarter."""
    begin = int(learnt.argmax()) if learnt.any() else len(learnt)
    answer = min(len(learnt) - begin, size - min(begin, size // 4))
    return np.arange(begin + answer - size, begin + answer)


def _masked(ids: Ids, learnt: npt.NDArray[np.bool_]) -> Encoded:
    labels = np.where(learnt, ids, NOT_TRAINED).astype(np.int32)
    labels[:1] = NOT_TRAINED  # nothing stands before the first token that could predict it
    return Encoded(ids, labels)


def _seq2seq(
    examples: Sequence[Example], tokenizer: Any, rules: EncodingRules, counts: Counter[str]
) -> Iterator[Encoded]:
    for example in examples:
        if not example.answer:
            raise DataError(f"{example.place or 'a row'} has no answer; a seq2seq model learns prompt + completion")
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        inputs = tokenizer([example.text for example in chunk])["input_ids"]
        answers = tokenizer(text_target=[example.answer.strip() for example in chunk])["input_ids"]
        for source, target in zip(inputs, answers, strict=True):
            over = sum(max(0, len(ids) - rules.max_length) for ids in (source, target))
            counts["lost_tokens"] += over
            if over and rules.overlong == "drop":
                counts["dropped"] += 1
                continue
            counts["truncated"] += over > 0
            pair = [_cut_inside(ids, rules.max_length) for ids in (source, target)]
            yield Encoded(*(np.asarray(ids, dtype=np.int32) for ids in pair))


def _cut_inside(ids: list[int], size: int) -> list[int]:
    """Cut before the last token, which ends the sequence."""
    return ids if len(ids) <= size else [*ids[: size - 1], ids[-1]]


def _labelled(
    examples: Sequence[Example], tokenizer: Any, rules: EncodingRules, counts: Counter[str]
) -> Iterator[Encoded]:
    number = {name: index for index, name in enumerate(rules.labels)}
    for example in examples:
        if example.answer not in number:
            raise DataError(
                f"{example.place or 'a row'} has the label '{example.answer}', which no training row has; "
                f"labels: {', '.join(rules.labels)}"
            )
        pair = [example.text] if example.text_pair is None else [example.text, example.text_pair]
        over = len(tokenizer(*pair)["input_ids"]) - rules.max_length
        if over > 0:
            counts["lost_tokens"] += over
            if rules.overlong == "drop":
                counts["dropped"] += 1
                continue
            counts["truncated"] += 1
        row = tokenizer(*pair, truncation=True, max_length=rules.max_length)
        types = row.get("token_type_ids") if example.text_pair is not None else None
        label = np.asarray([number[example.answer]], dtype=np.int32)
        yield Encoded(
            np.asarray(row["input_ids"], dtype=np.int32),
            label,
            None if types is None else np.asarray(types, dtype=np.int32),
        )

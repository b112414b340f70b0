"""Texts of many candidates from one vLLM: each request with its own rules, cut as the other engines cut them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneboard.engines.accounting import distinct_shares
from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.sampling import RuleBook, Rules
from tuneboard.engines.tokens import Encoder, Tokens, sort_key
from tuneboard.errors import EngineError
from tuneboard.records import TokenCount

#: Settings that vLLM has under the same names.
_SAME = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One text to generate.

    Attributes:
        item: What was asked.
        tokens: The prompt.
        rules: How to choose tokens and when to stop.
        room: Most new tokens.
        truncated: Whether the prompt was cut.
    """

    item: Work
    tokens: Tokens
    rules: Rules
    room: int
    truncated: bool


def settings(request: TextRequest) -> dict[str, Any]:
    """Return the arguments of vLLM's ``SamplingParams`` for one text.

    Raises:
        EngineError: A setting that vLLM does not have.
    """
    rules = request.rules
    if odd := [name for name in rules.values if name not in _SAME]:
        raise EngineError(f"vLLM has no {odd[0]}; leave it out, or give --engine transformers")
    chosen = {"temperature": 1.0 if rules.do_sample else 0.0} | dict(rules.values)
    return chosen | {
        "max_tokens": request.room,
        "seed": request.item.seed if rules.do_sample else None,
        "stop": [term for term in rules.stop if term] or None,
        "stop_token_ids": sorted(rules.end_ids),
        # Stop texts may be special tokens; the text itself is decoded from its tokens in the end.
        "skip_special_tokens": False,
    }


def requests(
    work: Sequence[Work], shifts: Mapping[str, int], encoder: Encoder, book: RuleBook, fail: Callable[[Answer], None]
) -> list[TextRequest]:
    """Encode all works, in the order that finds most prefixes in the cache.

    Args:
        work: Generation requests.
        shifts: Number of each candidate's shift; those of one shift are asked together.
        encoder: Of the model.
        book: Reads the settings.
        fail: Called with the answer to a request that cannot be asked.
    """
    out = []
    for item in work:
        try:
            rules = book.rules(item.arguments[1])
            tokens, room, truncated = encoder.prompt(item.arguments[0], rules.max_new_tokens)
            request = TextRequest(item, tokens, rules, room, truncated)
            settings(request)
        except EngineError as error:
            fail(Answer(item.id, None, str(error)))
            continue
        out.append(request)
    return sorted(out, key=lambda one: (shifts[one.item.candidate], one.item.group, sort_key(one.tokens)))


def distinct_tokens(texts: Sequence[TextRequest]) -> list[int]:
    """Count the distinct prompt tokens of each candidate's requests, booked on the first request that has them."""
    out = [0] * len(texts)
    for candidate in dict.fromkeys(one.item.candidate for one in texts):
        places = [place for place, one in enumerate(texts) if one.item.candidate == candidate]
        for place, share in zip(places, distinct_shares([texts[place].tokens for place in places]), strict=True):
            out[place] = share
    return out


def answers(texts: Sequence[TextRequest], outputs: Iterator[tuple[int, Any]], tokenizer: Any) -> Iterator[Answer]:
    """Turn vLLM's outputs into answers.

    Args:
        texts: What was asked.
        outputs: Place in ``texts`` with vLLM's ``RequestOutput``, or with the reason why it was refused.
        tokenizer: Decodes.
    """
    distinct = distinct_tokens(texts)
    for place, output in outputs:
        one = texts[place]
        if isinstance(output, str):
            yield Answer(one.item.id, None, output)
            continue
        new = list(output.outputs[0].token_ids)
        # The last token is chosen, never fed.
        computed = len(one.tokens) - (output.num_cached_tokens or 0) + max(0, len(new) - 1)
        count = TokenCount(
            computed=computed,
            reused=len(one.tokens) + len(new) - computed,
            distinct=distinct[place] + len(new),
            truncated=int(one.truncated),
        )
        yield Answer(one.item.id, one.rules.finish(tokenizer.decode(new, skip_special_tokens=True)), tokens=count)

"""Keeps packed documents apart: none attends to another, and each begins at position 0.

Two ways, both from ``position_ids`` that start anew with each document:

- *By mask*: transformers tells packed rows by their positions and masks documents from each other, provided that there
  is no attention mask and no cache (``use_cache=False``).
- *By document*: all documents in one row, and each is attended to by a call of its own. Nothing is masked, nothing is
  padded, and no product between documents is computed only to be thrown away. For causal models on the CPU.

Whether a model really does so is asked of the model itself before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tuneboard.tuning.precision import multiplied_in_bfloat16

#: Name under which models find attention by document.
BY_DOCUMENT = "tuneboard_by_document"
#: Arguments that change the product itself.
_SPECIAL = ("softcap", "s_aux", "position_bias")
#: Tokens of a document up to which all its scores are kept at once: they take less room than its other activations.
_LONGEST_PRODUCT = 512
#: Differences that rounding makes, relative to the largest logit.
_ROUNDING = 1e-3


class _NotSplit(Exception):
    """This attention cannot be computed document by document."""


def keeps_apart(model: Any, row: int) -> bool:
    """Say whether packed documents are masked from each other by this model.

    It is asked twice with one of two packed documents changed, and once with the other one alone: transformers 5.19
    masks most architectures by their positions, but not OPT, GPT-OSS, those with ALiBi or with a recurrent state.

    Args:
        model: A causal LM, which may carry adapters.
        row: Tokens of a row.
    """
    text_config = getattr(model.config, "text_config", None) or model.config
    if (getattr(text_config, "attention_chunk_size", None) or row) < row:
        return False  # chunks are counted from the beginning of the row, not of the document
    with _asked(model) as (first, second, other):
        try:
            packed = _logits(model, [first, second])
            changed = _logits(model, [other, second])
            alone = _logits(model, [second])
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            return False
    size = len(second)
    return _close(packed[-size:], changed[-size:]) and _close(packed[-size:], alone)


@contextmanager
def by_document(model: Any, longest: int) -> Iterator[bool]:
    """Within it the model attends document by document, if it can; gives whether it does.

    Args:
        model: A causal LM, which may carry adapters.
        longest: Tokens of the longest document that will come.
    """
    before = getattr(model.config, "_attn_implementation", None)
    device = next(model.parameters()).device
    windows = _windows(model.config)
    if before != "sdpa" or device.type != "cpu" or any(window < longest for window in windows):
        yield False
        return
    ALL_ATTENTION_FUNCTIONS.register(BY_DOCUMENT, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(BY_DOCUMENT, _no_mask)
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    with _asked(model) as (first, second, _):
        try:
            expected = torch.cat([_logits(model, [first]), _logits(model, [second])])
            owner.set_attn_implementation(BY_DOCUMENT)
            works = _close(_logits(model, [first, second], lengths=True), expected)
        except (_NotSplit, RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            works = False
    try:
        if not works:
            owner.set_attn_implementation(before)
        yield works
    finally:
        owner.set_attn_implementation(before)


def document_bounds(lengths: list[int]) -> dict[str, Any]:
    """Return the arguments that tell attention by document where documents end: transformers' own names."""
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    ends = options.get("cu_seq_lens_q")
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if ends is None or not causal or any(options.get(name) is not None for name in _SPECIAL):
        raise _NotSplit
    lengths = ends.diff().tolist()
    if not query.shape[2] == key.shape[2] == sum(lengths):
        raise _NotSplit
    groups = getattr(module, "num_key_value_groups", 1)
    wholes = (query, repeat_kv(key, groups), repeat_kv(value, groups))
    attend = partial(F.scaled_dot_product_attention, dropout_p=dropout, scale=scaling, is_causal=True)
    if not dropout and max(lengths) <= _LONGEST_PRODUCT and multiplied_in_bfloat16(query):
        attend = partial(_product, scale=query.shape[-1] ** -0.5 if scaling is None else scaling)
    if len(set(lengths)) == 1:  # one product over all of them
        batch = (whole.unflatten(2, (len(lengths), -1))[0].transpose(0, 1) for whole in wholes)
        return attend(*batch).transpose(1, 2).flatten(0, 1)[None], None
    # ``split`` hands gradients back in one piece; slices would each fill a tensor as long as the whole row.
    outs = [attend(*one) for one in zip(*(whole.split(lengths, dim=2) for whole in wholes), strict=True)]
    return torch.cat([out.transpose(1, 2) for out in outs], dim=1), None


def _product(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attend causally with all scores at once.

    torch 2.13's kernel for bfloat16 on CPUs takes up to five times as long to go back through a document of 60 tokens,
    twice as long at 500.
    """
    heads, size = query.shape[1:3]
    query, key, value = (whole.flatten(0, 1).bfloat16() for whole in (query, key, value))
    mask = torch.full((size, size), -torch.inf, dtype=torch.bfloat16).triu(1)
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale)
    out: torch.Tensor = torch.bmm(scores.softmax(-1), value)
    return out.view(-1, heads, size, out.shape[-1])


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Each document is attended to causally, by itself."""


def _windows(config: Any) -> list[int]:
    text_config = getattr(config, "text_config", None) or config
    names = ("sliding_window", "attention_chunk_size", "window_size", "attention_window", "local_window_size")
    values = [getattr(text_config, name, None) for name in names]
    return [value for value in values if isinstance(value, int)]


@contextmanager
def _asked(model: Any) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Three documents of tokens drawn by a fixed seed, while the model is in evaluation mode."""
    draws = torch.Generator().manual_seed(0)
    size = model.get_input_embeddings().weight.shape[0]
    first, second, other = (torch.randint(size, (n,), generator=draws).tolist() for n in (7, 9, 7))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield first, second, other
    finally:
        model.train(training)


def _logits(model: Any, documents: list[list[int]], lengths: bool = False) -> torch.Tensor:
    device = next(model.parameters()).device
    tokens = torch.tensor([[token for document in documents for token in document]], device=device)
    positions = torch.tensor([[place for document in documents for place in range(len(document))]], device=device)
    bounds = document_bounds([len(document) for document in documents]) if lengths else {}
    logits: torch.Tensor = model(input_ids=tokens, position_ids=positions, use_cache=False, **bounds).logits[0]
    return logits.float()


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= _ROUNDING * b.abs().max().clamp_min(1e-6))

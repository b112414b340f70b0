"""Losses as sums over what is learnt, so that batches of any size weigh every token alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F

from tuneboard.tuning.encoding import NOT_TRAINED
from tuneboard.tuning.records import ModelKind

#: ``loss(model, batch)``: the sum of the losses of all labels of a batch, a scalar with gradients.
SummedLoss = Callable[[Any, Mapping[str, Any]], torch.Tensor]


@contextmanager
def summed_loss(model: Any, kind: ModelKind) -> Iterator[SummedLoss]:
    """Within it the returned function gives the loss of batches as ``batching.collator`` makes them."""
    if kind != "causal":
        yield _own_loss
        return
    loss = _CausalLoss()
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = owner.get_output_embeddings()
    handle = head.register_forward_pre_hook(loss.keep_wanted) if head is not None else None
    try:
        yield loss
    finally:
        if handle is not None:
            handle.remove()


def count_labels(batch: Mapping[str, Any]) -> int:
    """Count what a batch's loss sums over."""
    return int((batch["labels"] != NOT_TRAINED).sum())


def _own_loss(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The model's own cross-entropy, which is a mean over the batch's labels."""
    options = {"use_cache": False} if getattr(model.config, "is_encoder_decoder", False) else {}
    mean: torch.Tensor = model(**_inputs(batch), labels=batch["labels"], **options).loss
    return mean * count_labels(batch)


class _CausalLoss:
    """Cross-entropy of the next token, with logits for learnt positions only.

    Where only answers are learnt most positions need none, and the LM head with its softmax is a seventh of the work of
    a small model, and the largest tensor of any.
    """

    def __init__(self) -> None:
        self._wanted: torch.Tensor | None = None
        self._shape = torch.Size()

    def keep_wanted(self, head: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Pass only the wanted positions, [1, wanted, hidden], on to the LM head."""
        if self._wanted is None or not arguments:
            return None
        hidden = arguments[0]
        rows, width = self._shape
        if hidden.ndim != 3 or hidden.shape[0] != rows or hidden.shape[1] < width:
            return None
        # Virtual tokens stand in front and predict nothing.
        flat = hidden[:, -width:].reshape(rows * width, -1)
        return (flat[self._wanted][None], *arguments[1:])

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        labels = batch["labels"]
        self._shape = labels.shape
        self._wanted = (labels.reshape(-1) != NOT_TRAINED).nonzero().squeeze(-1)
        try:
            logits = model(**_inputs(batch), use_cache=False).logits
        finally:
            wanted, self._wanted = self._wanted, None
        targets = labels.reshape(-1)[wanted]
        if logits.shape[:2] != (1, len(targets)):  # a head that the hook did not reach
            logits = logits[:, -labels.shape[1] :].reshape(-1, logits.shape[-1])[wanted][None]
        return F.cross_entropy(logits[0].float(), targets, reduction="sum")


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in ("labels", "tokens")}

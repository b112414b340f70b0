"""What methods of virtual tokens share: checks that a model can take them."""

from __future__ import annotations

from typing import Any

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._adapting import adapt, first_line
from tuneboard.tuning.records import ModelKind


def adapt_virtually(model: Any, config: Any, method: str, kind: ModelKind) -> Any:
    """Return the base with new virtual tokens before every text, after one trial pass.

    Args:
        model: The base; it is changed.
        config: A ``PromptLearningConfig``.
        method: Named in the error.
        kind: What the model is trained for.

    Raises:
        UsageError: The base cannot take them: it keeps no keys and values, or of other shapes, or reads no embeddings.
    """
    room = getattr(model.config, "max_position_embeddings", None)
    if isinstance(room, int) and config.num_virtual_tokens >= room:
        raise UsageError(
            f"virtual_tokens: {config.num_virtual_tokens} leave no room for text in the {room} tokens that "
            f"{type(model).__name__} reads; expected less, 20 is usual"
        )
    adapted = adapt(model, config, method)
    try:
        _try_out(adapted, kind)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError) as error:
        raise UsageError(
            f"method {method} does not fit {type(model).__name__} ({first_line(error)}); use method: lora"
        ) from error
    return adapted


def _try_out(adapted: Any, kind: ModelKind) -> None:
    import torch

    device = next(adapted.parameters()).device
    if device.type == "meta":  # a model without weights, made to count them
        return
    tokens = torch.zeros(1, 2, dtype=torch.long, device=device)
    answer = {"labels": tokens} if kind == "seq2seq" else {}
    with torch.no_grad():
        adapted(input_ids=tokens, attention_mask=torch.ones_like(tokens), **answer)

"""Counts parameters as they are before quantization."""

from __future__ import annotations

import math
from typing import Any


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return the numbers of trained and of all parameters of a model that a method prepared.

    Tied weights count once, 4-bit weights unpacked; the frozen twin that peft keeps of a trained head is left out,
    since no answer comes from it.

    Args:
        model: Any torch module, with or without an adapter.
    """
    trained = total = 0
    for name, weight in model.named_parameters():
        if ".original_module." in name:
            continue
        count = _size(weight)
        total += count
        trained += count if weight.requires_grad else 0
    return trained, total


def _size(weight: Any) -> int:
    """Count a weight; two of 4 bit share a byte, and bytes a wider type if bitsandbytes is asked to."""
    if type(weight).__name__ != "Params4bit":
        return int(weight.numel())
    state = getattr(weight, "quant_state", None)
    if state is not None:
        return math.prod(state.shape)
    return int(weight.numel()) * (2 * weight.element_size() if getattr(weight, "bnb_quantized", False) else 1)

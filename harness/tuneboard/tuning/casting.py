"""Conversions to bfloat16 that autocast would repeat, made once.

Autocast converts the weights of every linear layer in every forward pass, and the input of each anew, though queries,
keys and values read the same one; peft first converts inputs back to the float32 of an adapter's weights. On a CPU
that is a quarter of a step of a small model. Products, and so the answers, stay the same to the bit; gradients of an
input that several layers read are added up in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from tuneboard.tuning.precision import Precision, multiplied_in_bfloat16


@contextmanager
def converted_once(model: Any, precision: Precision) -> Iterator[None]:
    """Within it frozen linear layers hold bfloat16 weights, and inputs are converted once for all who read them.

    Afterwards all weights are the very ones of before. Nothing happens in float32.
    """
    if precision != "bfloat16":
        yield
        return
    with ExitStack() as stack:
        _convert_weights(model, stack)
        _share_inputs(model, stack)
        yield


def _convert_weights(model: Any, stack: ExitStack) -> None:
    linear = [module for module in model.modules() if _is_plain(module)]
    convertible = {id(weight) for module in linear for weight in module.parameters(recurse=False)}
    for module in model.modules():
        if not _is_plain(module):  # tied to an embedding
            convertible -= {id(weight) for weight in module.parameters(recurse=False)}
        if getattr(module, "lora_variant", None):  # DoRA takes norms of the weights that it stands on
            convertible -= {id(weight) for weight in module.get_base_layer().parameters(recurse=False)}
    for module in linear:
        for weight in module.parameters(recurse=False):
            if id(weight) in convertible and not weight.requires_grad and weight.dtype == torch.float32:
                stack.callback(setattr, weight, "data", weight.data)
                weight.data = weight.data.bfloat16()


def _share_inputs(model: Any, stack: ExitStack) -> None:
    shared = _SharedInput()
    for module in model.modules():
        if _is_plain(module):
            stack.callback(module.register_forward_pre_hook(shared.convert).remove)
        elif _is_plain_lora(module):
            stack.callback(module.register_forward_pre_hook(shared.convert).remove)
            stack.callback(setattr, module, "cast_input_dtype_enabled", module.cast_input_dtype_enabled)
            module.cast_input_dtype_enabled = False
    stack.callback(model.register_forward_hook(shared.forget).remove)


def _is_plain(module: Any) -> bool:
    return type(module) is torch.nn.Linear


def _is_plain_lora(module: Any) -> bool:
    """Whether a module does nothing with its input but pass it to a plain linear layer and to one beside it."""
    known = hasattr(module, "lora_A") and hasattr(module, "cast_input_dtype_enabled")
    return known and not module.lora_variant and _is_plain(module.get_base_layer())


class _SharedInput:
    """Remembers the last tensor that was converted."""

    def __init__(self) -> None:
        #: What was given, its version then, and what became of it.
        self._last: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def convert(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Pass a float32 input on in bfloat16, converted already if it is the last one, unchanged since."""
        given = arguments[0] if arguments else None
        if not isinstance(given, torch.Tensor) or given.dtype != torch.float32 or not multiplied_in_bfloat16(given):
            return None
        if self._last is None or given is not self._last[0] or given._version != self._last[1]:
            self._last = (given, given._version, given.bfloat16())
        return (self._last[2], *arguments[1:])

    def forget(self, *_: Any) -> None:
        """Let go of it; called at the end of each forward pass."""
        self._last = None

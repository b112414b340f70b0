"""A leaner forward pass for plain LoRA layers.

peft computes ``base(x) + B(A(x)) * scaling`` with two small products, a scaling and a sum per layer: a seventh of the
time of a 29 M-parameter model on a CPU. Here the low-rank product is accumulated into the base's output in one pass
(``addmm`` with ``alpha``): half of that, bit for bit the same in float32. Whatever is not plain LoRA in one data type
goes peft's way.

Merging the adapter into the weights while it is active would save the other half, but moved log-probabilities three
times further from lm-eval's than anything else here does, up to 1e-3 with a strong adapter in float32.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional as F


def speed_up(model: Any) -> None:
    """Give every plain LoRA layer of a peft model the lean forward pass."""
    from peft.tuners.lora.layer import Linear

    for module in model.modules():
        if type(module) is Linear and type(module.get_base_layer()) is torch.nn.Linear:
            module.forward = MethodType(_forward, module)


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or args or kwargs:
        return _peft_forward(layer, x, *args, **kwargs)
    name, base = names[0], layer.get_base_layer()
    if name not in layer.lora_A:
        return F.linear(x, base.weight, base.bias)
    down, up = layer.lora_A[name], layer.lora_B[name]
    plain = name not in layer.lora_variant and up.bias is None
    if not plain or not x.dtype == base.weight.dtype == down.weight.dtype:
        return _peft_forward(layer, x)
    out = F.linear(x, base.weight, base.bias)
    low = F.linear(x, down.weight)
    out.view(-1, out.shape[-1]).addmm_(low.view(-1, low.shape[-1]), up.weight.t(), alpha=float(layer.scaling[name]))
    return out


def _peft_forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    out: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
    return out

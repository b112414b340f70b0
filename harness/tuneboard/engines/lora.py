"""Leaner forward passes for plain LoRA layers.

peft computes ``base(x) + B(A(x)) * scaling`` with two small products, a scaling and a sum per layer: a seventh of the
time of a 29 M-parameter model on a CPU, and more while it generates. Two ways around it, both only for plain LoRA in
one data type; everything else goes peft's way:

- the low-rank product is accumulated into the base's output in one pass (``addmm`` with ``alpha``): half the overhead,
  bit for bit the same;
- in float32 on a CPU with memory to spare, the sum ``W + scaling * B A`` stands in for the weights while the adapter is
  active: no overhead, and the same up to rounding. The base's own weights stay untouched beside it. In 16 bits the sum
  would round the adapter away, so it is never taken there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch.nn import functional as F

#: Share of the free memory that merged weights may take.
_MEMORY_SHARE = 0.25
_MERGED = "_tuneboard_merged"


def speed_up(model: Any) -> None:
    """Give every plain LoRA layer of a peft model the lean forward pass."""
    for layer in _layers(model):
        layer.forward = MethodType(_forward, layer)


@contextmanager
def merged(model: Any, name: str) -> Iterator[None]:
    """Within it, an adapter's plain LoRA layers compute with merged weights, where that is exact and fits.

    Args:
        model: A peft model whose active adapter is ``name``.
        name: The adapter's name in it.
    """
    layers = [layer for layer in _layers(model) if name in layer.lora_A]
    weights = [layer.get_base_layer().weight for layer in layers]
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    exact = all(_plain(layer, name) for layer in layers) and all(
        weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights
    )
    if not exact or size > _MEMORY_SHARE * _free_bytes():
        yield
        return
    originals = [weight.data for weight in weights]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                up, down = layer.lora_B[name].weight, layer.lora_A[name].weight
                weight.data = torch.addmm(weight.data, up, down, alpha=float(layer.scaling[name]))
                setattr(layer, _MERGED, name)
        yield
    finally:
        for layer, weight, original in zip(layers, weights, originals, strict=True):
            weight.data = original
            setattr(layer, _MERGED, None)


def _layers(model: Any) -> list[Any]:
    from peft.tuners.lora.layer import Linear

    return [
        module
        for module in model.modules()
        if type(module) is Linear and type(module.get_base_layer()) is torch.nn.Linear
    ]


def _plain(layer: Any, name: str) -> bool:
    down, up = layer.lora_A[name], layer.lora_B[name]
    one_type = layer.get_base_layer().weight.dtype == down.weight.dtype == up.weight.dtype
    return name not in layer.lora_variant and up.bias is None and one_type


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or args or kwargs:
        return _peft_forward(layer, x, *args, **kwargs)
    name, base = names[0], layer.get_base_layer()
    if name not in layer.lora_A or getattr(layer, _MERGED, None) == name:
        return F.linear(x, base.weight, base.bias)
    if not _plain(layer, name) or x.dtype != base.weight.dtype:
        return _peft_forward(layer, x)
    out = F.linear(x, base.weight, base.bias)
    low = F.linear(x, layer.lora_A[name].weight)
    up = layer.lora_B[name].weight.t()
    out.view(-1, out.shape[-1]).addmm_(low.view(-1, low.shape[-1]), up, alpha=float(layer.scaling[name]))
    return out


def _peft_forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    out: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
    return out


def _free_bytes() -> int:
    names = os.sysconf_names if hasattr(os, "sysconf") else {}
    if "SC_AVPHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

"""In which precision a model is trained, and with which optimizer, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch

from tuneboard.errors import MissingExtra
from tuneboard.tuning.records import TrainingSpec

Precision = Literal["float32", "bfloat16"]

#: Below it, conversions cost a CPU more than faster products save.
_FEWEST_FOR_BFLOAT16 = 1_000_000
#: What transformers calls the optimizers that recipes name.
_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 faster than float32.

    A CPU without AVX512-BF16 is ten times slower with it, one that has it twice as fast.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def multiplied_in_bfloat16(tensor: torch.Tensor) -> bool:
    """Say whether a product with this tensor, here and now, is one of bfloat16: by autocast, or by its own type."""
    device = tensor.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) == torch.bfloat16
    return tensor.dtype == torch.bfloat16


def choose_precision(spec: TrainingSpec, device: torch.device, parameters: int) -> Precision:
    """Return the precision of a training: the recipe's, or the one that is faster here."""
    if spec.precision != "auto":
        return spec.precision
    large = device.type != "cpu" or parameters >= _FEWEST_FOR_BFLOAT16
    return "bfloat16" if large and has_fast_bfloat16(device) else "float32"


def choose_optimizer(asked: str, usual: str, device: torch.device) -> tuple[str, str | None]:
    """Return transformers' name of the optimizer, and what to say where it is not the one asked for.

    Args:
        asked: The recipe's: ``auto``, ``adamw``, ``adamw_8bit`` or ``paged_adamw_8bit``.
        usual: The method's own, for ``auto``.
        device: Where the model is trained.

    Raises:
        MissingExtra: An 8-bit one is asked for, and bitsandbytes is not installed.
    """
    name = usual if asked == "auto" else asked
    if name != "adamw" and find_spec("bitsandbytes") is None:
        if asked != "auto":
            raise MissingExtra("bitsandbytes", "transformers")
        return _OPTIMIZERS["adamw"], f"bitsandbytes is not installed: adamw in place of {name}"
    if name == "paged_adamw_8bit" and device.type != "cuda":
        return _OPTIMIZERS["adamw_8bit"], "paging needs a GPU: adamw_8bit in place of paged_adamw_8bit"
    return _OPTIMIZERS[name], None


@contextmanager
def trained_in(model: Any, precision: Precision) -> Iterator[None]:
    """Within it, trained weights are float32, and in float32 training all others too; afterwards all are as before.

    A step of a usual learning rate is lost in bfloat16's eight bits. Under autocast frozen weights keep their type.
    """
    before = {}
    for name, weight in model.named_parameters():
        wanted = weight.requires_grad or precision == "float32"
        if wanted and weight.is_floating_point() and weight.dtype != torch.float32 and not _is_quantized(weight):
            before[name] = weight.dtype
            weight.data = weight.data.float()
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            if name in before:
                weight.data = weight.data.to(before[name])


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Within it a GPU adds up in the same order each time; a CPU does so anyway."""
    if device.type != "cuda":
        yield
        return
    import os

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _is_quantized(weight: Any) -> bool:
    return type(weight).__name__ in ("Params4bit", "Int8Params")

"""LoRA in vLLM on CPUs, adapter by adapter instead of token by token.

vLLM's operations for CPUs fetch an adapter's weights once for every token (``weights[indices]``) and multiply each
token by its own copy: tokens x rank x width numbers at every layer, several times the work of the model itself. A batch
has few adapters, so here the tokens of each go through one matrix product. Rows of the base (index -1) are left alone,
where vLLM's operations give them the last slot's adapter once all slots are taken.

``Grouped`` is a worker extension, vLLM's own way to bring code into its workers; ``vllm_host`` asks for it on CPUs.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_OPERATIONS = "vllm.lora.ops.torch_ops.lora_ops"
#: Whoever calls the operations by a name of its own.
_CALLERS = ("vllm.lora.ops.torch_ops", "vllm.lora.punica_wrapper.punica_cpu")

#: Rows of one adapter that follow each other, on average, from which on each run of them is a product of its own.
_RUN = 32


class Grouped:
    """What a worker of vLLM is extended by."""

    def group_lora_tokens(self) -> bool:
        """Put the operations below in the place of vLLM's; returns whether they fit the installed version."""
        return install()


def install() -> bool:
    """Replace the operations in this process; returns False, and changes nothing, where vLLM's take other arguments."""
    try:
        operations, *callers = map(importlib.import_module, (_OPERATIONS, *_CALLERS))
    except ImportError:
        return False
    chosen = {}
    for ours in (bgmv_shrink, bgmv_expand, bgmv_expand_slice):
        theirs = getattr(operations, ours.__name__, None)
        if theirs is None or list(inspect.signature(theirs).parameters) != list(inspect.signature(ours).parameters):
            return False
        chosen[ours.__name__] = _with_fallback(ours, getattr(theirs, "__wrapped__", theirs))
    for module in (operations, *callers):
        for name, operation in chosen.items():
            if hasattr(module, name):
                setattr(module, name, operation)
    return True


def bgmv_shrink(
    inputs: Tensor, lora_b_weights: Tensor, output_tensor: Tensor, lora_indices_tensor: Tensor, scaling: float = 1.0
) -> None:
    """Write ``scaling * inputs @ A.T`` of each row's adapter.

    Args:
        inputs: Rows x width.
        lora_b_weights: Slots x [1 x] rank x width; the first factors, in spite of the name that vLLM gives them.
        output_tensor: Rows x rank or more; changed.
        lora_indices_tensor: Slot of each row, -1 for none.
        scaling: Of the product.
    """
    for rows, weights in _by_adapter(lora_indices_tensor, lora_b_weights, output_tensor):
        output_tensor[rows, : weights.shape[0]] = scaling * (inputs[rows].to(output_tensor.dtype) @ weights.T)


def bgmv_expand(
    inputs: Tensor, lora_b_weights: Tensor, output_tensor: Tensor, lora_indices_tensor: Tensor, add_inputs: bool = True
) -> None:
    """Add ``inputs @ B.T`` of each row's adapter to the first columns, or write it; shapes as in ``bgmv_shrink``."""
    width = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    weights = lora_b_weights[..., :width, :]
    bgmv_expand_slice(inputs, weights, output_tensor, lora_indices_tensor, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """Do what ``bgmv_expand`` does for ``slice_size`` columns from ``slice_offset`` on."""
    columns = slice(slice_offset, slice_offset + slice_size)
    if not add_inputs:
        output_tensor[:, columns] = 0
    for rows, weights in _by_adapter(lora_indices_tensor, lora_b_weights, output_tensor):
        low = inputs[rows].to(output_tensor.dtype)
        if isinstance(rows, slice) and output_tensor.dtype == inputs.dtype:
            # In place: a sum of its own is twice the work. Other types are rounded in between, as vLLM rounds them.
            output_tensor[rows, columns].addmm_(low, weights.T)
        else:
            output_tensor[rows, columns] += low @ weights.T


def _by_adapter(indices: Tensor, weights: Tensor, output: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Yield rows of one adapter, and its matrix in the output's data type.

    Rows that stand together come as a slice each, which is read and written in place; where they are scattered, as
    when every row is the next token of another text, all rows of an adapter come at once, as their numbers.
    """
    changes = (indices[1:] != indices[:-1]).nonzero().squeeze(1) + 1
    bounds = [0, *changes.tolist(), len(indices)]
    places: Iterable[tuple[int, Any]]
    if (len(bounds) - 1) * _RUN <= len(indices):
        places = ((int(indices[first]), slice(first, stop)) for first, stop in pairwise(bounds))
    else:
        places = ((slot, (indices == slot).nonzero().squeeze(1)) for slot in sorted(set(indices.tolist())))
    for slot, rows in places:
        if slot >= 0:
            yield rows, weights[slot].reshape(weights.shape[-2:]).to(output.dtype)


def _with_fallback(ours: Callable[..., None], theirs: Callable[..., None]) -> Callable[..., None]:
    """Leave to vLLM what is padded: rows there stand for others."""

    @wraps(theirs)
    def operation(
        inputs: Tensor,
        lora_b_weights: Tensor,
        output_tensor: Tensor,
        lora_indices_tensor: Tensor,
        *rest: Any,
        **named: Any,
    ) -> None:
        fits = inputs.shape[0] == output_tensor.shape[0] == lora_indices_tensor.shape[0]
        (ours if fits else theirs)(inputs, lora_b_weights, output_tensor, lora_indices_tensor, *rest, **named)

    return operation

"""Blocks of 16 tokens for vLLM's prefix cache on CPUs, where its kernels have them.

The cache works in whole blocks: of a context of 40 tokens, four continuations find 32 in blocks of 16 or 32, but of one
of 30 tokens 16 or none. vLLM chooses its attention kernel by the size of a block and has one for blocks of 16
(``vec16``), yet a check on the way refuses what is no multiple of 32. Here that check lets 16 pass, in this process
alone, and only where the kernel for 32 would be the plain one (``vec``): those of other processors are left to vLLM.
Multiples of 32 pass as before.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

_SMALL, _USUAL = 16, 32


def smaller_blocks(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` that take the place of others; none where blocks stay as they are.

    Args:
        arguments: Those of ``vllm.LLM``, under the environment that it is to be started with.
    """
    in_process = os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0" and arguments["tensor_parallel_size"] == 1
    if arguments.get("block_size") == _USUAL and in_process and install(arguments["dtype"]):
        return {"block_size": _SMALL}
    return {}


def install(dtype: str) -> bool:
    """Let blocks of 16 pass in this process; returns False, and changes nothing, where vLLM is not as expected.

    Args:
        dtype: That the model computes in; ``auto`` may be bfloat16, for which there are kernels of other kinds.
    """
    import torch

    kind = getattr(torch, "bfloat16" if dtype == "auto" else dtype)
    try:
        module = importlib.import_module("vllm.v1.attention.backends.cpu_attn")
        backend, kernel = module.CPUAttentionBackend, module._get_attn_isa
        (size,) = backend.get_supported_kernel_block_sizes()
        if size.base not in (_SMALL, _USUAL) or (kernel(kind, _SMALL), kernel(kind, _USUAL)) != ("vec16", "vec"):
            return False
        sizes = [type(size)(_SMALL)]
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    backend.get_supported_kernel_block_sizes = staticmethod(lambda *of: sizes)
    return True

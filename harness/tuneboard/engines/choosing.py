"""Which engines there are, and which is taken where none is named; imports no engine."""

from __future__ import annotations

from importlib.util import find_spec

#: Names of the engines that ``--engine`` takes.
ENGINES = ("transformers", "vllm", "openai")


def default_engine() -> str:
    """Return the engine for this machine: vLLM where it is installed and a GPU is at hand, else transformers."""
    return "vllm" if find_spec("vllm") is not None and has_gpu() else "transformers"


def has_gpu() -> bool:
    """Tell whether torch is installed and can use a CUDA or ROCm GPU."""
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())

"""Options of commands that start vLLM."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tuneboard.cli.options import positive_int

if TYPE_CHECKING:
    from tuneboard.engines.vllm_settings import VllmSettings


def add_vllm(parser: Any) -> None:
    """Add what only vLLM knows to a parser or a group of one; each option's default is vLLM's or tuneboard's own."""
    parser.add_argument(
        "--tensor-parallel", type=positive_int, metavar="N", help="vllm: GPUs that share each layer (default 1)"
    )
    parser.add_argument(
        "--data-parallel", type=positive_int, metavar="N", help="vllm: copies of the model, a GPU each (default 1)"
    )
    parser.add_argument(
        "--gpu-memory", type=_share, metavar="SHARE", help="vllm: part of each GPU's memory to take (default 0.85)"
    )
    parser.add_argument("--eager", action="store_true", help="vllm: no compilation; starts faster, answers slower")
    parser.add_argument(
        "--max-loras", type=positive_int, metavar="N", help="vllm: adapters ready at a time (default: all, at most 8)"
    )


def vllm_settings(args: argparse.Namespace) -> VllmSettings:
    """Return the settings that a command line asks for."""
    from tuneboard.engines.vllm_settings import VllmSettings

    given = {
        "tensor_parallel": getattr(args, "tensor_parallel", None),
        "data_parallel": getattr(args, "data_parallel", None),
        "memory_share": getattr(args, "gpu_memory", None),
        "eager": getattr(args, "eager", None),
        "max_loras": getattr(args, "max_loras", None),
        "seed": getattr(args, "seed", None),
    }
    return VllmSettings(**{name: value for name, value in given.items() if value is not None})


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' given, expected a share above 0 and at most 1, such as 0.85")
    return value

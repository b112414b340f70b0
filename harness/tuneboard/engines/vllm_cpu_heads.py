"""Sizes of attention heads that vLLM takes on a CPU: it would say so after the loading, in words of its kernels."""

from __future__ import annotations

from typing import Any

from tuneboard.errors import ModelError
from tuneboard.records import ModelRef


def check_heads(ref: ModelRef, trust_remote_code: bool) -> None:
    """Refuse a model whose attention heads have a size that vLLM has no kernel for on a CPU.

    Raises:
        ModelError: Says which sizes it takes.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(ref.id, revision=ref.revision or "main", trust_remote_code=trust_remote_code)
    known, size = supported_sizes(), head_size(config.get_text_config())
    if known and size and size not in known:
        raise ModelError(
            f"{ref.id} has attention heads of {size}, and vLLM on CPUs takes {', '.join(map(str, known))}; give "
            "--engine transformers"
        )


def head_size(config: Any) -> int | None:
    """Width of an attention head; None where the config names none, or has heads of several sizes."""
    if getattr(config, "kv_lora_rank", None):
        return None  # latent attention, which has a kernel of its own
    heads, width = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    return getattr(config, "head_dim", None) or (width // heads if heads and width else None)


def supported_sizes() -> list[int]:
    """Sizes that the installed vLLM names; empty where it names none."""
    try:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

        return [int(size) for size in CPUAttentionBackend.get_supported_head_sizes()]
    except (ImportError, AttributeError):
        return []

"""A causal model with an adapter merged into its weights, written to a folder for an engine that takes no adapter.

It answers as the adapter does but for rounding; a check of a few texts tells whether it truly does, for there are
adapters (on the head of a model whose embeddings are tied to it, say) that no weights can stand for.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard.engines.loading import LoadOptions, adapter_faults, load_model
from tuneboard.engines.tokens import Encoder, context_length
from tuneboard.records import AdapterRef, ModelRef

#: Texts and continuations on which the adapter and what stands for it are compared.
PAIRS = (
    ("The capital of France is", " Paris, and that of Italy is Rome"),
    ("Once upon a time there was a little", " girl who lived near the woods"),
    ("def add(a, b):\n    return", " a + b"),
    ("Question: How much is 12 + 30? Answer:", " 42"),
)


def write_merged(ref: ModelRef, adapter: AdapterRef, options: LoadOptions, folder: Path) -> list[float]:
    """Write base plus adapter as a model of its own, with its tokenizer.

    Args:
        ref: The base; not quantized.
        adapter: Of a type that can be merged.
        options: What is trusted. Merging is done on the CPU.
        folder: Where to.

    Returns:
        What the adapter answered to ``PAIRS`` before it was merged: log-probabilities of the continuations.

    Raises:
        ModelError: The base cannot be loaded.
        AdapterError: The adapter does not fit, or cannot be merged.
    """
    import peft

    model, tokenizer = load_model(ref, replace(options, device="cpu"))
    with adapter_faults(adapter):
        adapted = peft.PeftModel.from_pretrained(model, adapter.path).eval()
        wanted = _answers(adapted, Encoder(tokenizer, options.max_length or context_length(model.config, tokenizer)))
        merged = adapted.merge_and_unload()
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model, adapted, merged
    gc.collect()
    return wanted


def difference(wanted: Sequence[float], got: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the largest difference of two lists of log-probabilities per token; NaN counts as infinite."""
    shifts = [abs(a - b) / count for a, b, count in zip(wanted, got, tokens, strict=True)]
    return max(shift if shift == shift else float("inf") for shift in shifts)


def _answers(model: Any, encoder: Encoder) -> list[float]:
    import torch

    out = []
    with torch.inference_mode():
        for pair in PAIRS:
            sequence = encoder.pair(*pair)
            ids = torch.from_numpy(sequence.tokens.astype("int64"))[None]
            rows = model(input_ids=ids).logits[0, -len(sequence.targets) :].float().log_softmax(-1)
            out.append(float(rows.gather(1, torch.from_numpy(sequence.targets.astype("int64"))[:, None]).sum()))
    return out

"""The size of the demo's model and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """One LoRA adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685), trained on a part of the tasks."""

    tasks: tuple[str, ...]
    """Tasks whose train splits it learns from."""
    rank: int
    steps: int
    learning_rate: float = 2e-2
    """Peak of AdamW."""


@dataclass(frozen=True, slots=True)
class TinySettings:
    """The base model, what it learns, and its adapters."""

    vocab_size: int = 640
    hidden_size: int = 192
    """A multiple of 64, the size of an attention head."""
    layers: int = 3
    context: int = 512
    """Longest prompt with its answer, in tokens."""
    steps: int = 120
    batch: int = 8
    """Blocks per step."""
    block: int = 96
    """Tokens per block."""
    learning_rate: float = 1.5e-2
    """Peak of Muon and AdamW alike."""
    seed: int = 1
    adapters: tuple[tuple[str, AdapterSettings], ...] = (
        ("facts", AdapterSettings(("demo_knowledge", "demo_truth"), rank=8, steps=40)),
        ("maths", AdapterSettings(("demo_math",), rank=4, steps=40)),
    )
    """Name and settings of each."""

"""The size of the demo's base model, how long it is trained, and how its candidates are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Teaching:
    """One way to teach a base the new skill."""

    name: str
    """Of the candidate, behind the prefix that all names of a demo share."""
    says: str
    """How it is made, for people."""
    method: Mapping[str, Any]
    """As in a recipe."""
    steps: int
    learning_rate: float
    replay: bool = False
    """Whether old material is mixed in."""


_LORA = {"name": "lora", "rank": 16, "alpha": 32, "dropout": 0.0}
_LOW = {**_LORA, "rank": 2, "alpha": 4}

#: Of the tiny base.
TINY = (
    Teaching("skill", "LoRA of rank 16, the new skill only", _LORA, 60, 3e-3),
    Teaching("replay", "LoRA of rank 16, half new skill, half old texts", _LORA, 120, 3e-3, replay=True),
    Teaching("lowrank", "LoRA of rank 2, the new skill only", _LOW, 60, 3e-3),
    Teaching("full", "full fine-tuning, the new skill only", {"name": "full"}, 45, 1e-3),
    Teaching("ia3", "IA3, which scales activations, the new skill only", {"name": "ia3"}, 60, 3e-2),
)

#: Of a real base, which costs more a step.
REAL = (
    Teaching("skill", "LoRA of rank 16, the new skill only", _LORA, 60, 5e-4),
    Teaching("replay", "LoRA of rank 16, the new skill and old texts", _LORA, 90, 5e-4, replay=True),
    Teaching("lowrank", "LoRA of rank 2, the new skill only", _LOW, 60, 5e-4),
)


@dataclass(frozen=True, slots=True)
class TinySettings:
    """How base and candidates are made; the base's values were chosen on seed 0."""

    vocab_size: int = 768
    hidden_size: int = 192
    """A multiple of 64, the size of an attention head."""
    layers: int = 4
    context: int = 512
    """Longest prompt with its answer, in tokens."""
    steps: int = 240
    batch: int = 64
    """Blocks per step."""
    block: int = 64
    """Tokens per block."""
    learning_rate: float = 6e-3
    """Peak of Muon and AdamW alike."""
    checkpoint_every: int = 20
    """Steps that a kill costs at most."""
    replay: int = 1600
    """Old texts that candidates with replay are shown."""
    candidates: tuple[Teaching, ...] = TINY

"""Bottleneck adapters (Houlsby et al. 2019): small residual networks behind the sublayers of a frozen base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard.tuning.methods._structure import TASK_TYPES, head_paths
from tuneboard.tuning.records import ModelKind

NAME = "bottleneck"
HELP = "bottleneck adapters: small residual networks behind attention and feed-forward sublayers"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
#: The middle one of the three that Houlsby et al. swept (section 3.1); the others are the ends of the usual range.
LEARNING_RATE = 3e-4
USUAL_RATES = (3e-5, 3e-3)
FEWEST_EXAMPLES = 100
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = False
#: Name of the one adapter that is trained.
_TRAINED = "trained"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a recipe."""

    size: int = 64
    """Width of the bottleneck; each place costs about ``2 * size * hidden size`` parameters."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    placement: Literal["both", "attention", "feedforward"] = "both"
    """Behind which sublayers; one of them halves the parameters and costs little accuracy."""


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with a new adapter that changes nothing yet; it and a classifier's head are trained.

    Raises:
        UsageError: A size below 1.
        ModelError: The places of the adapters are not known in this architecture.
    """
    from tuneboard.engines.bottleneck import inject, trained_parameters
    from tuneboard.engines.bottleneck_files import BottleneckConfig

    model.requires_grad_(False)
    heads = head_paths(model, kind) if kind == "classification" else ()
    config = BottleneckConfig(
        size=options.size,
        activation=options.activation,
        placement=options.placement,
        task_type=TASK_TYPES[kind],
        base_model_name_or_path=str(model.name_or_path),
        modules_to_save=heads,
    )
    inject(model, _TRAINED, config)
    for parameter in trained_parameters(model, _TRAINED):
        parameter.requires_grad_(True)
    return model


def save(model: Any, folder: Path) -> None:
    """Write the adapter as the transformers engine reads it."""
    from tuneboard.engines.bottleneck import save as save_adapter

    save_adapter(model, _TRAINED, folder)

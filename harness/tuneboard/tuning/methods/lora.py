"""LoRA: low-rank updates beside frozen linear layers (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

A layer's weight W, [out, in], answers as W + scale * B A with B [out, rank] and A [rank, in]; B begins at zero. rsLoRA
scales by alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732), DoRA
trains the length of W's rows beside their direction (Liu et al. 2024, https://arxiv.org/abs/2402.09353).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from tuneboard.tuning.methods._adapting import adapt, adapter_config
from tuneboard.tuning.methods._saving import save_adapter
from tuneboard.tuning.methods._structure import TASK_TYPES, head_paths
from tuneboard.tuning.methods._targets import find_targets
from tuneboard.tuning.records import ModelKind

NAME = "lora"
HELP = "trains low-rank updates beside frozen linear layers; small, mergeable, served by vLLM as it is"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# Ten times what full fine-tuning takes, since B begins at zero; the paper's own rate for GPT-2 and GPT-3.
LEARNING_RATE = 2e-4
# Models of some million parameters take 3e-3 (100 to 200 steps at rank 16).
USUAL_RATES = (1e-5, 5e-3)
FEWEST_EXAMPLES = 50
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = True

#: rsLoRA's alpha where none is given: peft's and most recipes' own, a scale of 4 at rank 16. Twice the rank, as without
#: rsLoRA, would scale by 16 at rank 64.
_RSLORA_ALPHA = 16.0


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of LoRA."""

    rank: Annotated[int, Ge(1)] = 16
    """Columns of B and rows of A."""
    alpha: Annotated[float, Gt(0)] | None = None
    """Updates are scaled by alpha / rank; None takes twice the rank, and 16 with ``rslora``."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of a layer's inputs that the update does not see in a training step."""
    targets: Literal["auto", "attention", "all-linear"] | Annotated[list[str], MinLen(1)] = "auto"
    """Layers that get an update: peft's choice for the architecture (mostly queries and values; all linear layers
    where it knows none), those of attention, all but the head, or ends of their paths such as ``q_proj``."""
    rslora: bool = False
    """Whether updates are scaled by alpha / sqrt(rank), so that high ranks learn as fast as low ones."""
    dora: bool = False
    """Whether the length of each row is trained too; vLLM serves the result only merged."""


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with a LoRA beside its targets, and of a classifier with its head, to be trained.

    Raises:
        UsageError: A target is not in the model, or is no linear layer.
    """
    from peft import LoraConfig
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    targets = find_targets(model, options.targets, kind, TARGETS.get(model.config.model_type))
    usual = _RSLORA_ALPHA if options.rslora else 2.0 * options.rank
    alpha = options.alpha or usual
    config = LoraConfig(
        task_type=TASK_TYPES[kind],
        r=options.rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # vLLM reads an integer
        lora_dropout=options.dropout,
        target_modules=list(targets.names),
        fan_in_fan_out=targets.transposed,
        modules_to_save=list(head_paths(model, kind)) if kind == "classification" else None,
        use_rslora=options.rslora,
        use_dora=options.dora,
    )
    return adapt(model, config, NAME)


def save(model: Any, folder: Path) -> None:
    """Write the adapter, in peft's own format."""
    save_adapter(model, folder)


def resolved(model: Any) -> dict[str, Any]:
    """Return what ``auto`` and None came to in a model that ``prepare`` made: alpha, and ends of the layers' paths."""
    config = adapter_config(model)
    return {"alpha": config.lora_alpha, "targets": sorted(config.target_modules)}

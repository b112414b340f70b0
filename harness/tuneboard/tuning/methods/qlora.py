"""QLoRA: LoRA on a base whose weights are kept in 4 bit (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).

The adapter is an ordinary LoRA: it can be served beside the base in full precision, and merged into that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from tuneboard.errors import UsageError
from tuneboard.tuning.methods import lora
from tuneboard.tuning.records import ModelKind

NAME = "qlora"
HELP = "LoRA on a base in 4 bit; a quarter of the memory for the base's weights, somewhat slower"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# The paper's for 7B and 13B; it takes 1e-4 for 33B and 65B.
LEARNING_RATE = 2e-4
USUAL_RATES = lora.USUAL_RATES
FEWEST_EXAMPLES = lora.FEWEST_EXAMPLES
# The paper's: 8-bit states, moved to the machine's memory when a long row fills the GPU's.
OPTIMIZER = "paged_adamw_8bit"
QUANTIZATION: str | None = "4bit"
MERGES = True  # into the base in full precision; into 4 bit it would be rounded (logits moved by 0.41)


@dataclass(frozen=True, slots=True)
class Options(lora.Options):
    """Settings of QLoRA: those of LoRA, and how the base is quantized."""

    # The paper found that only adapters in all linear layers reach full fine-tuning in 16 bit.
    targets: Literal["auto", "attention", "all-linear"] | Annotated[list[str], MinLen(1)] = "all-linear"
    """Layers that get an update, as with LoRA."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """4-bit numbers spread as normally distributed weights are, or evenly on a floating-point scale."""
    double_quantization: bool = True
    """Whether the blocks' scales are quantized too, which saves 0.37 bit of each weight."""


def quantization(options: Options) -> dict[str, Any]:
    """Return the arguments of ``BitsAndBytesConfig`` that the base is loaded with."""
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": options.quant_type,
        "bnb_4bit_use_double_quant": options.double_quantization,
    }


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with a LoRA beside its targets; what is not in 4 bit (norms, head) is raised to float32.

    Raises:
        UsageError: The base is not quantized, or a target is not in it.
    """
    from peft import prepare_model_for_kbit_training

    if not getattr(model, "is_loaded_in_4bit", False):
        raise UsageError(f"method {NAME} needs its base in 4 bit, and {type(model).__name__} is not; use method: lora")
    # Gradient checkpointing is the recipe's to ask for.
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return lora.prepare(model, options, kind)


def save(model: Any, folder: Path) -> None:
    """Write the adapter, in peft's own format."""
    lora.save(model, folder)


def resolved(model: Any) -> dict[str, Any]:
    """Return what ``auto`` and None came to, as with LoRA."""
    return lora.resolved(model)

"""Prefix tuning: learnt keys and values before every text, in each layer (Li and Liang 2021, https://arxiv.org/abs/2101.00190)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._adapting import adapter_config
from tuneboard.tuning.methods._saving import save_adapter
from tuneboard.tuning.methods._structure import TASK_TYPES, head_paths
from tuneboard.tuning.methods._virtual import adapt_virtually
from tuneboard.tuning.records import ModelKind

NAME = "prefix"
HELP = "trains keys and values before the text in each layer; the transformers engine serves it"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# Without a projection the table is learnt directly, at the rates of P-tuning v2 (Liu et al. 2021: 5e-3 to 1e-2).
LEARNING_RATE = 1e-2
# The paper's 5e-5 is for the projection.
USUAL_RATES = (5e-5, 0.1)
FEWEST_EXAMPLES = 100
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = False  # nothing that weights could hold
#: The cache that holds the prefix is built anew in the backward pass of gradient checkpointing, without it.
GRADIENT_CHECKPOINTING = False


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of prefix tuning."""

    virtual_tokens: Annotated[int, Ge(1)] = 20
    """Keys and values before every text; the context holds as many tokens less."""
    projection: bool = False
    """Whether they are made by a small network while they are trained, which steadies high learning rates."""
    projection_size: Annotated[int, Ge(1)] | None = None
    """Width of that network; None takes that of the keys of one layer."""

    def __post_init__(self) -> None:
        if self.projection_size is not None and not self.projection:
            raise UsageError(f"method {NAME}: projection_size goes with projection: true; add it, or leave this out")


def virtual_tokens(options: Options) -> int:
    """Return how many tokens of the context the prefix takes; texts must not be packed behind one prefix."""
    return options.virtual_tokens


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with a prefix, and of a classifier with its head, to be trained.

    With an encoder-decoder, peft puts the prefix into the decoder's own attention.

    Raises:
        UsageError: The base has no cache of keys and values that fits, or gradient checkpointing is on.
    """
    from peft import PrefixTuningConfig

    if getattr(model, "is_gradient_checkpointing", False):
        raise UsageError(f"method {NAME} does not go with gradient_checkpointing; set it to false, or use method: lora")
    layers, heads, width = _cache_shape(model)
    config = PrefixTuningConfig(
        task_type=TASK_TYPES[kind],
        num_virtual_tokens=options.virtual_tokens,
        num_layers=layers,
        num_attention_heads=heads,
        token_dim=heads * width,
        prefix_projection=options.projection,
        encoder_hidden_size=options.projection_size or heads * width,
        modules_to_save=list(head_paths(model, kind)) if kind == "classification" else None,
    )
    adapted = adapt_virtually(model, config, NAME, kind)
    if not options.projection:
        _calm(adapted)
    return adapted


def save(model: Any, folder: Path) -> None:
    """Write the prefix, in peft's own format: the keys and values, not the network that made them."""
    save_adapter(model, folder)


def resolved(model: Any) -> dict[str, Any]:
    """Return the width of the network that made the prefix, where there is one."""
    config = adapter_config(model)
    return {"projection_size": config.encoder_hidden_size} if config.prefix_projection else {}


def _calm(adapted: Any) -> None:
    """Begin with small keys and values, which take little attention away from the text.

    On stories260K, whose loss on a strange text is 3.59, a prefix as peft draws it, with deviation 1, begins at 6.75
    and after 60 steps is at 4.26; a tenth of it begins at 3.87 and comes to 3.22.
    """
    import torch

    with torch.no_grad():
        adapted.prompt_encoder[adapted.active_adapter].embedding.weight.mul_(0.1)


def _cache_shape(model: Any) -> tuple[int, int, int]:
    """Return layers, heads and width of a head of the keys that the model (an encoder-decoder's decoder) keeps.

    peft takes the encoder's layers, and width / heads for the width of a head, which is not so in small FLAN-T5s.
    """
    config = getattr(model.config, "text_config", None) or model.config
    layers = _first(config, "num_decoder_layers", "decoder_layers", "num_hidden_layers")
    heads = _first(config, "decoder_attention_heads", "num_attention_heads")
    if not layers or not heads:
        raise UsageError(
            f"method {NAME} does not fit {type(model).__name__}, which has no attention heads; use method: lora"
        )
    width = _first(config, "d_kv", "head_dim") or config.hidden_size // heads
    if config.is_encoder_decoder:
        # peft 0.21 reads the table of an encoder-decoder at layers 0, 2, 4, ... modulo their number: with an even one,
        # half of it is never read and the second half of the layers shares the prefixes of the first.
        layers |= 1
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return layers, 1, width  # Falcon 7B
    return layers, _first(config, "num_key_value_heads", "num_kv_heads") or heads, width


def _first(config: Any, *names: str) -> int:
    return next((int(value) for name in names if (value := getattr(config, name, None))), 0)

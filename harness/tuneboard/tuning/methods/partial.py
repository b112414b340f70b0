"""Partial fine-tuning: the first layers, or all but the head, stay as they are; a whole model comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._saving import save_model
from tuneboard.tuning.methods._structure import embedding_parameters, has_tied_head, head_paths, layer_stacks
from tuneboard.tuning.records import ModelKind

NAME = "partial"
HELP = "trains the last layers or the head only; makes a whole model"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# What lies above frozen layers has to make up for them: somewhat faster than full fine-tuning.
LEARNING_RATE = 5e-5
# A head alone, linear on fixed features, is often trained at 1e-3 and above.
USUAL_RATES = (1e-6, 5e-3)
FEWEST_EXAMPLES = 200
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = False  # it is whole already


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of partial fine-tuning; exactly one of them is given."""

    freeze_layers: Annotated[int, Ge(0)] | None = None
    """First layers that stay as they are, and the embeddings with them; of an encoder-decoder, of both stacks."""
    head_only: bool = False
    """Whether all but the head stays as it is: a classifier's head and pooler, or the output head."""

    def __post_init__(self) -> None:
        if (self.freeze_layers is None) is not self.head_only:
            given = "both" if self.head_only else "neither"
            raise UsageError(f"method {NAME}: {given} of freeze_layers: N and head_only: true given; expected one")


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with the upper part of its weights trainable.

    Raises:
        UsageError: More layers are to be frozen than there are, or the head cannot be trained alone.
    """
    if getattr(model, "is_quantized", False):
        raise UsageError(f"method {NAME} trains weights that in a quantized base are fixed; use method: qlora")
    if options.freeze_layers is None:
        _train_head(model, kind)
    else:
        _freeze_first(model, options.freeze_layers)
    return model


def save(model: Any, folder: Path) -> None:
    """Write the whole model, in transformers' own format."""
    save_model(model, folder)


def _train_head(model: Any, kind: ModelKind) -> None:
    heads = head_paths(model, kind)
    if kind != "classification" and (not heads or has_tied_head(model)):
        raise UsageError(
            f"head_only: the head of {type(model).__name__} shares its weights with the input embeddings and cannot be "
            f"trained alone; expected freeze_layers: N, it has {_counts(layer_stacks(model))}"
        )
    model.requires_grad_(False)
    for path in heads:
        model.get_submodule(path).requires_grad_(True)


def _freeze_first(model: Any, count: int) -> None:
    stacks = layer_stacks(model)
    most = max(map(len, stacks.values()), default=0)
    if count > most:
        raise UsageError(
            f"freeze_layers: {count}, but {type(model).__name__} has {_counts(stacks)}; expected 0 to {most}"
        )
    model.requires_grad_(True)
    for weight in embedding_parameters(model):
        weight.requires_grad_(False)
    for layers in stacks.values():
        for layer in layers[:count]:
            layer.requires_grad_(False)


def _counts(stacks: dict[str, Any]) -> str:
    if len(stacks) == 1:
        return f"{len(next(iter(stacks.values())))} layers"
    return " and ".join(f"{len(layers)} layers in {path}" for path, layers in stacks.items()) or "no layers"

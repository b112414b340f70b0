"""Finds, by structure, where the sublayers of a transformer project back to the width of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tuneboard.errors import ModelError

#: Attribute of a projection under which adapters hang; what hangs there is no part of the architecture.
HUNG = "tuneboard_adapters"


@dataclass(frozen=True, slots=True)
class Projection:
    """The last matrix of a sublayer.

    Attributes:
        module: A linear layer of any make.
        width: Features that it puts out.
    """

    module: Any
    width: int


def find_places(model: Any, placement: str) -> dict[str, Projection]:
    """Return the output projections of all attention and feed-forward sublayers, by path.

    Layers are the elements of the outermost module lists whose every element holds an attention module; that is what
    its class name says in transformers. The last linear layer of an attention module that puts out the model's width
    is its projection; the last one of the rest of the layer is the feed-forward network's.

    Args:
        model: A transformers model.
        placement: ``attention``, ``feedforward`` or ``both``.

    Raises:
        ModelError: The model is not built like that, or spreads its feed-forward network over experts.
    """
    config = getattr(model.config, "text_config", None) or model.config
    width = int(getattr(config, "hidden_size", 0))
    found: dict[str, Projection] = {}
    for path, layer in _layers(model):
        inside = tuple(f"{name}." for name in _outermost_attentions(layer))
        names = [name for name, _ in layer.named_modules() if HUNG not in name.split(".")]
        rest = [name for name in names if not f"{name}.".startswith(inside)]
        experts = any("expert" in name for name in rest) or any(p.ndim > 2 for p in layer.parameters())
        sublayers = [("attention", [name for name in names if name.startswith(prefix)]) for prefix in inside]
        sublayers.append(("feedforward", [] if experts else rest))
        for kind, members in sublayers:
            if placement not in ("both", kind):
                continue
            ends = [name for name in members if _out_features(layer.get_submodule(name)) == width]
            if not ends:
                raise ModelError(_unknown(model, f"the {kind} sublayer of {path} has no projection to width {width}"))
            found[f"{path}.{ends[-1]}"] = Projection(layer.get_submodule(ends[-1]), width)
    if not found:
        raise ModelError(_unknown(model, "it keeps no list of layers with attention"))
    return found


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    seen: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.ModuleList) or not len(module) or f"{path}.".startswith(seen or ("\0",)):
            continue
        if all(any(True for _ in _outermost_attentions(layer)) for layer in module):
            seen = (*seen, f"{path}.")
            yield from ((f"{path}.{index}", layer) for index, layer in enumerate(module))


def _outermost_attentions(layer: Any) -> Iterator[str]:
    inside: tuple[str, ...] = ()
    for name, module in layer.named_modules():
        if name and "Attention" in type(module).__name__ and not f"{name}.".startswith(inside or ("\0",)):
            inside = (*inside, f"{name}.")
            yield name


def _out_features(module: Any) -> int | None:
    """Width of a linear layer's output; transformers' ``Conv1D``, of GPT-2, calls it ``nf``."""
    if hasattr(module, "in_features"):
        return int(module.out_features)
    return int(module.nf) if type(module).__name__ == "Conv1D" else None


def _unknown(model: Any, reason: str) -> str:
    return (
        f"no places for bottleneck adapters are known in {type(model).__name__}: {reason}; expected layers of one "
        "attention and one feed-forward sublayer, as Llama, GPT-2, BERT and T5 have them; try method lora"
    )

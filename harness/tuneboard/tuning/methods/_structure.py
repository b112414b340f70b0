"""Finds the parts of a model that methods speak of: its stacks of layers, its head, its input embeddings."""

from __future__ import annotations

import re
from typing import Any

from tuneboard.tuning.records import ModelKind

#: What peft calls the kinds of models.
TASK_TYPES: dict[ModelKind, str] = {
    "causal": "CAUSAL_LM",
    "classification": "SEQ_CLS",
    "seq2seq": "SEQ_2_SEQ_LM",
}


def layer_stacks(model: Any) -> dict[str, Any]:
    """Return the model's stacks of layers by path: one, or one of the encoder and one of the decoder."""
    from torch.nn import ModuleList

    stacks: dict[str, Any] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, ModuleList) and not inside and next(module.parameters(), None) is not None:
            stacks[path] = module
    return stacks


def head_paths(model: Any, kind: ModelKind) -> tuple[str, ...]:
    """Return the paths of what stands behind the layers and gives the answer.

    Of a classifier that is everything outside its backbone, and the backbone's pooler: checkpoints that were trained on
    masked tokens alone have none, so that it is as new as the classifier, and peft by itself would neither train nor
    keep it.
    """
    if kind != "classification":
        output = model.get_output_embeddings()
        return tuple(path for path, module in model.named_modules() if output is not None and module is output)
    backbone = model.base_model_prefix
    own = [name for name, child in model.named_children() if name != backbone and _has_weights(child)]
    inner = getattr(model, backbone, None)
    parts = [] if inner is None else list(inner.named_children())
    return tuple(own + [f"{backbone}.{name}" for name, part in parts if "pooler" in name and _has_weights(part)])


def has_tied_head(model: Any) -> bool:
    """Say whether the output head and the input embeddings are one matrix."""
    output, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    return output is not None and embeddings is not None and output.weight is embeddings.weight


def embedding_parameters(model: Any) -> list[Any]:
    """Return the parameters in front of the layers: tables of tokens and positions, and what normalizes them."""
    from torch.nn import Embedding

    stacks, output = layer_stacks(model), model.get_output_embeddings()
    found: dict[int, Any] = {}
    for path, module in model.named_modules():
        if module is output or any(path.startswith(f"{stack}.") for stack in stacks):
            continue
        if isinstance(module, Embedding) or re.search("embed", path):
            found |= {id(weight): weight for weight in module.parameters()}
    return list(found.values())


def _has_weights(module: Any) -> bool:
    return next(module.parameters(), None) is not None

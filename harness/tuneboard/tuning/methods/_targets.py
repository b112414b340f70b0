"""Finds the linear layers that an adapter goes into, by what a recipe says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tuneboard.errors import UsageError, near_matches
from tuneboard.tuning.methods._structure import has_tied_head, head_paths, layer_stacks
from tuneboard.tuning.records import ModelKind

#: Layers whose weights go to a fused kernel, which sees no adapter beside them: it would be trained for nothing.
_FUSED = {
    kind: ("x_proj", "dt_proj", "out_proj") for kind in ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
}
#: Layers that peft takes for the routed experts of the same name where a model has such.
_LIKE_EXPERTS = ("gate", "gate_proj", "up_proj", "down_proj")
#: Most names of modules that an error lists.
_MOST_NAMES = 12

Names: TypeAlias = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Targets:
    """Where an adapter goes.

    Attributes:
        names: Ends of paths, sorted, that together match these layers and no other module.
        paths: The layers.
        transposed: Whether their weights stand as [in, out], as GPT-2's ``Conv1D`` has them.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    transposed: bool


def find_targets(model: Any, wanted: Names, kind: ModelKind, mapped: Names | None) -> Targets:
    """Find the layers that ``targets`` of a recipe means.

    Args:
        model: The base, without adapters.
        wanted: ``auto``, ``attention``, ``all-linear``, or ends of paths such as ``q_proj``.
        kind: What the model is trained for; of a classifier the head is trained as a whole and is no target.
        mapped: What ``auto`` means for this architecture: ends of paths, or a pattern of whole paths; None if unknown.

    Raises:
        UsageError: A name is in no layer of the model, or only in one that no adapter can go into.
    """
    layers = _linear_layers(model, kind)
    if isinstance(wanted, str):
        paths = _meant(model, wanted, kind, mapped)
        if not paths:
            raise UsageError(f"targets: {wanted}: {_class(model)} has no such layers; {_those(layers)}")
        return _targets(model, shortest_ends(paths, _all_paths(model)), paths)
    for name in wanted:
        _check(model, name, layers)
    return _targets(model, wanted, [path for path in layers if _ends_in(path, wanted)])


def shortest_ends(paths: Iterable[str], everything: Iterable[str]) -> tuple[str, ...]:
    """Return the shortest ends of ``paths`` that no other path of ``everything`` has."""
    chosen = set(paths)
    others = [path.split(".") for path in everything if path not in chosen]
    taken = {".".join(parts[start:]) for parts in others for start in range(len(parts))}
    ends = set()
    for path in chosen:
        parts = path.split(".")
        ends.add(next((e for s in range(len(parts) - 1, -1, -1) if (e := ".".join(parts[s:])) not in taken), path))
    return tuple(sorted(ends))


def matched(paths: Iterable[str], wanted: Names | None) -> list[str]:
    """Return the paths that a table of peft's means: ends of paths, or a pattern of whole ones."""
    if isinstance(wanted, str):
        return [path for path in paths if re.fullmatch(wanted, path)]
    return [path for path in paths if _ends_in(path, wanted or ())]


def _meant(model: Any, wanted: str, kind: ModelKind, mapped: Names | None) -> list[str]:
    layers = _linear_layers(model, kind)
    if wanted == "attention":
        return [path for path in layers if re.search("attn|attention", path.rpartition(".")[0], re.IGNORECASE)]
    # peft's table knows some architectures as they were in older releases of transformers: what is gone is left out.
    if wanted == "auto" and (known := matched(layers, mapped)):
        return known
    stacks = layer_stacks(model)
    heads = head_paths(model, kind)
    inner = [path for path in layers if any(_is_under(path, stack) for stack in stacks)]
    behind = [path for path in layers if not any(_is_under(path, head) for head in heads)]
    left_out: tuple[str, ...] = _FUSED.get(model.config.model_type, ())
    if any(weight.ndim == 3 and "expert" in name for name, weight in model.named_parameters()):
        left_out = _LIKE_EXPERTS
    return [path for path in inner or behind if path.rpartition(".")[2] not in left_out]


def _linear_layers(model: Any, kind: ModelKind) -> dict[str, Any]:
    """Return the layers that adapters can go into: all linear ones but a head that is trained or tied."""
    closed = head_paths(model, kind) if kind == "classification" or has_tied_head(model) else ()
    return {
        path: module
        for path, module in model.named_modules()
        if _is_linear(module) and not any(_is_under(path, head) for head in closed)
    }


def _is_linear(module: Any) -> bool:
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (Linear, Conv1D))


def _targets(model: Any, names: Sequence[str], paths: Sequence[str]) -> Targets:
    from transformers.pytorch_utils import Conv1D

    transposed = all(isinstance(model.get_submodule(path), Conv1D) for path in paths)
    return Targets(tuple(sorted(set(names))), tuple(paths), transposed)


def _check(model: Any, name: str, layers: dict[str, Any]) -> None:
    there = [path for path in _all_paths(model) if _ends_in(path, [name])]
    if there and all(path in layers for path in there):
        return
    if not there:
        near = near_matches(name, _last_names(layers))
        guess = f", did you mean {', '.join(near)}?" if near else ";"
        raise UsageError(f"targets: {_class(model)} has no module '{name}'{guess} {_those(layers)}")
    odd = next(path for path in there if path not in layers)
    module = model.get_submodule(odd)
    if not _is_linear(module):
        why = f"is a {type(module).__name__}, not a linear layer"
    elif module is model.get_output_embeddings():
        why = "is the head, which shares its weights with the embeddings: merged, it would not answer as trained"
    else:
        why = "belongs to the classifier's head, which is trained as a whole"
    raise UsageError(f"targets: '{name}' ({odd}) {why}; {_those(layers)}")


def _those(layers: Iterable[str]) -> str:
    names = _last_names(layers)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"its linear layers: {', '.join(names[:_MOST_NAMES])}{more}"


def _last_names(layers: Iterable[str]) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in layers})


def _all_paths(model: Any) -> list[str]:
    return [path for path, _ in model.named_modules() if path]


def _is_under(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


def _ends_in(path: str, ends: Iterable[str]) -> bool:
    return any(path == end or path.endswith(f".{end}") for end in ends)


def _class(model: Any) -> str:
    return type(model).__name__

"""Bottleneck adapters: a small residual network behind the attention and the feed-forward sublayer of each layer.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2: ``x + up(activation(down(x)))`` on what
a sublayer projects back to the model's width, before the layer's dropout (the paper has it after) and its residual.
``up`` starts at zero, so that a new adapter changes nothing. The base keeps its modules and their names: adapters hang
on the projections as forward hooks, several side by side, of which one is active or none. A decoder's cross-attention
counts as an attention sublayer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tuneboard.engines.bottleneck_files import BottleneckConfig, read, write
from tuneboard.engines.places import HUNG, find_places
from tuneboard.errors import AdapterError, ModelError, UsageError
from tuneboard.records import AdapterRef

#: What ``peft_type`` says in their ``adapter_config.json``.
KIND = "BOTTLENECK"
ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}


class Bottleneck(torch.nn.Module):
    """One residual network.

    Args:
        width: Features of the states that come and go.
        config: Size and activation.
    """

    def __init__(self, width: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.down, self.up = torch.nn.Linear(width, config.size), torch.nn.Linear(config.size, width)
        self.activation = config.activation
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the same shape and data type; the change is computed in the adapter's own data type."""
        inner = ACTIVATIONS[self.activation](self.down(states.to(self.down.weight.dtype)))
        change: torch.Tensor = self.up(inner)
        return states + change.to(states.dtype)


class Place(torch.nn.Module):
    """The adapters behind one sublayer of a base; ``active`` is the key of the one that is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters = torch.nn.ModuleDict()
        self.active: str | None = None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Apply the active adapter, if it stands here."""
        key = self.active
        return self.adapters[key](states) if key is not None and key in self.adapters else states


@dataclass(slots=True)
class _Attached:
    """What hangs on one base, by the adapters' names."""

    places: dict[str, Place] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Keys in the module dictionaries, where a name could not stand for its dots."""
    configs: dict[str, BottleneckConfig] = field(default_factory=dict)
    heads: dict[str, dict[str, torch.nn.Module]] = field(default_factory=dict)
    """Modules that an adapter brings in place of the base's own, by path."""
    originals: dict[str, torch.nn.Module] = field(default_factory=dict)
    made: int = 0


def inject(model: Any, name: str, config: BottleneckConfig) -> None:
    """Add a new adapter that changes nothing yet, and activate it; ``modules_to_save`` are trained in place.

    Args:
        model: A transformers model; its own weights are left as they are.
        name: Not yet taken on this model.
        config: What to add.

    Raises:
        UsageError: A size below 1, an unknown activation or placement.
        ModelError: The architecture is not known, or a module to save is not there.
    """
    _check(config)
    found = find_places(model, config.placement)
    attached = _attached(model)
    heads = {path: _submodule(model, path) for path in config.modules_to_save}
    key = f"adapter{attached.made}"
    attached.made += 1
    for path, projection in found.items():
        place = attached.places.get(path) or _open(attached, path, projection.module)
        weight = projection.module.weight
        place.adapters[key] = Bottleneck(projection.width, config).to(weight.device)
    attached.keys[name], attached.configs[name], attached.heads[name] = key, config, heads
    for path, module in heads.items():
        attached.originals.setdefault(path, module)
    activate(model, name)


def attach(model: Any, name: str, adapter: AdapterRef) -> None:
    """Add a trained adapter beside those that the model has; none is active afterwards.

    Raises:
        AdapterError: It cannot be read or does not fit; then nothing of it is left on the model.
    """
    config, weights = read(adapter)
    inner = tuple(config.modules_to_save)
    try:
        inject(model, name, config)
    except (ModelError, UsageError) as error:
        raise AdapterError(f"adapter {adapter.path} does not fit this base model: {error}") from error
    attached = _attached(model)
    try:
        attached.heads[name] = {path: _copied(attached.originals[path], path, weights) for path in inner}
        _fill(adapter, dict(_tensors(attached, name)), weights)
    except BaseException:
        detach(model, name)
        raise
    for module in [*_adapters(attached, name).values(), *attached.heads[name].values()]:
        module.requires_grad_(False).eval()
    activate(model, None)


def activate(model: Any, name: str | None) -> None:
    """Apply the adapter ``name`` and no other; None: the base alone."""
    attached = _attached(model)
    for place in attached.places.values():
        place.active = None if name is None else attached.keys[name]
    own = {} if name is None else attached.heads[name]
    for path, original in attached.originals.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, own.get(path, original))


def detach(model: Any, name: str) -> None:
    """Take an adapter off; none is active afterwards."""
    attached = _attached(model)
    activate(model, None)
    key = attached.keys.pop(name)
    for place in attached.places.values():
        if key in place.adapters:
            del place.adapters[key]
    del attached.configs[name], attached.heads[name]


def save(model: Any, name: str, folder: Path) -> None:
    """Write an adapter as ``adapter_config.json`` and ``adapter_model.safetensors``; the same one gives equal bytes."""
    attached = _attached(model)
    write(folder, attached.configs[name], dict(_tensors(attached, name)))


def trained_parameters(model: Any, name: str) -> Iterator[torch.nn.Parameter]:
    """Yield the parameters that belong to an adapter, those of its ``modules_to_save`` included."""
    attached = _attached(model)
    for module in [*_adapters(attached, name).values(), *attached.heads[name].values()]:
        yield from module.parameters()


def _check(config: BottleneckConfig) -> None:
    if config.size < 1:
        raise UsageError(f"a bottleneck of size {config.size} holds nothing; expected a size of at least 1")
    for given, expected, what in (
        (config.activation, tuple(ACTIVATIONS), "activation"),
        (config.placement, ("both", "attention", "feedforward"), "placement"),
    ):
        if given not in expected:
            raise UsageError(f"{what} '{given}' of a bottleneck adapter is unknown; expected {', '.join(expected)}")


def _attached(model: Any) -> _Attached:
    if not hasattr(model, "_bottlenecks"):
        model._bottlenecks = _Attached()
    found: _Attached = model._bottlenecks
    return found


def _open(attached: _Attached, path: str, projection: Any) -> Place:
    place = attached.places[path] = Place()
    setattr(projection, HUNG, place)
    projection.register_forward_hook(_hook)
    return place


def _hook(projection: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
    changed: torch.Tensor = getattr(projection, HUNG)(output)
    return changed


def _submodule(model: Any, path: str) -> torch.nn.Module:
    try:
        found: torch.nn.Module = model.get_submodule(path)
    except AttributeError:
        raise ModelError(f"{type(model).__name__} has no module '{path}', which the adapter brings along") from None
    return found


def _copied(original: torch.nn.Module, path: str, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Copy a module with the shapes of the weights to come: heads differ in their number of labels."""
    module = copy.deepcopy(original)
    for inner, parameter in module.named_parameters():
        given = weights.get(f"{path}.{inner}")
        if given is not None and given.ndim == parameter.ndim:
            parameter.data = parameter.new_empty(given.shape)
    return module


def _adapters(attached: _Attached, name: str) -> dict[str, torch.nn.Module]:
    key = attached.keys[name]
    return {path: place.adapters[key] for path, place in attached.places.items() if key in place.adapters}


def _tensors(attached: _Attached, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in (_adapters(attached, name) | attached.heads[name]).items():
        yield from module.state_dict(prefix=f"{path}.").items()


def _fill(adapter: AdapterRef, own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    if missing or extra:
        raise AdapterError(
            f"adapter {adapter.path} does not match its own config or this base: weight '{(missing + extra)[0]}' is "
            f"{'missing' if missing else 'left over'}; was it trained on another model?"
        )
    with torch.no_grad():
        for path, tensor in own.items():
            if tensor.shape != weights[path].shape:
                raise AdapterError(
                    f"adapter {adapter.path} does not fit this base model: '{path}' is {tuple(weights[path].shape)}, "
                    f"expected {tuple(tensor.shape)}; was it trained on another model?"
                )
            tensor.copy_(weights[path])

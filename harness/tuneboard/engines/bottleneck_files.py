"""Files of a bottleneck adapter: ``adapter_config.json`` beside ``adapter_model.safetensors``, as peft names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from tuneboard.engines.loading import adapter_faults
from tuneboard.errors import AdapterError
from tuneboard.records import AdapterRef

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class BottleneckConfig:
    """What an adapter is made of."""

    size: int = 64
    """Width of the bottleneck, at least 1."""
    activation: str = "gelu"
    """``gelu``, ``relu`` or ``silu``."""
    placement: str = "both"
    """Behind which sublayers: ``attention``, ``feedforward`` or ``both``."""
    task_type: str = "CAUSAL_LM"
    """peft's name of what the base is loaded for: ``CAUSAL_LM``, ``SEQ_CLS`` or ``SEQ_2_SEQ_LM``."""
    base_model_name_or_path: str = ""
    modules_to_save: tuple[str, ...] = ()
    """Modules of the model that are trained and saved whole, such as a classification head."""


def write(folder: Path, config: BottleneckConfig, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write both files; equal adapters give equal bytes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stored = {"peft_type": "BOTTLENECK"} | asdict(config)
    (folder / _CONFIG).write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {path: tensor.detach().cpu().contiguous().clone() for path, tensor in sorted(tensors.items())}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})


def read(adapter: AdapterRef) -> tuple[BottleneckConfig, dict[str, torch.Tensor]]:
    """Read both files.

    Raises:
        AdapterError: One cannot be read, or the config has a value of another type.
    """
    from safetensors.torch import load_file

    with adapter_faults(adapter):
        stored = json.loads((Path(adapter.path) / _CONFIG).read_text(encoding="utf-8"))
        config = BottleneckConfig(**{f.name: _value(adapter, f.name, stored) for f in fields(BottleneckConfig)})
        return config, load_file(Path(adapter.path) / _WEIGHTS)


def _value(adapter: AdapterRef, name: str, stored: Mapping[str, Any]) -> Any:
    expected: type = {"size": int, "modules_to_save": list}.get(name, str)
    value = stored.get(name)
    if type(value) is not expected:
        raise AdapterError(
            f"the config of adapter {adapter.path} has {name} = {value!r}; expected a value of type {expected.__name__}"
        )
    return tuple(value) if isinstance(value, list) else value

"""Writes what a training made, byte for byte the same for equal weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneboard.tuning.methods._adapting import adapter_config


def save_adapter(model: Any, folder: Path) -> None:
    """Write a peft model's adapter as peft itself reads it.

    peft's ``save_pretrained`` is not used: it writes sets in the order of the process's hash seed, asks the hub whether
    the vocabulary was changed, and adds a README that is an empty form.

    Args:
        model: A ``PeftModel`` with one adapter.
        folder: Made if it is not there.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    # Cloned, since safetensors refuses tensors that share memory.
    tensors = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {**adapter_config(model).to_dict(), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, (set, frozenset)) else value for key, value in config.items()}
    if heads := plain.get("modules_to_save"):
        plain["modules_to_save"] = sorted(set(heads))  # peft adds its own names to them, also where they are
    text = json.dumps(plain, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def save_model(model: Any, folder: Path) -> None:
    """Write a whole model as transformers itself reads it.

    Args:
        model: A ``PreTrainedModel``.
        folder: Made if it is not there.
    """
    # Trainer switches the cache off in the config and leaves it so: saved like this, every token that is generated
    # would read the whole text again.
    if getattr(model.config, "use_cache", None) is False:
        model.config.use_cache = True
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)

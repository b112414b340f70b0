"""Where an adapter's requests are answered, told by its files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.vllm_adapters import place, place_files, weight_names

LORA: dict[str, Any] = {"peft_type": "LORA", "r": 16, "bias": "none"}


@pytest.mark.parametrize(
    ("changes", "route", "reason"),
    [
        ({}, "served", ""),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 64}, "alpha_pattern": {"q_proj": 4}}, "served", ""),
        ({"r": 600}, "merged", "rank 600"),
        ({"use_dora": True}, "merged", "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "merged", "modules_to_save"),
        ({"init_lora_weights": "olora"}, "merged", "OLoRA"),
        ({"init_lora_weights": "gaussian"}, "served", ""),
        ({"target_parameters": ["mlp.experts.up"]}, "merged", "single parameters"),
        ({"peft_type": "IA3"}, "merged", "IA3"),
        ({"peft_type": "PROMPT_TUNING"}, "transformers", "prompt tuning"),
        ({"peft_type": "PREFIX_TUNING"}, "transformers", "prefix tuning"),
        ({"peft_type": "BOTTLENECK"}, "transformers", "bottleneck"),
    ],
)
def test_the_config_tells_what_vllm_takes(changes: dict[str, Any], route: str, reason: str) -> None:
    found = place(LORA | changes)
    assert found.route == route and reason in found.reason


def write(folder: Path, names: list[str], config: dict[str, Any] = LORA) -> Any:
    """Write an adapter whose weights are one zero each."""
    (folder / "adapter_config.json").write_text(json.dumps(config))
    header = {n: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * len(names)))
    return resolve_adapter(str(folder))


def named(*layers: str) -> list[str]:
    return [f"base_model.model.model.layers.0.{layer}.lora_{part}.weight" for layer in layers for part in "AB"]


def test_the_layers_that_an_adapter_changes_are_read_from_its_weights(tmp_path: Path) -> None:
    adapter = write(tmp_path, named("self_attn.q_proj", "mlp.up_proj"), LORA | {"rank_pattern": {"q_proj": 20}})
    found = place_files(adapter)
    assert (found.route, found.rank, found.layers) == ("served", 20, frozenset({"q_proj", "up_proj"}))


@pytest.mark.parametrize("layer", ["lm_head", "model.embed_tokens"])
def test_an_adapter_on_the_vocabulary_is_merged(tmp_path: Path, layer: str) -> None:
    names = [f"base_model.model.{layer}.lora_{part}" for part in ("embedding_A", "embedding_B")]
    # peft saves the layer itself too.
    names.append(f"base_model.model.{layer}.base_layer.weight")
    found = place_files(write(tmp_path, [*named("self_attn.q_proj"), *names]))
    assert found.route == "merged" and layer.split(".")[-1] in found.reason


def test_an_adapter_with_whole_layers_that_its_config_does_not_name_goes_to_transformers(tmp_path: Path) -> None:
    names = [*named("self_attn.q_proj"), "base_model.model.model.embed_tokens.weight"]
    assert place_files(write(tmp_path, names)).route == "transformers"


def test_names_of_weights_are_those_that_safetensors_wrote(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a.weight": torch.zeros(2), "b": torch.ones(3)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert sorted(weight_names(tmp_path / "x.safetensors")) == ["a.weight", "b"]

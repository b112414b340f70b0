"""What vLLM can do with an adapter, told by its files alone; imports neither torch nor vLLM.

vLLM 0.26 to 0.33 serve LoRA, rsLoRA, patterns of ranks and alphas. DoRA and trainable tokens ended a worker process
when they were met in mid-run, so that what is refused has to be known before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard.engines.mergeable import MERGEABLE
from tuneboard.engines.vllm_settings import LORA_RANKS, fitting_rank
from tuneboard.records import AdapterRef

#: Initialisations that change the base's weights too.
_MOVES_BASE = ("pissa", "olora", "corda", "loftq")
#: Layers over the vocabulary. vLLM has left an adapter's part of them out without a word.
HEADS = ("lm_head", "embed_out", "embed_tokens", "wte", "embed_in", "word_embeddings")
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Route = Literal["served", "merged", "transformers"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an adapter's requests are answered.

    Attributes:
        route: ``served`` beside the base, ``merged`` into a temporary checkpoint of its own, or ``transformers``: the
            other engine.
        reason: Why it is not served as it is.
        rank: Its highest rank, where it is served.
        layers: Names of the layers that it changes, such as ``q_proj``; where it is served.
    """

    route: Route
    reason: str = ""
    rank: int = 0
    layers: frozenset[str] = frozenset()


def place(config: Mapping[str, Any]) -> Placement:
    """Tell by an adapter's config alone what vLLM can do with it.

    Args:
        config: Content of ``adapter_config.json``.
    """
    peft_type = str(config.get("peft_type", "")).upper()
    if peft_type not in MERGEABLE:
        name = peft_type.lower().replace("_", " ")
        return Placement("transformers", f"{name} adapters can neither be served nor merged")
    if peft_type != "LORA":
        return Placement("merged", f"{peft_type} adapters are refused")
    if reasons := _unusual(config):
        return Placement("merged", f"LoRA with {', '.join(reasons)} is refused")
    rank = max([int(config.get("r", 0)), *map(int, (config.get("rank_pattern") or {}).values())])
    if fitting_rank(rank) is None:
        return Placement("merged", f"rank {rank} is above {LORA_RANKS[-1]}, the highest it takes")
    return Placement("served", rank=rank)


def place_files(adapter: AdapterRef) -> Placement:
    """Tell by an adapter's config and the names of its weights what vLLM can do with it."""
    folder = Path(adapter.path)
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    found = place(config)
    if found.route != "served":
        return found
    if not (folder / _WEIGHTS).is_file():
        return Placement("merged", "pickled weights are refused")
    layers = _layers(weight_names(folder / _WEIGHTS))
    if None in layers:
        return Placement(
            "transformers", "it brings whole layers that its config does not name, as a new vocabulary does"
        )
    named = frozenset(name for name in layers if name)
    if heads := sorted(named.intersection(HEADS)):
        return Placement("merged", f"it changes {heads[0]}, which vLLM has left out silently")
    return Placement("served", rank=found.rank, layers=named)


def weight_names(path: Path) -> list[str]:
    """Read the names of the tensors in a safetensors file from its header: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return [name for name in json.loads(file.read(length)) if name != "__metadata__"]


def _layers(names: Collection[str]) -> set[str | None]:
    """Return the last name of each layer that has a LoRA; None among them where a weight is no part of one.

    Of layers over the vocabulary peft saves the base's weights beside the LoRA; they count as part of it.
    """
    split = [name.partition(".lora_") for name in names]
    adapted = {layer for layer, lora, _ in split if lora}
    whole = {name.removesuffix(".weight").removesuffix(".base_layer") for name, lora, _ in split if not lora}
    found: set[str | None] = {layer.rpartition(".")[2] for layer in adapted}
    return found | ({None} if whole - adapted else set())


def _unusual(config: Mapping[str, Any]) -> list[str]:
    """Name what a LoRA has beside its two factors."""
    start = str(config.get("init_lora_weights", "")).lower()
    moved = next((name for name in _MOVES_BASE if start.startswith(name)), "")
    found = {
        "DoRA": config.get("use_dora"),
        "modules_to_save": config.get("modules_to_save"),
        "trainable tokens": config.get("trainable_token_indices"),
        "biases": config.get("bias", "none") not in (None, "none") or config.get("lora_bias"),
        "single parameters": config.get("target_parameters"),
        "activation tokens": config.get("alora_invocation_tokens"),
        {"pissa": "PiSSA", "olora": "OLoRA", "corda": "CorDA", "loftq": "LoftQ"}.get(moved, ""): moved,
    }
    return [name for name, there in found.items() if there]

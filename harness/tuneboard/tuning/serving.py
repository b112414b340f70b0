"""Which serving engine can take what the fine-tuning stage makes; reads configs only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard.tuning.folders import ADAPTER_CONFIG
from tuneboard.tuning.records import ModelKind

#: Values that vLLM takes for ``--max-lora-rank``; its default is 16.
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_VLLM_DEFAULT_RANK = 16

#: peft's types that change weights by something that can be added to or multiplied into them.
MERGEABLE = ("LORA", "IA3", "ADALORA", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "FOURIERFT", "HRA", "LN_TUNING")

Takes = Literal["as it is", "merged", "no"]


@dataclass(frozen=True, slots=True)
class Serving:
    """Whether one engine can serve a candidate."""

    engine: str
    takes: Takes
    """``merged``: after ``tuneboard merge``."""
    note: str = ""
    """What it needs, or why not."""

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{self.engine}: {self.takes}" + (f" ({self.note})" if self.note else "")


def serving(config: Mapping[str, Any] | None, kind: ModelKind) -> tuple[Serving, ...]:
    """Tell what each engine can do with a candidate.

    vLLM 0.32 served LoRA, rsLoRA and LoRA on some modules or layers as they are. DoRA and trainable tokens ended its
    process when they were met in mid-run, so that what it does not take has to be known before.

    Args:
        config: Content of the candidate's ``adapter_config.json``; None for a full checkpoint.
        kind: What the model is for.
    """
    return Serving("transformers", "as it is"), _vllm(config, kind)


def serving_of(folder: Path, kind: ModelKind) -> tuple[Serving, ...]:
    """Tell what each engine can do with the candidate that lies in a folder."""
    path = folder / ADAPTER_CONFIG
    return serving(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None, kind)


def summary() -> tuple[str, str]:
    """Say in one line what each engine takes of all that can be made, and in another what to do about the rest."""
    return (
        f"transformers: everything; vllm: full checkpoints, and LoRA up to rank {VLLM_RANKS[-1]}",
        "for vllm: tuneboard merge (DoRA, IA3); the rest runs in transformers only",
    )


def _vllm(config: Mapping[str, Any] | None, kind: ModelKind) -> Serving:
    if kind != "causal":
        return Serving("vllm", "no", f"{kind} models run in the transformers engine only")
    if config is None:
        return Serving("vllm", "as it is", "a full checkpoint is a model of its own")
    peft_type = str(config.get("peft_type", "")).upper()
    if peft_type not in MERGEABLE:
        name = peft_type.lower().replace("_", " ")
        return Serving("vllm", "no", f"{name} adapters can neither be served nor merged")
    if peft_type != "LORA":
        return Serving("vllm", "merged", f"{peft_type} adapters are refused")
    if reasons := _unusual(config):
        return Serving("vllm", "merged", f"LoRA with {', '.join(reasons)} is refused")
    rank = max([int(config.get("r", 0)), *map(int, (config.get("rank_pattern") or {}).values())])
    fitting = next((most for most in VLLM_RANKS if most >= rank), None)
    if fitting is None:
        return Serving("vllm", "merged", f"rank {rank} is above {VLLM_RANKS[-1]}, the highest it takes")
    needs = f", --max-lora-rank {fitting}" if fitting > _VLLM_DEFAULT_RANK else ""
    return Serving("vllm", "as it is", f"--enable-lora{needs}")


def _unusual(config: Mapping[str, Any]) -> list[str]:
    """Name what a LoRA has beside its two factors."""
    start = str(config.get("init_lora_weights", "")).lower()
    found = {
        "DoRA": config.get("use_dora"),
        "modules_to_save": config.get("modules_to_save"),
        "trainable tokens": config.get("trainable_token_indices"),
        "biases": config.get("bias", "none") not in (None, "none") or config.get("lora_bias"),
        "PiSSA": start.startswith("pissa"),
    }
    return [name for name, there in found.items() if there]

"""Which serving engine can take what the fine-tuning stage makes; reads configs only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard.engines.vllm_adapters import Route, place
from tuneboard.engines.vllm_settings import LORA_RANKS, fitting_rank
from tuneboard.tuning.folders import ADAPTER_CONFIG
from tuneboard.tuning.records import ModelKind

#: The rank that vLLM takes where ``--max-lora-rank`` is not given.
_VLLM_DEFAULT_RANK = 16

Takes = Literal["as it is", "merged", "no"]
_TAKES: Mapping[Route, Takes] = {"served": "as it is", "merged": "merged", "transformers": "no"}


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
        f"transformers: everything; vllm: full checkpoints, and LoRA up to rank {LORA_RANKS[-1]}",
        "for vllm: tuneboard merge (DoRA, IA3); the rest runs in transformers only",
    )


def _vllm(config: Mapping[str, Any] | None, kind: ModelKind) -> Serving:
    if kind != "causal":
        return Serving("vllm", "no", f"{kind} models run in the transformers engine only")
    if config is None:
        return Serving("vllm", "as it is", "a full checkpoint is a model of its own")
    found = place(config)
    if found.route != "served":
        return Serving("vllm", _TAKES[found.route], found.reason)
    fitting = fitting_rank(found.rank) or 0
    needs = f", --max-lora-rank {fitting}" if fitting > _VLLM_DEFAULT_RANK else ""
    return Serving("vllm", "as it is", f"--enable-lora{needs}")

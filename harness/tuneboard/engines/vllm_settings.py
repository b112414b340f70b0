"""What a vLLM engine is started with, from records alone; imports nothing of vLLM.

The names are those of vLLM 0.26 to 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneboard.errors import ModelError
from tuneboard.records import ModelRef

#: Values that vLLM takes for ``max_lora_rank``.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: Adapters whose weights stand ready on the device, where there are more. On one thread of a CPU as on a GPU, a slot
#: that is empty costs memory and no time.
MOST_LORAS = 8
#: Tokens of one key-value block: the prefix cache works in whole ones. vLLM's own choice on a CPU is 128, at which
#: short prompts share nothing; see ``vllm_cpu_blocks`` for where they are smaller still.
CPU_BLOCK = 32
#: Tokens of one request that go through a GPU in one step, so that the logits of a long text (4 bytes a token and word
#: of the vocabulary, twice) fit beside what vLLM has reserved.
_GPU_CHUNK = 2048
#: By name, since what starts without torch reads this module.
_CPU_LORA = "tuneboard.engines.vllm_cpu_lora.Grouped"
_QUANTIZATIONS = {"4bit": "bitsandbytes", "fp8": "fp8", "awq": "awq", "gptq": "gptq"}


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What only vLLM knows, beside ``loading.LoadOptions``."""

    tensor_parallel: int = 1
    """GPUs that share each layer."""
    data_parallel: int = 1
    """Copies of the model, which share the requests."""
    memory_share: float = 0.85
    """Part of each GPU's memory that vLLM takes, 0 to 1."""
    cache_gib: int = 1
    """On a CPU: memory for keys and values, in GiB."""
    eager: bool = False
    """Whether to run without compilation and CUDA graphs: starts faster, answers slower."""
    seed: int = 0
    """For sampling where a request brings no seed of its own; all of tuneboard's do."""
    max_loras: int | None = None
    """Adapters ready on the device at a time; None: as many as there are, at most 8."""
    worker_process: bool | None = None
    """Whether the model lives in a process of its own; None: on a GPU."""


@dataclass(frozen=True, slots=True)
class LoraNeeds:
    """What the adapters that vLLM serves ask of it."""

    count: int = 0
    """Adapters over the engine's life."""
    rank: int = 0
    """Highest rank among them."""
    layers: tuple[str, ...] = ()
    """Names of the layers that they change."""
    slots: int = 0
    """Adapters ready at a time."""
    base_apart: bool = False
    """Whether requests of the base must not share a batch with adapters."""


def lora_needs(ranks: Sequence[int], layers: Sequence[str], settings: VllmSettings, on_cpu: bool) -> LoraNeeds:
    """Choose the slots for adapters.

    vLLM's CPU kernels answer requests of the base with the adapter of the last slot once all slots are taken (measured
    with 0.32: wrong by 1 nat, and so in the prefix cache); there one more slot stays free, or the base goes alone.

    Args:
        ranks: Of every adapter.
        layers: Names of the layers that any of them changes.
        settings: May name the number of slots.
        on_cpu: Whether the engine runs on a CPU.
    """
    if not ranks:
        return LoraNeeds()
    count, most = len(ranks), settings.max_loras or MOST_LORAS
    if not on_cpu:
        return LoraNeeds(count, max(ranks), tuple(layers), min(count, most))
    one_free = count < most if settings.max_loras else count <= most
    slots = count + 1 if one_free else most
    return LoraNeeds(count, max(ranks), tuple(layers), slots, base_apart=not one_free)


def fitting_rank(rank: int) -> int | None:
    """Return the smallest ``max_lora_rank`` that takes a rank; None where it is too high."""
    return next((most for most in LORA_RANKS if most >= rank), None)


def quantization(ref: ModelRef) -> str | None:
    """Translate a model's quantization into vLLM's name for it.

    Raises:
        ModelError: vLLM cannot load in that way.
    """
    if ref.quantization is None:
        return None
    if ref.quantization not in _QUANTIZATIONS:
        raise ModelError(
            f"vLLM does not load weights in {ref.quantization}; it knows {', '.join(_QUANTIZATIONS)}: give one of "
            "them, or --engine transformers"
        )
    return _QUANTIZATIONS[ref.quantization]


def data_type(ref: ModelRef) -> str:
    """Return a model's data type as vLLM takes it.

    Raises:
        ModelError: vLLM does not compute in it.
    """
    if ref.dtype == "float64":
        raise ModelError("vLLM does not compute in float64; give --dtype float32, or --engine transformers")
    return ref.dtype


def engine_arguments(
    ref: ModelRef, max_length: int, settings: VllmSettings, loras: LoraNeeds, on_cpu: bool
) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``.

    Args:
        ref: The model.
        max_length: Context length in tokens. vLLM gets one more, for the token that is only predicted.
        settings: What the user chose.
        loras: What the adapters need.
        on_cpu: Whether the engine runs on a CPU.

    Raises:
        ModelError: The quantization or the data type is unknown to vLLM.
    """
    arguments: dict[str, Any] = {
        "model": ref.id,
        "revision": ref.revision,
        "tokenizer_revision": ref.revision,
        "dtype": data_type(ref),
        "quantization": quantization(ref),
        "max_model_len": max_length + 1,
        "tensor_parallel_size": settings.tensor_parallel,
        "seed": settings.seed,
        "enforce_eager": settings.eager or on_cpu,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # The checkpoint's own sampling defaults are read by tuneboard, for all engines alike.
        "generation_config": "vllm",
        "load_format": "auto",
    }
    if on_cpu:
        arguments["block_size"] = CPU_BLOCK
    else:
        arguments |= {"gpu_memory_utilization": settings.memory_share, "long_prefill_token_threshold": _GPU_CHUNK}
    if loras.count:
        arguments |= {
            "enable_lora": True,
            "max_loras": loras.slots,
            "max_cpu_loras": max(loras.count, loras.slots),
            "max_lora_rank": fitting_rank(loras.rank),
            # All but the LM head: with it, LoRA and prompt log-probabilities together end the CPU engine.
            "lora_target_modules": list(loras.layers),
        }
        if on_cpu:
            arguments["worker_extension_cls"] = _CPU_LORA
    return arguments


def environment(max_length: int, own_length: int, settings: VllmSettings, on_cpu: bool) -> Mapping[str, str]:
    """Return the environment variables that vLLM is started under.

    Args:
        max_length: Context length in tokens that requests may fill.
        own_length: What the model's config names.
        settings: What the user chose.
        on_cpu: Whether the engine runs on a CPU.
    """
    own_process = settings.worker_process if settings.worker_process is not None else not on_cpu
    own_process |= settings.data_parallel > 1
    chosen = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(own_process)),
        # A fork would inherit the locks of whatever thread holds one at that moment.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # An open report says that the V2 runner gives prompt log-probabilities of other tokens.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
    }
    if max_length + 1 > own_length:
        # The one token more is predicted, never fed: no position beyond the context is computed.
        chosen["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    if on_cpu:
        chosen["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cache_gib)
        # Small functions of vLLM's sampler are compiled at their first call otherwise, 10 s and more, eager or not.
        chosen["TORCHDYNAMO_DISABLE"] = "1"
    return chosen


def devices(settings: VllmSettings, visible: Sequence[str], on_cpu: bool) -> tuple[str, ...]:
    """Deal GPUs to the copies of a model.

    Args:
        settings: How many copies, and how many GPUs each.
        visible: Names of the GPUs that may be used.
        on_cpu: Whether the engine runs on a CPU; then there is nothing to deal.

    Returns:
        One entry per copy, as in ``CUDA_VISIBLE_DEVICES``; empty where the copy may see all.

    Raises:
        ModelError: There are too few.
    """
    copies, each = settings.data_parallel, settings.tensor_parallel
    if on_cpu or copies == 1:
        return ("",) * copies
    if len(visible) < copies * each:
        raise ModelError(
            f"{copies} copies on {each} GPU each need {copies * each}, and there are {len(visible)}; give a smaller "
            "--data-parallel or --tensor-parallel"
        )
    return tuple(",".join(visible[copy * each : (copy + 1) * each]) for copy in range(copies))

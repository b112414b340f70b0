"""vLLM's faults in one line each, with the setting that mends them."""

from __future__ import annotations

from tuneboard.engines.vllm_log import ProcessLog
from tuneboard.engines.vllm_settings import VllmSettings
from tuneboard.errors import EngineError, ModelError, OutOfMemory
from tuneboard.records import ModelRef

_NO_ROOM = ("out of memory", "outofmemory", "cannot allocate memory", "can't allocate memory", "not enough memory")
_NOT_FREE = ("free memory on device", "less than desired gpu memory utilization")
_NO_CACHE = (
    "no available memory for the cache blocks",
    "larger than the available kv cache memory",
    "kv cache is needed",
)
_UNKNOWN = ("are not supported for now", "failed to be inspected", "has no vllm implementation")
_NO_QUANTIZATION = ("unknown quantization method", "quantization method", "invalid choice")


class WorkerLost(EngineError):
    """A worker process of vLLM ended by itself, or was killed; another one can take its place."""


def start_fault(ref: ModelRef, error: BaseException, log: ProcessLog, settings: VllmSettings) -> ModelError:
    """Say why vLLM did not start.

    Args:
        ref: The model.
        error: What was raised in this process.
        log: What was printed, by worker processes too.
        settings: What it was started with.
    """
    text = f"{error}\n{log.text()}".lower()
    if any(sign in text for sign in _NOT_FREE):
        return ModelError(
            f"the GPU has less memory free than vLLM is to take ({settings.memory_share:.0%} of it): end what else "
            "uses it, or give a smaller --gpu-memory"
        )
    if any(sign in text for sign in _NO_CACHE):
        return ModelError(
            f"{ref.id} fits, but not the keys and values of its whole context: give a smaller --max-length, a "
            f"--gpu-memory above {settings.memory_share:g}, or more GPUs with --tensor-parallel"
        )
    if any(sign in text for sign in _NO_ROOM):
        return ModelError(
            f"out of memory while vLLM loaded {ref.id}: give --quantization fp8, more GPUs with --tensor-parallel, "
            "or a smaller --max-length"
        )
    if any(sign in text for sign in _UNKNOWN):
        return ModelError(f"vLLM does not know the architecture of {ref.id}; give --engine transformers")
    if ref.quantization and any(sign in text for sign in _NO_QUANTIZATION):
        other = "" if ref.quantization == "fp8" else "--quantization fp8 on a GPU, or "
        return ModelError(
            f"the installed vLLM does not load weights in {ref.quantization} here; give {other}--engine transformers"
        )
    return ModelError(f"vLLM does not start with {ref.id}: {log.cause() or first_line(error)}")


def run_fault(error: BaseException, log: ProcessLog) -> EngineError:
    """Say what ended vLLM in mid-run; answers that were given before are kept by whoever asked.

    Args:
        error: What was raised in this process.
        log: What was printed, by worker processes too.
    """
    if any(sign in f"{error}\n{log.text()}".lower() for sign in _NO_ROOM):
        return OutOfMemory(
            "out of memory in vLLM: give a smaller --gpu-memory, which leaves more beside the cache, or a smaller "
            "--max-length; the same command goes on from what was answered"
        )
    ended = type(error).__name__ in ("EngineDeadError", "WorkerEnded")
    cause = log.cause() or ("it was killed" if ended else first_line(error))
    kind, what = (WorkerLost, "vLLM's worker process ended") if ended else (EngineError, "vLLM failed")
    return kind(f"{what} ({cause}); what was answered is kept, and the same command goes on from there")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]

"""What goes wrong in vLLM, in one line with the setting that mends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tuneboard.engines.vllm_faults import run_fault, start_fault
from tuneboard.engines.vllm_log import ProcessLog
from tuneboard.engines.vllm_settings import VllmSettings
from tuneboard.errors import OutOfMemory
from tuneboard.records import ModelRef

REF = ModelRef("model")


class EngineDeadError(Exception):
    """Named as vLLM's own."""


@pytest.fixture
def log() -> Iterator[ProcessLog]:
    made = ProcessLog()
    yield made
    made.remove()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB", "--quantization fp8"),
        (
            "ValueError: Free memory on device cuda:0 (3/80 GiB) is less than desired GPU memory utilization",
            "smaller --gpu-memory",
        ),
        ("ValueError: No available memory for the cache blocks.", "smaller --max-length"),
        ("ValueError: 9 GiB KV cache is needed, which is larger than the available KV cache memory", "--max-length"),
        ("ValueError: Model architectures ['X'] are not supported for now.", "--engine transformers"),
        ("RuntimeError: the moon is full", "RuntimeError: the moon is full"),
    ],
)
def test_why_vllm_does_not_start_is_read_from_what_its_worker_printed(text: str, wanted: str, log: ProcessLog) -> None:
    log.path.write_text(
        f"(EngineCore) ERROR {text}\nRuntimeError: Engine core initialization failed. See root cause above"
    )
    line = str(start_fault(REF, RuntimeError("Engine core initialization failed."), log, VllmSettings()))
    assert wanted in line and "\n" not in line


def test_a_quantization_that_the_installed_version_lacks_is_named(log: ProcessLog) -> None:
    ref = ModelRef("model", quantization="4bit")
    error = ValueError("Unknown quantization method: bitsandbytes. Must be one of ['awq']")
    assert "does not load weights in 4bit" in str(start_fault(ref, error, log, VllmSettings()))
    assert "fp8 on a GPU, or --engine transformers" in str(start_fault(ref, error, log, VllmSettings()))
    same = str(start_fault(ModelRef("m", quantization="fp8"), error, log, VllmSettings()))
    assert "in fp8 here; give --engine transformers" in same


def test_a_killed_worker_is_said_and_how_to_go_on(log: ProcessLog) -> None:
    line = str(run_fault(EngineDeadError("EngineCore encountered an issue."), log))
    assert "worker process ended (it was killed)" in line and "the same command goes on" in line


def test_a_worker_that_ran_out_of_memory_is_told_by_what_it_printed(log: ProcessLog) -> None:
    log.path.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    fault = run_fault(EngineDeadError("EngineCore encountered an issue."), log)
    assert isinstance(fault, OutOfMemory) and "--gpu-memory" in str(fault)


def test_the_first_error_that_says_something_is_the_cause(log: ProcessLog) -> None:
    log.path.write_text("(EngineCore) KeyError: 'weight'\nRuntimeError: Engine core initialization failed.\n")
    assert log.cause() == "KeyError: 'weight'"


def test_what_is_printed_in_any_language_and_process_is_kept_off_the_streams(
    log: ProcessLog, capfd: pytest.CaptureFixture[str]
) -> None:
    print("before")
    with log.capturing():
        os.write(1, b"from C\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
    assert all(words in log.text() for words in ("from C", "from a child"))

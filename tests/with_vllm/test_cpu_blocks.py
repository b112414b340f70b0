"""Blocks of 16 tokens in vLLM's prefix cache: where they are, that they save work, and that scores stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from with_vllm.both import World, device, evaluate, largest_difference

from tuneboard.engines import vllm_host
from tuneboard.engines.vllm_cpu_blocks import install, smaller_blocks

ARGUMENTS = {"block_size": 32, "tensor_parallel_size": 1, "dtype": "float32"}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """vLLM's attention for CPUs as it came, as on a processor of the plain kind."""
    if device() != "cpu":
        pytest.skip("vLLM runs on a GPU here, and chooses the blocks itself")
    from vllm.v1.attention.backend import MultipleOf
    from vllm.v1.attention.backends import cpu_attn

    backend = cpu_attn.CPUAttentionBackend
    monkeypatch.setattr(backend, "get_supported_kernel_block_sizes", staticmethod(lambda *of: [MultipleOf(32)]))
    monkeypatch.setattr(cpu_attn, "_get_attn_isa", lambda dtype, size: "vec" if size == 32 else "vec16")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    yield cpu_attn


def allowed(kernels: ModuleType) -> int:
    (size,) = kernels.CPUAttentionBackend.get_supported_kernel_block_sizes(None)
    return int(size.base)


def test_a_model_in_this_process_gets_blocks_of_16(kernels: ModuleType) -> None:
    assert smaller_blocks(ARGUMENTS) == {"block_size": 16} == smaller_blocks(ARGUMENTS)
    assert allowed(kernels) == 16


@pytest.mark.parametrize("change", [{"block_size": 64}, {"tensor_parallel_size": 2}])
def test_what_lives_elsewhere_or_was_chosen_stays(kernels: ModuleType, change: dict[str, Any]) -> None:
    assert smaller_blocks(ARGUMENTS | change) == {}
    assert allowed(kernels) == 32


def test_a_worker_process_keeps_blocks_of_32(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    assert smaller_blocks(ARGUMENTS) == {} and allowed(kernels) == 32


@pytest.mark.parametrize("kernel", ["amx", "neon", None])
def test_other_kernels_and_other_versions_are_left_alone(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, kernel: str | None
) -> None:
    if kernel:
        monkeypatch.setattr(kernels, "_get_attn_isa", lambda dtype, size: kernel)
    else:
        monkeypatch.delattr(kernels, "_get_attn_isa")
    assert not install("auto") and allowed(kernels) == 32


def test_they_find_more_prefixes_and_change_no_score(
    make_world: Callable[..., World], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device() != "cpu":
        pytest.skip("vLLM runs on a GPU here, and chooses the blocks itself")
    if not install("float32"):
        pytest.skip("vLLM has other attention kernels for this processor")
    words = ["--tasks", "hellaswag,truthfulqa_mc1", "--limit", "6", "--mirror", mirror, "--dtype", "float32"]
    small = evaluate(tmp_path / "16.duckdb", "vllm", make_world(0.08).candidates, *words)
    monkeypatch.setattr(vllm_host, "smaller_blocks", lambda arguments: {})
    usual = evaluate(tmp_path / "32.duckdb", "vllm", make_world(0.08).candidates, *words)
    largest, other = largest_difference(small, usual)
    assert largest < 1e-4 and other == 0
    computed = [
        sum(cell["tokens"]["computed"] for cell in one.cells if cell["kind"] == "task") for one in (small, usual)
    ]
    assert computed[0] < 0.9 * computed[1]

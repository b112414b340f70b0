"""LoRA adapter by adapter against vLLM's own operations, on the same numbers."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

ROWS, WIDTH, RANK, OUT, SLOTS = 137, 24, 8, 40, 4


@pytest.fixture
def operations() -> Iterator[ModuleType]:
    """vLLM's module of operations, as it came, and again as it came afterwards."""
    from tuneboard.engines import vllm_cpu_lora

    modules = [importlib.import_module(name) for name in (vllm_cpu_lora._OPERATIONS, *vllm_cpu_lora._CALLERS)]
    names = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
    before = [(module, name, getattr(module, name)) for module in modules for name in names]
    for module, name, value in before:
        setattr(module, name, inspect.unwrap(value))
    yield modules[0]
    for module, name, value in before:
        setattr(module, name, value)


def results(operations: ModuleType, slots: list[int], together: bool, dtype: Any) -> list[Any]:
    """What the operations, and those for prompts that call them, write for rows of the slots, in turn or in runs."""
    import torch

    torch.manual_seed(0)
    x, start = torch.randn(ROWS, WIDTH, dtype=dtype), torch.randn(ROWS, OUT, dtype=dtype)
    a, b = torch.randn(SLOTS, 1, RANK, WIDTH, dtype=dtype), torch.randn(SLOTS, 1, OUT - 7, RANK, dtype=dtype)
    # As vLLM keeps it while a slot is free: what rows without an adapter meet adds nothing.
    a[-1], b[-1] = 0, 0
    places = torch.arange(ROWS)
    indices = torch.tensor(slots)[places * len(slots) // ROWS if together else places % len(slots)]
    shrunk = torch.zeros(ROWS, RANK)
    operations.bgmv_shrink(x, a, shrunk, indices, 0.5)
    added, written, sliced, prompts = start.clone(), start.clone(), start.clone(), start.clone()
    operations.bgmv_expand(shrunk, b, added, indices, True)
    operations.bgmv_expand(shrunk, b, written, indices, False)
    operations.bgmv_expand_slice(shrunk, b, sliced, indices, 7, OUT - 7, True)
    lengths = torch.ones(ROWS, dtype=torch.long)
    operations.sgmv_expand(shrunk, b, prompts, lengths, lengths, indices, ROWS, 1, ROWS, True)
    return [shrunk, added, written, sliced, prompts]


@pytest.mark.parametrize("slots", [[0], [2], [0, 1, 2], [-1], [1, -1, 0]])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_adapter_by_adapter_gives_what_token_by_token_gives(
    operations: ModuleType, slots: list[int], together: bool, kind: str
) -> None:
    import torch

    from tuneboard.engines.vllm_cpu_lora import install

    dtype = getattr(torch, kind)
    theirs = results(operations, slots, together, dtype)
    assert install() and operations.bgmv_shrink.__wrapped__
    for one, other in zip(results(operations, slots, together, dtype), theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_of_the_base_stay_as_they_are_where_every_slot_is_taken(operations: ModuleType) -> None:
    import torch

    from tuneboard.engines.vllm_cpu_lora import install

    assert install()
    low, weights, out = torch.randn(4, RANK), torch.randn(SLOTS, 1, OUT, RANK), torch.zeros(4, OUT)
    operations.bgmv_expand(low, weights, out, torch.tensor([SLOTS - 1, -1, 0, -1]), True)
    assert [bool(row.any()) for row in out] == [True, False, True, False]


def test_rows_that_stand_for_others_are_left_to_vllm(operations: ModuleType) -> None:
    import torch

    from tuneboard.engines.vllm_cpu_lora import install

    x, weights, indices = torch.randn(1, RANK), torch.randn(SLOTS, 1, OUT, RANK), torch.tensor([1])
    theirs, ours = torch.zeros(5, OUT), torch.zeros(5, OUT)
    operations.bgmv_expand(x, weights, theirs, indices, True)
    assert install()
    operations.bgmv_expand(x, weights, ours, indices, True)
    assert theirs.any() and torch.equal(ours, theirs)


def test_operations_with_other_arguments_stay(operations: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneboard.engines.vllm_cpu_lora import install

    def newer(inputs: Any, weights: Any, output: Any, indices: Any) -> None: ...

    monkeypatch.setattr(operations, "bgmv_shrink", newer)
    assert not install() and operations.bgmv_shrink is newer

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_models import MakeModel

from tuneboard.errors import ModelError, UsageError
from tuneboard.tuning import memory
from tuneboard.tuning.memory import MemoryEstimate, check_memory, free_memory
from tuneboard.tuning.methods import find_method


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a 7B Llama; its weights are never there."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("7b")
    LlamaConfig(dtype="bfloat16").save_pretrained(folder)
    return folder


def estimate(
    model: Path,
    method: str,
    free: float,
    monkeypatch: pytest.MonkeyPatch,
    max_length: int = 1024,
    **training: object,
) -> MemoryEstimate:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    monkeypatch.setattr(memory, "choose_precision", lambda *args: "bfloat16")
    given = tiny.recipe(model, method, max_length=max_length, **training)
    return check_memory(given, find_method(method), "causal")


def test_sizes_of_a_7b_model_are_those_of_the_literature(seven_billion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6.74e9 weights: 16 bytes each for AdamW in mixed precision (Rajbhandari et al. 2020, section 3.1: K + 4 = 16)."""
    full = estimate(seven_billion, "full", 1e6, monkeypatch)
    assert full.weights + full.gradients + full.optimizer == pytest.approx(6.738e9 * 16 / 2**30, rel=0.01)
    lora = estimate(seven_billion, "lora", 1e6, monkeypatch)
    assert lora.weights == pytest.approx(6.738e9 * 2 / 2**30, rel=0.01) and lora.optimizer < 0.1
    qlora = estimate(seven_billion, "qlora", 1e6, monkeypatch)
    assert 3.4 < qlora.weights < 4.5


def test_too_little_memory_is_said_before_loading_with_what_would_fit(
    seven_billion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ModelError, match=r"needs about \d+\.\d GiB .* and 24\.0 GiB are free; what would fit: "
    ) as said:
        estimate(seven_billion, "full", 24.0, monkeypatch)
    assert "method: lora" in str(said.value) and "method: qlora" in str(said.value)
    with pytest.raises(ModelError, match="batch_size: ") as said:
        estimate(seven_billion, "lora", 24.0, monkeypatch, batch_size=16)
    assert "gradient_checkpointing: true" in str(said.value)
    with pytest.raises(ModelError, match="a smaller base, or a larger machine, is needed"):
        estimate(seven_billion, "lora", 1.0, monkeypatch)


def test_what_is_advised_is_then_accepted(seven_billion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="gradient_checkpointing: true"):
        estimate(seven_billion, "lora", 24.0, monkeypatch, batch_size=16)
    fits = estimate(seven_billion, "lora", 24.0, monkeypatch, batch_size=1, gradient_checkpointing=True)
    assert fits.total < 24


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of four of the 7B Llama's layers."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("wide")
    LlamaConfig(dtype="bfloat16", num_hidden_layers=4).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("method", "free", "training"),
    [
        ("lora", 8.0, {"batch_size": 16}),
        ("lora", 8.0, {"batch_size": 16, "gradient_checkpointing": True}),
        ("lora", 2.8, {"batch_size": 1}),
        ("lora", 2.4, {"batch_size": 6, "gradient_checkpointing": True, "gradient_accumulation": 3}),
        ("full", 18.5, {"batch_size": 4}),
        ("full", 4.0, {"batch_size": 4}),
        ("prefix", 4.0, {"batch_size": 8}),
        ("qlora", 2.2, {"batch_size": 4}),
    ],
)
def test_all_that_is_advised_changes_something_and_would_fit(
    wide: Path, monkeypatch: pytest.MonkeyPatch, method: str, free: float, training: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="what would fit: ") as said:
        estimate(wide, method, free, monkeypatch, **training)
    now = {"method": method, "data.max_length": 1024} | {f"training.{key}": value for key, value in training.items()}
    for way in str(said.value).partition("what would fit: ")[2].split("; "):
        changes = dict(setting.split(": ") for setting in way.split(", "))
        changes = {key: value if key == "method" else json.loads(value) for key, value in changes.items()}
        assert all(now.get(key) != value for key, value in changes.items()), way
        then = now | changes
        settings = {key.removeprefix("training."): value for key, value in then.items() if key.startswith("training.")}
        fits = estimate(wide, then["method"], free, monkeypatch, max_length=then["data.max_length"], **settings)
        assert fits.total <= free, way


def test_a_method_that_cannot_recompute_is_not_told_to(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError) as said:
        estimate(wide, "prefix", 4.0, monkeypatch, batch_size=8)
    own = [way for way in str(said.value).partition("what would fit: ")[2].split("; ") if "method:" not in way]
    assert own and all("gradient_checkpointing" not in way for way in own)


def test_a_target_that_the_model_lacks_is_said_before_loading(seven_billion: Path) -> None:
    given = tiny.recipe(seven_billion, options={"targets": ["w_pack"]})
    with pytest.raises(UsageError, match="w_pack"):
        check_memory(given, find_method("lora"), "causal")


@pytest.mark.parametrize("kind", ["causal", "classification", "seq2seq"])
@pytest.mark.parametrize("method", ["lora", "full", "ia3", "prefix"])
def test_all_kinds_of_small_models_fit(kind: str, method: str, tiny_model: MakeModel) -> None:
    given = tiny.recipe(tiny_model(tiny.MODELS[kind]), method)
    found = check_memory(given, find_method(method), kind)
    assert 0 < found.total < 0.1 < found.free
    parameters = {"causal": 25_000, "classification": 30_000, "seq2seq": 53_000}[kind]
    assert found.weights * 2**30 == pytest.approx(4 * parameters, rel=0.3)


def test_free_memory_of_this_machine_is_a_number_of_gib() -> None:
    assert 0.05 < free_memory(torch.device("cpu")) < 1e5

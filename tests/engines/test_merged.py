"""Adapters merged into a checkpoint for an engine that takes none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import MakeAdapter, MakeModel

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.merged import PAIRS, difference, write_merged
from tuneboard.errors import AdapterError
from tuneboard.records import ModelRef


@pytest.fixture
def scores(make_engine: Callable[..., Any], ask: Callable[..., list[Any]]) -> Callable[[Path], list[float]]:
    """``scores(folder)``: what a model answers to the texts of the check."""
    return lambda folder: [answer.response[0] for answer in ask(make_engine(folder), "loglikelihood", PAIRS)]


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
def test_a_merged_model_answers_as_the_adapter_did(
    kind: str, tiny_model: MakeModel, tiny_adapter: MakeAdapter, tmp_path: Path, scores: Callable[[Path], list[float]]
) -> None:
    from peft import IA3Config, LoraConfig

    configs = {
        "lora": None,
        "dora": LoraConfig(r=4, target_modules=["q_proj", "up_proj"], use_dora=True, init_lora_weights=False),
        "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    }
    base = tiny_model("llama_untied")
    adapter = resolve_adapter(str(tiny_adapter(base, configs[kind])))
    wanted = write_merged(ModelRef(str(base)), adapter, LoadOptions(), tmp_path / "merged")
    assert difference(wanted, scores(tmp_path / "merged"), [1] * len(PAIRS)) < 1e-3
    assert difference(wanted, scores(base), [1] * len(PAIRS)) > 0.1


def test_an_adapter_on_a_head_that_is_tied_to_the_embeddings_is_told_by_its_answers(
    tiny_model: MakeModel, tiny_adapter: MakeAdapter, tmp_path: Path, scores: Callable[[Path], list[float]]
) -> None:
    from peft import LoraConfig

    base = tiny_model("llama")
    config = LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False)
    adapter = resolve_adapter(str(tiny_adapter(base, config)))
    wanted = write_merged(ModelRef(str(base)), adapter, LoadOptions(), tmp_path / "merged")
    assert difference(wanted, scores(tmp_path / "merged"), [1] * len(PAIRS)) > 0.1


def test_an_adapter_of_another_model_is_refused(
    tiny_model: MakeModel, tiny_adapter: MakeAdapter, tmp_path: Path
) -> None:
    adapter = resolve_adapter(str(tiny_adapter(tiny_model("llama"))))
    with pytest.raises(AdapterError, match="does not fit"):
        write_merged(ModelRef(str(tiny_model("gpt2"))), adapter, LoadOptions(), tmp_path / "merged")


def test_a_score_that_is_no_number_is_no_agreement() -> None:
    assert difference([1.0, 2.0], [1.0, float("nan")], [1, 1]) == float("inf")
    assert difference([1.0, 2.0], [1.5, 4.0], [1, 10]) == 0.5

"""What vLLM is started with."""

from __future__ import annotations

import pytest

from tuneboard.engines.vllm_settings import (
    CPU_BLOCK,
    LoraNeeds,
    VllmSettings,
    devices,
    engine_arguments,
    environment,
    fitting_rank,
    lora_needs,
)
from tuneboard.errors import ModelError
from tuneboard.records import ModelRef

REF = ModelRef("model", dtype="bfloat16")
LAYERS = ("q_proj", "v_proj")


@pytest.mark.parametrize(("rank", "wanted"), [(1, 1), (2, 8), (16, 16), (17, 32), (257, 320), (512, 512), (513, None)])
def test_the_rank_is_the_next_one_that_vllm_takes(rank: int, wanted: int | None) -> None:
    assert fitting_rank(rank) == wanted


@pytest.mark.parametrize(
    ("adapters", "most", "on_cpu", "slots", "apart"),
    [
        (3, None, False, 3, False),
        (32, None, False, 8, False),
        (32, 4, False, 4, False),
        (3, None, True, 4, False),
        (8, None, True, 9, False),
        (9, None, True, 8, True),
        (32, 4, True, 4, True),
        (4, 4, True, 4, True),
        (3, 4, True, 4, False),
    ],
)
def test_on_a_cpu_a_slot_stays_free_or_the_base_goes_alone(
    adapters: int, most: int | None, on_cpu: bool, slots: int, apart: bool
) -> None:
    needs = lora_needs([8] * adapters, LAYERS, VllmSettings(max_loras=most), on_cpu)
    assert (needs.slots, needs.base_apart) == (slots, apart)


def test_a_base_alone_needs_nothing_for_adapters() -> None:
    needs = lora_needs([], [], VllmSettings(), True)
    assert needs == LoraNeeds()
    assert not any("lora" in name for name in engine_arguments(REF, 64, VllmSettings(), needs, True))


def test_adapters_size_the_engine() -> None:
    needs = lora_needs([4, 20, 8], LAYERS, VllmSettings(max_loras=2), False)
    arguments = engine_arguments(REF, 64, VllmSettings(max_loras=2), needs, False)
    assert (arguments["max_loras"], arguments["max_lora_rank"], arguments["max_cpu_loras"]) == (2, 32, 3)
    assert arguments["lora_target_modules"] == list(LAYERS)


def test_the_context_holds_one_token_more_for_the_one_that_is_only_predicted() -> None:
    assert engine_arguments(REF, 64, VllmSettings(), LoraNeeds(), True)["max_model_len"] == 65
    assert environment(64, 64, VllmSettings(), True)["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] == "1"
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN" not in environment(32, 64, VllmSettings(), True)


def test_blocks_are_small_on_a_cpu_and_memory_is_shared_on_a_gpu() -> None:
    on_cpu = engine_arguments(REF, 64, VllmSettings(), LoraNeeds(), True)
    on_gpu = engine_arguments(REF, 64, VllmSettings(memory_share=0.5, tensor_parallel=2), LoraNeeds(), False)
    assert on_cpu["block_size"] == CPU_BLOCK and "gpu_memory_utilization" not in on_cpu
    assert on_gpu["gpu_memory_utilization"] == 0.5 and on_gpu["tensor_parallel_size"] == 2
    assert (on_cpu["enforce_eager"], on_gpu["enforce_eager"]) == (True, False)


@pytest.mark.parametrize(("given", "wanted"), [(None, None), ("4bit", "bitsandbytes"), ("fp8", "fp8")])
def test_quantizations_have_vllms_names(given: str | None, wanted: str | None) -> None:
    ref = ModelRef("model", dtype="bfloat16", quantization=given)
    assert engine_arguments(ref, 64, VllmSettings(), LoraNeeds(), False)["quantization"] == wanted


def test_a_quantization_that_vllm_does_not_have_is_refused_with_what_it_has() -> None:
    with pytest.raises(ModelError, match="8bit; it knows 4bit, fp8"):
        engine_arguments(ModelRef("m", quantization="8bit"), 64, VllmSettings(), LoraNeeds(), False)


def test_double_precision_is_refused_with_what_takes_it() -> None:
    with pytest.raises(ModelError, match="float64; give --dtype float32"):
        engine_arguments(ModelRef("m", dtype="float64"), 64, VllmSettings(), LoraNeeds(), False)


def test_the_model_has_a_process_of_its_own_on_a_gpu_only() -> None:
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    assert environment(8, 64, VllmSettings(), True)[name] == "0"
    assert environment(8, 64, VllmSettings(), False)[name] == "1"
    assert environment(8, 64, VllmSettings(worker_process=True), True)[name] == "1"


def test_copies_get_gpus_of_their_own() -> None:
    settings = VllmSettings(tensor_parallel=2, data_parallel=2)
    assert devices(settings, ["0", "1", "4", "5"], on_cpu=False) == ("0,1", "4,5")
    assert devices(settings, [], on_cpu=True) == ("", "")
    assert devices(VllmSettings(tensor_parallel=2), ["0", "1"], on_cpu=False) == ("",)
    with pytest.raises(ModelError, match="need 4, and there are 3"):
        devices(settings, ["0", "1", "2"], on_cpu=False)
    assert environment(8, 64, settings, True)["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"

"""Targets of adapters are found in any architecture, by names that are short and match nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tuneboard.tuning.methods import resolved_options
from tuneboard.tuning.methods._targets import shortest_ends

AUTO = {
    "llama": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
    "falcon_alibi": ["query_key_value"],
    "mpt": ["Wqkv"],
    "mamba": ["in_proj"],
    "mixtral": ["q_proj", "v_proj"],
    "deepseek_v3": ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"],
    "bert": ["query", "value"],
    "t5": ["q", "v"],
}
ATTENTION = {
    "llama": ["k_proj", "o_proj", "q_proj", "v_proj"],
    "gpt2": ["attn.c_proj", "c_attn"],
    "bert": ["attention.output.dense", "key", "query", "value"],
    "t5": ["k", "o", "q", "v"],
}
ALL_LINEAR = {
    "llama": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    "llama_untied": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    "gpt2": ["c_attn", "c_fc", "c_proj"],
    "bert": ["intermediate.dense", "key", "output.dense", "query", "value"],
    "t5": ["k", "o", "q", "v", "wi_0", "wi_1", "wo"],
}


@pytest.mark.parametrize(
    ("targets", "architecture", "names"),
    [
        (targets, architecture, names)
        for targets, table in {"auto": AUTO, "attention": ATTENTION, "all-linear": ALL_LINEAR}.items()
        for architecture, names in table.items()
    ],
)
def test_targets_by_name(targets: str, architecture: str, names: list[str], prepare: Any) -> None:
    config = prepare("lora", architecture, targets=targets).model.peft_config["default"]
    assert sorted(config.target_modules) == names


def test_ia3_tells_inner_layers_from_others(prepare: Any) -> None:
    config = prepare("ia3", "gpt2").model.peft_config["default"]
    assert sorted(config.target_modules) == ["c_attn", "mlp.c_proj"]
    assert sorted(config.feedforward_modules) == ["mlp.c_proj"]


@pytest.mark.parametrize(("architecture", "transposed"), [("gpt2", True), ("llama", False)])
def test_weights_that_stand_transposed_are_known(architecture: str, transposed: bool, prepare: Any) -> None:
    assert prepare("lora", architecture).model.peft_config["default"].fan_in_fan_out is transposed


@pytest.mark.parametrize(
    ("options", "alpha"),
    [({}, 32), ({"rank": 4}, 8), ({"alpha": 3.0}, 3), ({"rank": 64, "rslora": True}, 16)],
)
def test_alpha_follows_the_rank_unless_it_is_given(options: dict[str, Any], alpha: float, prepare: Any) -> None:
    assert prepare("lora", "llama", **options).model.peft_config["default"].lora_alpha == alpha


def test_shortest_ends_match_what_they_should_and_nothing_else() -> None:
    everything = ["a.0.x.w", "a.1.x.w", "a.0.y.w", "a.1.y.w", "a.0.x", "a.1.x", "a.0.y", "a.1.y", "a.0", "a.1", "a"]
    assert shortest_ends(["a.0.x.w", "a.1.x.w"], everything) == ("x.w",)
    assert shortest_ends([path for path in everything if path.endswith("w")], everything) == ("w",)
    assert shortest_ends(["a.1.y.w"], everything) == ("1.y.w",)


@pytest.mark.parametrize(
    ("method", "options", "resolved"),
    [
        ("lora", {}, {"alpha": 32, "targets": ["q_proj", "v_proj"]}),
        ("lora", {"alpha": 3.0, "targets": ["o_proj"]}, {"alpha": 3, "targets": ["o_proj"]}),
        ("ia3", {}, {"targets": ["down_proj", "k_proj", "v_proj"], "feedforward": ["down_proj"]}),
        ("prefix", {"projection": True}, {"projection_size": 16}),
        ("prefix", {}, {}),
        ("full", {}, {}),
    ],
)
def test_what_auto_came_to_is_known_afterwards(
    method: str, options: dict[str, Any], resolved: dict[str, Any], prepare: Any
) -> None:
    ready = prepare(method, "llama", **options)
    complete = dataclasses.asdict(ready.method.Options(**options))
    assert resolved_options(ready.method, ready.model, complete) == {**complete, **resolved}

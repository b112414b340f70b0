from __future__ import annotations

from typing import Any

import pytest

from tuneboard.tuning.serving import serving, summary

LORA = {"peft_type": "LORA", "r": 16, "bias": "none", "use_dora": False, "modules_to_save": None}


def vllm(config: Any, kind: Any = "causal") -> tuple[str, str]:
    here, there = serving(config, kind)
    assert (here.engine, here.takes) == ("transformers", "as it is")
    return there.takes, there.note


@pytest.mark.parametrize(
    ("changes", "takes", "note"),
    [
        ({}, "as it is", "--enable-lora"),
        ({"r": 12, "use_rslora": True, "layers_to_transform": [0]}, "as it is", "--enable-lora"),
        ({"r": 17}, "as it is", "--max-lora-rank 32"),
        ({"r": 8, "rank_pattern": {"q_proj": 300}}, "as it is", "--max-lora-rank 320"),
        ({"r": 513}, "merged", "rank 513 is above 512"),
        ({"use_dora": True}, "merged", "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "merged", "modules_to_save"),
        ({"trainable_token_indices": [5]}, "merged", "trainable tokens"),
        ({"bias": "all", "init_lora_weights": "pissa_niter_4"}, "merged", "biases, PiSSA"),
        ({"peft_type": "IA3"}, "merged", "IA3"),
        ({"peft_type": "PREFIX_TUNING"}, "no", "prefix tuning"),
        ({"peft_type": "PROMPT_TUNING"}, "no", "prompt tuning"),
        ({"peft_type": "BOTTLENECK"}, "no", "bottleneck"),
    ],
)
def test_what_vllm_takes_is_told_by_an_adapters_config(changes: dict[str, Any], takes: str, note: str) -> None:
    found = vllm(LORA | changes)
    assert found[0] == takes and note in found[1]


def test_full_checkpoints_are_taken_and_other_kinds_of_models_are_not() -> None:
    assert vllm(None)[0] == "as it is"
    assert vllm(None, "classification")[0] == vllm(LORA, "seq2seq")[0] == "no"


def test_the_summary_fits_a_line() -> None:
    assert all(len(line) < 100 for line in summary())

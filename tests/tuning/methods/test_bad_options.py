"""Options that cannot be meant give one clear error each."""

from __future__ import annotations

from typing import Any

import pytest

from tuneboard.config import parse
from tuneboard.errors import ConfigError, UsageError
from tuneboard.tuning.methods import Method, find_method
from tuneboard.tuning.schema import options_model

NAMES = ("full", "partial", "lora", "qlora", "ia3", "prefix", "prompt")


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("full", {"train_embedings": True}, "train_embeddings"),
        ("partial", {"freeze_layers": -1}, "freeze_layers"),
        ("lora", {"rank": 0}, "rank"),
        ("lora", {"rank": 2.5}, "rank"),
        ("lora", {"alpha": 0}, "alpha"),
        ("lora", {"dropout": 1.0}, "dropout"),
        ("lora", {"targets": "all_linear"}, "targets"),
        ("lora", {"targets": []}, "targets"),
        ("qlora", {"quant_type": "int4"}, "quant_type"),
        ("ia3", {"targets": "attention"}, "targets"),
        ("prefix", {"virtual_tokens": 0}, "virtual_tokens"),
        ("prefix", {"projection": True, "projection_size": 0}, "projection_size"),
        ("prompt", {"virtual_tokens": -3}, "virtual_tokens"),
        ("prompt", {"initial_text": ""}, "initial_text"),
    ],
)
def test_a_value_out_of_range_is_told_before_anything_is_loaded(
    method: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(options_model(find_method(method).Options), options, "recipe.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("partial", {}, "neither of freeze_layers: N and head_only: true"),
        ("partial", {"freeze_layers": 1, "head_only": True}, "both of freeze_layers: N and head_only: true"),
        ("ia3", {"feedforward": ["down_proj"]}, "goes with a list of targets"),
        ("ia3", {"targets": ["k_proj"], "feedforward": ["down_proj"]}, "'down_proj' is not among the targets (k_proj)"),
        ("prefix", {"projection_size": 8}, "goes with projection: true"),
    ],
)
def test_options_that_contradict_each_other_are_told(method: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_method(method).Options(**options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("method", "architecture", "options", "told"),
    [
        ("partial", "llama", {"freeze_layers": 3}, "LlamaForCausalLM has 2 layers; expected 0 to 2"),
        ("partial", "t5", {"freeze_layers": 9}, "2 layers in encoder.block and 2 layers in decoder.block"),
        ("partial", "llama", {"head_only": True}, "shares its weights with the input embeddings"),
        ("lora", "llama", {"targets": ["q_prj"]}, "no module 'q_prj', did you mean q_proj"),
        ("lora", "llama", {"targets": ["q_proj", "xyz"]}, "its linear layers: down_proj, gate_proj, k_proj, o_proj"),
        ("lora", "llama", {"targets": ["self_attn"]}, "is a LlamaAttention, not a linear layer"),
        ("lora", "llama", {"targets": ["embed_tokens"]}, "is a Embedding, not a linear layer"),
        ("lora", "llama", {"targets": ["lm_head"]}, "shares its weights with the embeddings"),
        ("lora", "bert", {"targets": ["classifier"]}, "the classifier's head, which is trained as a whole"),
        ("lora", "mamba", {"targets": "attention"}, "MambaForCausalLM has no such layers"),
        ("qlora", "llama", {}, "needs its base in 4 bit"),
        ("ia3", "mamba", {}, "name them as targets: [...] and feedforward: [...]"),
        ("ia3", "llama", {"targets": ["key"]}, "no module 'key'"),
        ("prefix", "mamba", {}, "has no attention heads"),
        ("prefix", "deepseek_v3", {}, "method prefix does not fit DeepseekV3ForCausalLM"),
        ("prefix", "llama", {"virtual_tokens": 128}, "leave no room for text in the 128 tokens"),
    ],
)
def test_options_that_do_not_fit_the_model_are_told(
    method: str, architecture: str, options: dict[str, Any], told: str, prepare: Any
) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(method, architecture, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prefix_and_gradient_checkpointing_exclude_each_other(prepare: Any) -> None:
    model = prepare("full", "llama").model
    model.gradient_checkpointing_enable()
    method = find_method("prefix")
    with pytest.raises(UsageError, match="gradient_checkpointing"):
        method.prepare(model, method.Options(), "causal")


def test_a_causal_classifier_takes_no_prompt(prepare: Any) -> None:
    """Its label is read off the last token that is not padding, which it cannot tell behind embeddings."""
    with pytest.raises(UsageError, match="LlamaForSequenceClassification"):
        prepare("prompt", "llama", "classification")


@pytest.mark.parametrize("method", ["full", "partial"])
def test_weights_in_4_bit_are_not_trained_themselves(method: str, prepare: Any) -> None:
    quantized = prepare("qlora", "llama", quantized=True).model.unload()
    module = find_method(method)
    options = module.Options(**({"freeze_layers": 1} if method == "partial" else {}))
    with pytest.raises(UsageError, match="qlora"):
        module.prepare(quantized, options, "causal")


@pytest.mark.parametrize("name", NAMES)
def test_each_method_offers_what_the_stage_asks_for(name: str) -> None:
    method: Method = find_method(name)
    low, high = method.USUAL_RATES
    assert name == method.NAME
    assert low <= method.LEARNING_RATE <= high
    assert {"causal", "classification", "seq2seq"} == method.KINDS
    assert method.OPTIMIZER in ("adamw", "paged_adamw_8bit")
    assert method.FEWEST_EXAMPLES > 0
    assert ("4bit" if name == "qlora" else None) == method.QUANTIZATION
    assert method.MERGES is (name in ("lora", "qlora", "ia3"))

"""Each method learns, and its files give the trained model back to the libraries that own the format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("full", "llama", {}),
    ("full", "bert", {}),
    ("full", "t5", {}),
    ("partial", "llama", {"freeze_layers": 1}),
    ("partial", "bert", {"head_only": True}),
    ("partial", "t5", {"freeze_layers": 1}),
    ("lora", "llama", {}),
    ("lora", "llama", {"targets": "all-linear", "rslora": True, "dora": True}),
    ("lora", "gpt2", {"targets": "all-linear"}),
    ("lora", "bert", {"targets": "attention"}),
    ("lora", "t5", {}),
    ("ia3", "llama", {}),
    ("ia3", "gpt2", {}),
    ("ia3", "bert", {}),
    ("ia3", "t5", {}),
    ("prefix", "llama", {}),
    ("prefix", "llama", {"projection": True}),
    ("prefix", "bert", {}),
    ("prefix", "t5", {}),
    ("prompt", "llama", {"initial_text": "Once upon a time"}),
    ("prompt", "bert", {}),
    ("prompt", "t5", {}),
]


@pytest.mark.parametrize(("method", "architecture", "options"), CASES)
def test_a_trained_model_is_the_same_when_it_is_loaded_again(
    method: str, architecture: str, options: dict[str, Any], prepare: Any, reload: Any, tmp_path: Path
) -> None:
    import torch

    ready = prepare(method, architecture, **options)
    untrained = ready.logits()
    # A few virtual tokens are far from the loss and take larger steps.
    before, after = ready.learn(rate=5e-2 if method in ("prefix", "prompt") else 1e-2)
    assert after < 0.99 * before
    ready.method.save(ready.model, tmp_path / "made")
    logits = ready.logits()
    assert not torch.allclose(logits, untrained, atol=1e-3)
    assert torch.allclose(ready.logits(reload(ready, tmp_path / "made")), logits, atol=1e-5)
    assert not (tmp_path / "made" / "README.md").exists()


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_qlora_learns_beside_4_bit_weights(quant_type: str, prepare: Any, tmp_path: Path) -> None:
    import peft
    import torch

    ready = prepare("qlora", "llama", quantized=True, quant_type=quant_type, dropout=0.0)
    before, after = ready.learn()
    assert after < 0.99 * before
    ready.method.save(ready.model, tmp_path)
    again = prepare("qlora", "llama", quantized=True, quant_type=quant_type).model.unload()
    loaded = peft.PeftModel.from_pretrained(again, tmp_path)
    assert torch.allclose(ready.logits(loaded), ready.logits(), atol=1e-5)


@pytest.mark.parametrize(("method", "architecture"), [(m, a) for m in ("lora", "ia3") for a in ("llama", "gpt2", "t5")])
def test_what_merges_answers_the_same_merged(method: str, architecture: str, prepare: Any) -> None:
    import torch

    ready = prepare(method, architecture)
    assert ready.method.MERGES
    ready.learn(steps=3)
    apart = ready.logits()
    assert torch.allclose(ready.logits(ready.model.merge_and_unload()), apart, atol=1e-4)


def test_nothing_but_the_adapter_is_written_and_the_base_is_named_as_given(prepare: Any, tmp_path: Path) -> None:
    ready = prepare("lora", "bert")
    ready.method.save(ready.model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(ready.base)
    assert config["target_modules"] == ["query", "value"]
    assert config["modules_to_save"] == ["bert.pooler", "classifier", "score"]
    assert config["task_type"] == "SEQ_CLS"
    assert config["inference_mode"] is True


def test_a_whole_model_is_saved_with_its_cache_on(prepare: Any, tmp_path: Path) -> None:
    """Training switches it off in the model's config."""
    ready = prepare("full", "llama")
    ready.model.config.use_cache = False
    ready.method.save(ready.model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["use_cache"] is True


def test_the_pooler_of_a_classifier_is_trained_and_kept(prepare: Any, reload: Any, tmp_path: Path) -> None:
    """Some encoders come without one: what is drawn at random has to be in the adapter."""
    ready = prepare("lora", "bert")
    ready.learn(steps=2)
    ready.method.save(ready.model, tmp_path)
    trained = ready.model.base_model.model.bert.pooler.modules_to_save["default"].dense.weight
    assert not trained.equal(ready.model.base_model.model.bert.pooler.original_module.dense.weight)
    again = reload(ready, tmp_path).base_model.model.bert.pooler.modules_to_save["default"].dense.weight
    assert trained.equal(again)


def test_a_projected_prefix_is_kept_as_the_keys_and_values_that_it_makes(prepare: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    ready = prepare("prefix", "llama", virtual_tokens=5, projection=True)
    ready.method.save(ready.model, tmp_path)
    assert {name: list(t.shape) for name, t in load_file(tmp_path / "adapter_model.safetensors").items()} == {
        "prompt_embeddings": [5, 2 * 2 * 16]
    }


def test_an_untrained_prefix_hardly_disturbs_the_base(prepare: Any) -> None:
    """Drawn as peft draws it, a prefix takes most of the attention away from the text."""
    base = prepare("full", "llama")
    loss = float(base.model(**base.inputs()).loss.detach())
    prefixed = prepare("prefix", "llama")
    assert float(prefixed.model(**base.inputs()).loss.detach()) == pytest.approx(loss, rel=0.15)


def test_each_layer_of_an_encoder_decoder_has_a_prefix_of_its_own(prepare: Any) -> None:
    cache = prepare("prefix", "t5", virtual_tokens=5).model.get_prompt(1).self_attention_cache
    first, second = cache.layers[:2]
    assert not first.keys.equal(second.keys)
    assert not first.values.equal(second.values)


def test_a_prompt_begins_as_the_text_that_is_given(prepare: Any) -> None:
    import torch
    from transformers import AutoTokenizer

    ready = prepare("prompt", "llama", virtual_tokens=7, initial_text="Once upon")
    ids = AutoTokenizer.from_pretrained(ready.base)("Once upon", add_special_tokens=False)["input_ids"]
    table = ready.model.get_input_embeddings().weight
    expected = table[torch.tensor((ids * 7)[:7])]
    assert ready.model.prompt_encoder["default"].embedding.weight.equal(expected)


_SAVE = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForSequenceClassification
from tuneboard.tuning.methods import find_method
torch.manual_seed(0)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=3)
method = find_method("ia3" if len(sys.argv) > 3 else "lora")
method.save(method.prepare(model, method.Options(), "classification"), Path(sys.argv[2]))
"""


@pytest.mark.accept
def test_files_are_the_same_bytes_whatever_the_hash_seed(tiny_model: Any, root: Path, tmp_path: Path) -> None:
    for number, more in enumerate(([], ["ia3"])):
        for seed in "123":
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root / "harness")}
            folder = tmp_path / f"{number}-{seed}"
            command = [sys.executable, "-c", _SAVE, str(tiny_model("bert")), str(folder), *more]
            subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert len({(tmp_path / f"{number}-{seed}" / name).read_bytes() for seed in "123"}) == 1

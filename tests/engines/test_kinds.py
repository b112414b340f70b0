"""The kind of a candidate follows from its config files, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneboard.engines.kinds import adapter_kind, candidate_kind, load_engine, model_kind
from tuneboard.errors import AdapterError, ModelError
from tuneboard.records import AdapterRef, Candidate, ModelRef


@pytest.mark.parametrize(
    ("architecture", "more", "expected"),
    [
        ("LlamaForCausalLM", {"model_type": "llama"}, "causal"),
        ("GPT2LMHeadModel", {"model_type": "gpt2"}, "causal"),
        ("GPT2Model", {"model_type": "gpt2"}, "causal"),
        ("Gemma3ForConditionalGeneration", {"model_type": "gemma3"}, "causal"),
        ("BertLMHeadModel", {"model_type": "bert", "is_decoder": True}, "causal"),
        ("BartForCausalLM", {"model_type": "bart", "is_encoder_decoder": False}, "causal"),
        ("BertForSequenceClassification", {"model_type": "bert"}, "classification"),
        ("LlamaForSequenceClassification", {"model_type": "llama"}, "classification"),
        ("BartForSequenceClassification", {"model_type": "bart", "is_encoder_decoder": True}, "classification"),
        ("T5ForConditionalGeneration", {"model_type": "t5", "is_encoder_decoder": True}, "seq2seq"),
        ("T5ForConditionalGeneration", {"model_type": "t5"}, "seq2seq"),
        ("BartModel", {"model_type": "bart", "is_encoder_decoder": True}, "seq2seq"),
        ("T5EncoderModel", {"model_type": "t5", "is_encoder_decoder": True}, "encoder"),
        ("BertForPreTraining", {"model_type": "bert"}, "encoder"),
        ("BertModel", {"model_type": "bert"}, "encoder"),
        ("RobertaForMaskedLM", {"model_type": "roberta"}, "encoder"),
        ("ModernBertForMaskedLM", {"model_type": "modernbert"}, "encoder"),
        ("NewForMaskedLM", {"model_type": "made_up"}, "encoder"),
        (None, {"model_type": "deberta-v2"}, "encoder"),
        (None, {"model_type": "toy"}, "causal"),
        (None, {}, "causal"),
    ],
)
def test_a_config_tells_the_kind_of_its_model(architecture: str | None, more: dict[str, Any], expected: str) -> None:
    config = more | ({"architectures": [architecture]} if architecture else {})
    assert model_kind(config) == expected


@pytest.mark.parametrize(
    ("task", "base", "expected"),
    [
        ("SEQ_CLS", "encoder", "classification"),
        ("SEQ_CLS", "causal", "classification"),
        ("CAUSAL_LM", "causal", "causal"),
        ("SEQ_2_SEQ_LM", "seq2seq", "seq2seq"),
        (None, "encoder", "classification"),
        (None, "seq2seq", "seq2seq"),
        (None, "causal", "causal"),
    ],
)
def test_an_adapter_makes_of_its_base_what_its_task_type_says(task: Any, base: Any, expected: str) -> None:
    assert adapter_kind({"task_type": task}, base) == expected


@pytest.mark.parametrize(("kind", "expected"), [("bert", "encoder"), ("t5", "seq2seq"), ("llama", "causal")])
def test_real_configs_are_told_apart(kind: str, expected: str, tiny_model: Any) -> None:
    assert candidate_kind(Candidate("base", ModelRef(str(tiny_model(kind))))) == expected


def test_an_adapter_for_another_kind_of_model_is_refused_before_anything_is_loaded(
    tiny_model: Any, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM"}))
    ref = AdapterRef(str(tmp_path), "x", "LORA")
    with pytest.raises(AdapterError, match=r"makes a causal LM of its base, and .* is an encoder"):
        candidate_kind(Candidate("a", ModelRef(str(tiny_model("bert"))), ref))
    with pytest.raises(AdapterError, match="an encoder-decoder model"):
        candidate_kind(Candidate("a", ModelRef(str(tiny_model("t5"))), ref))
    assert candidate_kind(Candidate("a", ModelRef(str(tiny_model("llama"))), ref)) == "causal"


def test_what_cannot_be_read_counts_as_a_causal_model(tmp_path: Path) -> None:
    assert candidate_kind(Candidate("x", ModelRef("no/such-model", revision="main"))) == "causal"
    (tmp_path / "config.json").write_text("{")
    assert candidate_kind(Candidate("x", ModelRef(str(tmp_path)))) == "causal"


def test_each_kind_has_its_engine(tiny_model: Any, tmp_path: Path) -> None:
    import tiny_heads

    from tuneboard.engines.loading import LoadOptions

    full = tiny_heads.save_classifier(tmp_path / "full", tiny_model("bert"))
    names = {}
    for kind, folder in (("causal", tiny_model("llama")), ("classification", full), ("seq2seq", tiny_model("t5"))):
        engine = load_engine(kind, ModelRef(str(folder)), LoadOptions("cpu"), lambda line: None)
        names[kind] = engine.info.name
        assert engine.info.device == "cpu"
        assert engine.info.details["load_s"] > 0
        engine.close()
    assert names == {
        "causal": "transformers",
        "classification": "transformers-classifier",
        "seq2seq": "transformers-seq2seq",
    }
    with pytest.raises(ModelError, match="an encoder without a head"):
        load_engine("encoder", ModelRef(str(tiny_model("bert"))), LoadOptions("cpu"), lambda line: None)


def test_telling_kinds_imports_no_torch() -> None:
    code = "import sys, tuneboard.engines.kinds; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

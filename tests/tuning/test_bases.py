from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from tiny_models import MakeModel

from tuneboard.errors import ModelError, UsageError
from tuneboard.records import ModelRef
from tuneboard.tuning.bases import kind_of, load_base, quantization_of
from tuneboard.tuning.methods import find_method
from tuneboard.tuning.records import ModelKind, RowFormat


@pytest.mark.parametrize(
    ("model", "format", "kind"),
    [
        ("llama", "completion", "causal"),
        ("llama", "chat", "causal"),
        ("llama", "label", "classification"),
        ("bert", "label", "classification"),
        ("t5", "completion", "seq2seq"),
        ("t5", "label", "seq2seq"),
    ],
)
def test_the_kind_is_told_by_base_and_data(
    model: str, format: RowFormat, kind: ModelKind, tiny_model: MakeModel
) -> None:
    assert kind_of(tiny.recipe(tiny_model(model)), format) == kind


@pytest.mark.parametrize(
    ("model", "kind", "format", "words"),
    [
        ("bert", "auto", "text", "is an encoder and cannot write text; expected rows of text"),
        ("llama", "seq2seq", "completion", "has no encoder and decoder; expected a T5-like base"),
        ("t5", "causal", "completion", "is an encoder-decoder; expected kind: seq2seq"),
        (
            "llama",
            "classification",
            "completion",
            "a classifier learns labels and the data are in the format 'completion'",
        ),
    ],
)
def test_data_that_do_not_fit_the_base_are_refused_in_one_line(
    model: str, kind: ModelKind, format: RowFormat, words: str, tiny_model: MakeModel
) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match=words):
        kind_of(replace(tiny.recipe(tiny_model(model)), kind=kind), format)


def test_a_classifier_gets_a_new_head_with_names_for_its_classes(tiny_model: MakeModel) -> None:
    base = load_base(ModelRef(str(tiny_model("bert"))), "classification", ("bad", "fair", "good"))
    assert base.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert base.new_weights == ("classifier.bias", "classifier.weight")
    assert base.model.classifier.weight.shape == (3, 32)
    with pytest.raises(UsageError, match="a classifier needs two or more"):
        load_base(ModelRef(str(tiny_model("bert"))), "classification", ("one",))


def test_a_causal_base_reads_its_class_off_the_last_token_that_is_no_padding(tiny_model: MakeModel) -> None:
    base = load_base(ModelRef(str(tiny_model("llama"))), "classification", ("no", "yes"))
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id == base.tokenizer.eos_token_id
    pad = base.tokenizer.pad_token_id
    alone = base.model(input_ids=torch.tensor([[5, 6, 7]])).logits
    mask = torch.tensor([[1, 1, 1, 0]])
    padded = base.model(input_ids=torch.tensor([[5, 6, 7, pad]]), attention_mask=mask).logits
    torch.testing.assert_close(alone, padded)


def test_a_token_for_padding_adds_no_embedding(tiny_model: MakeModel) -> None:
    base = load_base(ModelRef(str(tiny_model("llama", "eos"))), "causal")
    assert base.tokenizer.pad_token_id is not None
    assert base.model.get_input_embeddings().weight.shape[0] >= len(base.tokenizer)
    assert base.total_parameters == sum(weight.numel() for weight in base.model.parameters())


def test_pickled_weights_are_refused(tiny_model: MakeModel, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        load_base(ModelRef(str(folder)), "classification", ("a", "b"))


def test_a_base_with_holes_is_refused(tiny_model: MakeModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model("bert"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layer.1.attention.self.query.weight" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not a whole base for classification: weight '.*query\.weight' is missing"):
        load_base(ModelRef(str(folder)), "classification", ("a", "b"))


def test_code_of_the_models_own_is_not_run(tiny_model: MakeModel, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError):
        load_base(ModelRef(str(folder)), "causal")
    with pytest.raises(ModelError):
        kind_of(tiny.recipe(folder), "text")


def test_a_method_says_how_its_base_is_quantized(tiny_model: MakeModel) -> None:
    pytest.importorskip("bitsandbytes")
    given = tiny.recipe(tiny_model(), "qlora", {"quant_type": "fp4", "double_quantization": True})
    settings = quantization_of(given, find_method("qlora"))
    base = load_base(given.base, "causal", (), settings)
    layer = base.model.model.layers[0].mlp.up_proj
    assert layer.weight.quant_state.quant_type == "fp4" and layer.weight.quant_state.nested
    plain = load_base(ModelRef(str(tiny_model())), "causal")
    assert base.total_parameters == plain.total_parameters
    assert quantization_of(tiny.recipe(tiny_model()), find_method("lora")) is None

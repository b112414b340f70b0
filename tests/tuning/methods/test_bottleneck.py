"""The method ``bottleneck`` trains what it says, learns, and its files give the trained model back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.engines import bottleneck as engine_side
from tuneboard.errors import ModelError, UsageError
from tuneboard.tuning.methods import find_method

HIDDEN, LAYERS = 32, 2


def load(kind: str, folder: Path, seed: int = 0) -> Any:
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    if kind == "bert":
        return hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    return (hf.AutoModelForSeq2SeqLM if kind == "t5" else hf.AutoModelForCausalLM).from_pretrained(folder)


def batch(kind: str) -> dict[str, Any]:
    import torch

    torch.manual_seed(5)
    ids = torch.randint(3, 200, (6, 12))
    if kind == "bert":
        return {"input_ids": ids, "labels": torch.tensor([0, 1, 2, 0, 1, 2])}
    return {"input_ids": ids, "labels": ids[:, 2:8].clone() if kind == "t5" else ids}


def train(model: Any, kind: str, steps: int) -> tuple[float, float]:
    import torch

    given = batch(kind)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=3e-3), []
    for _ in range(steps):
        loss = model(**given).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses[0], losses[-1]


def one(size: int) -> int:
    """Parameters of one adapter: two matrices with their biases."""
    return 2 * size * HIDDEN + size + HIDDEN


BERT_HEAD = 3 * HIDDEN + 3 + HIDDEN * HIDDEN + HIDDEN
CASES = {
    ("llama", "both"): 2 * LAYERS * one(8),
    ("llama", "attention"): LAYERS * one(8),
    ("gpt2", "feedforward"): LAYERS * one(8),
    ("bert", "both"): 2 * LAYERS * one(8) + BERT_HEAD,
    ("bert", "feedforward"): LAYERS * one(8) + BERT_HEAD,
    # Two sublayers in an encoder's layer, three in a decoder's.
    ("t5", "both"): 5 * LAYERS * one(8),
    ("t5", "attention"): 3 * LAYERS * one(8),
}
KINDS: dict[str, Any] = {"bert": "classification", "t5": "seq2seq"}


@pytest.mark.parametrize(("kind", "placement"), CASES)
def test_trained_parameters_equal_a_hand_count(kind: str, placement: Any, tiny_model: Any) -> None:
    method = find_method("bottleneck")
    model = method.prepare(
        load(kind, tiny_model(kind)), method.Options(size=8, placement=placement), KINDS.get(kind, "causal")
    )
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == CASES[kind, placement]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "t5"])
def test_training_lowers_the_loss_and_the_files_give_the_model_back(kind: str, tiny_model: Any, tmp_path: Path) -> None:
    import torch

    method, folder = find_method("bottleneck"), tiny_model(kind)
    model = method.prepare(load(kind, folder), method.Options(size=8), KINDS.get(kind, "causal"))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    first, last = train(model, kind, 30)
    assert last < 0.9 * first
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    method.save(model, tmp_path)
    fresh = load(kind, folder, seed=1).eval()
    with torch.inference_mode():
        before = fresh(**batch(kind)).logits
        engine_side.attach(fresh, "made", resolve_adapter(str(tmp_path)))
        engine_side.activate(fresh, "made")
        after = fresh(**batch(kind)).logits
        assert torch.equal(after, model(**batch(kind)).logits)
        assert not torch.equal(after, before)


def test_the_same_seed_gives_the_same_bytes(tiny_model: Any, tmp_path: Path) -> None:
    method = find_method("bottleneck")
    for name in ("a", "b"):
        model = method.prepare(load("llama", tiny_model("llama")), method.Options(size=4), "causal")
        train(model, "llama", 3)
        method.save(model, tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_gradient_checkpointing_trains_the_same(tiny_model: Any) -> None:
    method, losses = find_method("bottleneck"), []
    for checkpointing in (False, True):
        model = method.prepare(load("llama", tiny_model("llama")), method.Options(size=4), "causal")
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        losses.append(train(model, "llama", 5))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_does_not_fit_is_one_clear_line(tiny_model: Any) -> None:
    method = find_method("bottleneck")
    with pytest.raises(UsageError, match="size 0 holds nothing"):
        method.prepare(load("llama", tiny_model("llama")), method.Options(size=0), "causal")
    with pytest.raises(ModelError, match="no places for bottleneck adapters are known in MambaForCausalLM"):
        method.prepare(load("mamba", tiny_model("mamba")), method.Options(), "causal")

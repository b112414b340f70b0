"""Each method trains as many parameters as its formula says, worked out here from the sizes of the tiny models."""

from __future__ import annotations

from typing import Any

import pytest

from tuneboard.tuning.methods._counting import parameter_counts

V, H, F, L, P = 320, 32, 48, 2, 128
"""Vocabulary, width, inner width, layers, positions."""
KV = 16  # Llama: 2 of 4 heads keep keys and values, 8 wide
LABELS, BUCKETS, HEADS = 3, 32, 4

LLAMA_LAYER = H * H + 2 * H * KV + H * H + 3 * H * F + 2 * H  # q, k and v, o; gate, up, down; two norms
LLAMA = V * H + L * LLAMA_LAYER + H  # the head is the table of tokens
BERT_LAYER = 4 * (H * H + H) + (H * F + F) + (F * H + H) + 2 * 2 * H
BERT_HEAD = (H * H + H) + (LABELS * H + LABELS)  # pooler and classifier
BERT = (V + P + 2) * H + 2 * H + L * BERT_LAYER + BERT_HEAD
T5_ENCODER_LAYER = 4 * H * H + 3 * H * F + 2 * H
T5_DECODER_LAYER = 8 * H * H + 3 * H * F + 3 * H
T5 = V * H + L * (T5_ENCODER_LAYER + T5_DECODER_LAYER) + 2 * BUCKETS * HEADS + 2 * H
GPT2_LAYER = (H * 3 * H + 3 * H) + (H * H + H) + (H * 4 * H + 4 * H) + (4 * H * H + H) + 2 * 2 * H

R = 4
LLAMA_ATTENTION = L * R * ((H + H) + 2 * (H + KV) + (H + H))
LLAMA_ALL = LLAMA_ATTENTION + L * R * 3 * (H + F)
LLAMA_OUTPUTS = L * (H + 2 * KV + H + 2 * F + H)
N, S = 5, 24
"""Virtual tokens, width of the projection."""

CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("full", "llama", {}, LLAMA),
    ("full", "llama", {"train_embeddings": False}, LLAMA - V * H),
    ("full", "bert", {}, BERT),
    ("full", "bert", {"train_embeddings": False}, BERT - (V + P + 2) * H - 2 * H),
    ("full", "t5", {}, T5),
    ("partial", "llama", {"freeze_layers": 0}, LLAMA - V * H),
    ("partial", "llama", {"freeze_layers": 1}, LLAMA_LAYER + H),
    ("partial", "llama_untied", {"head_only": True}, V * H),
    ("partial", "gpt2", {"freeze_layers": 1}, GPT2_LAYER + 2 * H),
    ("partial", "bert", {"freeze_layers": 1}, BERT_LAYER + BERT_HEAD),
    ("partial", "bert", {"head_only": True}, BERT_HEAD),
    ("partial", "t5", {"freeze_layers": 1}, T5_ENCODER_LAYER + T5_DECODER_LAYER + 2 * H),
    ("lora", "llama", {"rank": R}, L * R * ((H + H) + (H + KV))),  # queries and values
    ("lora", "llama", {"rank": R, "targets": "attention"}, LLAMA_ATTENTION),
    ("lora", "llama", {"rank": R, "targets": "all-linear"}, LLAMA_ALL),
    ("lora", "llama", {"rank": R, "targets": "all-linear", "rslora": True}, LLAMA_ALL),
    ("lora", "llama", {"rank": R, "targets": "all-linear", "dora": True}, LLAMA_ALL + LLAMA_OUTPUTS),
    ("lora", "llama", {"rank": R, "targets": ["down_proj"]}, L * R * (F + H)),
    ("lora", "gpt2", {"rank": R}, L * R * (H + 3 * H)),
    ("lora", "olmo2", {"rank": R}, LLAMA_ALL),  # peft knows nothing of it: all linear layers
    ("lora", "bert", {"rank": R}, L * R * 2 * (H + H) + BERT_HEAD),
    ("lora", "bert", {"rank": R, "targets": "all-linear"}, L * R * (4 * 2 * H + 2 * (H + F)) + BERT_HEAD),
    ("lora", "t5", {"rank": R}, 3 * L * R * 2 * (H + H)),
    ("ia3", "llama", {}, L * (KV + KV + F)),
    ("ia3", "llama", {"targets": ["k_proj", "v_proj"]}, L * 2 * KV),
    ("ia3", "gpt2", {}, L * (3 * H + 4 * H)),
    ("ia3", "bert", {}, L * (H + H + H + F) + BERT_HEAD),  # keys, values, inputs of both output layers
    ("ia3", "t5", {}, 3 * L * 2 * H + 2 * L * F),
    ("prefix", "llama", {"virtual_tokens": N}, N * 2 * L * KV),
    (
        "prefix",
        "llama",
        {"virtual_tokens": N, "projection": True, "projection_size": S},
        N * KV + (KV * S + S) + (S * 2 * L * KV + 2 * L * KV),
    ),
    ("prefix", "bert", {"virtual_tokens": N}, N * 2 * L * H + BERT_HEAD),
    ("prefix", "t5", {"virtual_tokens": N}, N * 2 * (L + 1) * H),  # an odd number of layers, see the method
    ("prompt", "llama", {"virtual_tokens": N}, N * H),
    ("prompt", "bert", {"virtual_tokens": N}, N * H + BERT_HEAD),
    ("prompt", "t5", {"virtual_tokens": N}, N * H),
]
WHOLE = {"llama": LLAMA, "llama_untied": LLAMA + V * H, "bert": BERT, "t5": T5}


@pytest.mark.parametrize(("method", "architecture", "options", "count"), CASES)
def test_trained_parameters_equal_a_hand_count(
    method: str, architecture: str, options: dict[str, Any], count: int, prepare: Any
) -> None:
    trained, total = parameter_counts(prepare(method, architecture, **options).model)
    assert trained == count
    if architecture in WHOLE:
        added = 0 if method in ("full", "partial") else count - (BERT_HEAD if architecture == "bert" else 0)
        assert total == WHOLE[architecture] + added


@pytest.mark.parametrize("double", [True, False])
def test_qlora_counts_4_bit_weights_unpacked(double: bool, prepare: Any) -> None:
    ready = prepare("qlora", "llama", quantized=True, rank=R, double_quantization=double)
    assert parameter_counts(ready.model) == (LLAMA_ALL, LLAMA + LLAMA_ALL)


def test_a_causal_model_as_a_classifier_trains_its_head_too(prepare: Any) -> None:
    assert parameter_counts(prepare("lora", "llama", "classification", rank=R).model)[0] == (
        L * R * ((H + H) + (H + KV)) + LABELS * H
    )
    assert parameter_counts(prepare("partial", "llama", "classification", head_only=True).model)[0] == LABELS * H


@pytest.mark.parametrize(
    ("method", "architecture"),
    [(m, a) for m in ("full", "lora", "ia3", "prefix", "prompt") for a in ("llama", "bert", "t5")],
)
def test_every_trained_parameter_learns(method: str, architecture: str, prepare: Any) -> None:
    """One step with a gradient in each: nothing is counted that no answer depends on."""
    ready = prepare(method, architecture)
    before = {name: p.detach().clone() for name, p in ready.model.named_parameters() if p.requires_grad}
    ready.learn(steps=2)
    after = dict(ready.model.named_parameters())
    assert [name for name, old in before.items() if old.equal(after[name].detach())] == []

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import MODEL_KINDS, MakeModel, save_adapter
from transformers import AutoModelForCausalLM

from tuneboard.tuning.batching import EpochOrder, Layout, collator, pack, single_rows
from tuneboard.tuning.encoding import NOT_TRAINED, Encoded
from tuneboard.tuning.isolation import by_document, keeps_apart
from tuneboard.tuning.losses import count_labels, summed_loss

#: Models that do not keep packed documents apart: positions are not asked for, or masks are made without them, or the
#: state of one runs into the next.
MIXING = {"falcon_alibi", "bloom", "mpt", "opt", "gpt_oss_window", "mamba"}


def documents(*lengths: int, seed: int = 0) -> list[Encoded]:
    rng = np.random.default_rng(seed)
    out = []
    for length in lengths:
        ids = rng.integers(2, 300, length).astype(np.int32)
        labels = np.where(np.arange(length) >= length // 3, ids, NOT_TRAINED).astype(np.int32)
        labels[0] = NOT_TRAINED
        out.append(Encoded(ids, labels))
    return out


@given(st.lists(st.integers(1, 20), min_size=1, max_size=80), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_packing_keeps_every_example_and_wastes_little(lengths: list[int], seed: int) -> None:
    examples = documents(*lengths)
    rows = pack(examples, 20, seed)
    assert sorted(id(one) for row in rows for one in row) == sorted(id(one) for one in examples)
    sizes = [sum(len(one.ids) for one in row) for row in rows]
    assert max(sizes) <= 20
    # Johnson 1974: best-fit decreasing needs at most 11/9 of the fewest rows, and 4 more.
    assert len(rows) <= 11 / 9 * -(-sum(lengths) // 20) * 2 and sum(size <= 10 for size in sizes) <= 1


def test_each_epoch_has_all_rows_in_an_order_of_its_own_that_a_seed_repeats() -> None:
    rows = single_rows(documents(*np.random.default_rng(1).integers(2, 40, 203)))
    orders = {}
    for grouped in (False, True):
        sampler = EpochOrder(rows, 4, grouped, seed=5)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders[grouped, epoch] = list(sampler)
            assert sorted(orders[grouped, epoch]) == list(range(203))
            again = EpochOrder(rows, 4, grouped, seed=5)
            again.set_epoch(epoch)
            assert list(again) == orders[grouped, epoch]
        assert orders[grouped, 0] != orders[grouped, 1]
    assert padding(rows, orders[True, 0]) < 0.1 < padding(rows, orders[False, 0])


def padding(rows, order: list[int]) -> float:
    lengths = [len(rows[index][0].ids) for index in order]
    padded = sum(len(part) * max(part) for part in (lengths[at : at + 4] for at in range(0, len(lengths), 4)))
    return padded / sum(lengths) - 1


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_packed_logits_equal_unpacked_ones_wherever_a_model_is_packed(kind: str, tiny_model: MakeModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(kind)).eval()
    examples = documents(9, 17, 5, 30)
    alone = [model(input_ids=torch.tensor(one.ids, dtype=torch.long)[None]).logits[0] for one in examples]
    assert keeps_apart(model, 60) == (kind not in MIXING)
    if kind in MIXING:
        return
    rows = [tuple(examples[:2]), tuple(examples[2:])]
    batch = collator(Layout("causal", 0, packed=True))(rows)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    got = [logits[0, :9], logits[0, 9:26], logits[1, :5], logits[1, 5:35]]
    for one, other in zip(got, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)


def test_documents_in_one_row_give_the_loss_and_gradients_of_documents_apart(tiny_model: MakeModel) -> None:
    results = []
    examples = documents(9, 17, 5, 30, 1, 2)
    for one_row in (True, False):
        model = AutoModelForCausalLM.from_pretrained(tiny_model("qwen3"))
        layout = Layout("causal", 0, one_row=one_row, packed=one_row)
        with by_document(model, 30) as works, summed_loss(model, "causal") as loss:
            assert works
            if not one_row:
                model.set_attn_implementation("sdpa")
            batch = collator(layout)([(one,) for one in examples])
            total = loss(model, batch)
            total.backward()
        assert model.config._attn_implementation == "sdpa"
        results.append((total.item(), [weight.grad.clone() for weight in model.parameters()], count_labels(batch)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5) and results[0][2] == results[1][2]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lengths", [(20, 20, 20), (9, 17, 5, 30), (600, 40)])
def test_documents_in_one_row_learn_in_bfloat16_nearly_what_they_learn_apart(
    lengths: tuple[int, ...], tiny_model: MakeModel
) -> None:
    results = []
    for one_row in (True, False):
        model = AutoModelForCausalLM.from_pretrained(tiny_model())
        layout = Layout("causal", 0, one_row=one_row, packed=one_row)
        with by_document(model, max(lengths)) as works, summed_loss(model, "causal") as loss:
            assert works
            if not one_row:
                model.set_attn_implementation("sdpa")
            with torch.autocast("cpu", torch.bfloat16, enabled=one_row):
                total = loss(model, collator(layout)(single_rows(documents(*lengths))))
            total.backward()
        gradients = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        results.append((total.item(), gradients))
    (loss_in_row, in_row), (loss_apart, apart) = results
    assert loss_in_row == pytest.approx(loss_apart, rel=2e-3)
    assert torch.nn.functional.cosine_similarity(in_row, apart, dim=0) > 0.999


def test_the_summed_loss_is_that_of_transformers(tiny_model: MakeModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("gemma2_window")).eval()
    examples = documents(9, 17, 5)
    batch = collator(Layout("causal", 0))(single_rows(examples))
    with summed_loss(model, "causal") as loss:
        ours = loss(model, batch) / count_labels(batch)
    labels = torch.full(batch["labels"].shape, NOT_TRAINED)
    for row, one in zip(labels, examples, strict=True):
        row[: len(one.labels)] = torch.from_numpy(one.labels.astype(np.int64))
    theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_attention_by_document_is_left_alone_where_it_would_differ(tiny_model: MakeModel) -> None:
    for kind, longest, expected in (
        ("llama", 128, True),
        ("mistral_window", 128, False),  # the window cuts into documents
        ("mistral_window", 10, True),
        ("gemma2_window", 8, False),  # soft-capped attention
        ("bloom", 8, False),
        ("mamba", 8, False),
    ):
        model = AutoModelForCausalLM.from_pretrained(tiny_model(kind))
        with by_document(model, longest) as works:
            assert works == expected, kind


def test_chunked_attention_is_packed_within_a_chunk_only(tiny_model: MakeModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama4_chunked"))
    assert keeps_apart(model, 60) and not keeps_apart(model, 61)


def test_adapters_are_packed_too(tiny_model: MakeModel, tmp_path) -> None:
    from peft import PeftModel

    base = tiny_model()
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), save_adapter(tmp_path, base))
    assert keeps_apart(model, 128)
    with by_document(model, 128) as works:
        assert works


def test_labels_are_what_the_next_token_is() -> None:
    first, second = documents(4, 3)
    batch = collator(Layout("causal", 0, one_row=True, packed=True))([(first, second)])
    assert batch["labels"][0].tolist() == [*first.labels[1:], NOT_TRAINED, *second.labels[1:], NOT_TRAINED]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch["cu_seq_lens_q"].tolist() == [0, 4, 7] and batch["tokens"] == 7

"""Attention by chunks of a row against one masked product over the whole row, on the same numbers."""

from __future__ import annotations

import pytest

CACHED, STARTS, ROW = 150, (0, 60, 130, 200, 290), 300
HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 12


@pytest.mark.parametrize("weights", [1, 1 << 30], ids=["one head at a time", "all at once"])
@pytest.mark.parametrize("sharing", [4, 2, 1])
@pytest.mark.parametrize(("kind", "bound"), [("float64", 1e-14), ("float32", 2e-6), ("bfloat16", 2e-2)])
def test_chunks_attend_as_the_whole_row_does(
    kind: str, bound: float, sharing: int, weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from tuneboard.engines import attention

    monkeypatch.setattr(attention, "_WEIGHTS", weights)
    torch.manual_seed(0)
    dtype = getattr(torch, kind)
    query = torch.randn(1, ROW, HEADS, KEY_WIDTH, dtype=dtype).transpose(1, 2)
    key = torch.randn(1, sharing, CACHED + ROW, KEY_WIDTH, dtype=dtype)
    value = torch.randn(1, sharing, CACHED + ROW, VALUE_WIDTH, dtype=dtype)
    inside = torch.zeros(ROW, ROW, dtype=torch.bool)
    for first, last in zip(STARTS, [*STARTS[1:], ROW], strict=True):
        inside[first:last, first:last] = torch.ones(last - first, last - first).tril()
    mask = torch.zeros(ROW, ROW, dtype=dtype).masked_fill_(~inside, torch.finfo(dtype).min)
    spans = attention.chunked(STARTS, ROW)
    assert len(spans) > 1
    chunks = [attention.Chunk(span, span, mask[slice(*span), slice(*span)][None, None]) for span in spans]
    layout = attention.RowLayout(CACHED, tuple(chunks))
    kept = torch.tensor([3, 59, 130, 131, 299])

    seen = torch.cat([torch.ones(ROW, CACHED, dtype=torch.bool), inside], dim=1)
    whole = scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True).transpose(1, 2)
    with attention.laid_out(layout, layout.only(kept.numpy())):
        out, _ = attention._attend(None, query, key, value, None)
        few, _ = attention._attend(None, query[:, :, kept], key, value, None)
    torch.testing.assert_close(out, whole, atol=bound, rtol=0)
    torch.testing.assert_close(few, whole[:, kept], atol=bound, rtol=0)

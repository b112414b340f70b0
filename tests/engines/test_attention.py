"""Attention by chunks of a row against one masked product over the whole row, on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

#: Where the sequences' own tokens begin, and how many of the tokens before them they share with the one before.
CACHED, STARTS, SHARED, ROW = 150, (0, 60, 130, 200, 290, 420, 500), (0, 7, 50, 5, 20, 30, 0), 620
HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 12


@pytest.mark.parametrize("sharing", [4, 2, 1])
@pytest.mark.parametrize(("kind", "bound"), [("float64", 1e-14), ("float32", 2e-6), ("bfloat16", 2e-2)])
def test_chunks_attend_as_the_whole_row_does(kind: str, bound: float, sharing: int) -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from tuneboard.engines import attention

    torch.manual_seed(0)
    dtype = getattr(torch, kind)
    query = torch.randn(1, ROW, HEADS, KEY_WIDTH, dtype=dtype).transpose(1, 2)
    key = torch.randn(1, sharing, CACHED + ROW, KEY_WIDTH, dtype=dtype)
    value = torch.randn(1, sharing, CACHED + ROW, VALUE_WIDTH, dtype=dtype)
    inside = np.zeros((ROW, ROW), dtype=np.bool_)
    path = np.arange(0)
    for first, last, shared in zip(STARTS, [*STARTS[1:], ROW], SHARED, strict=True):
        inside[first:last, path[:shared]] = True
        inside[first:last, first:last] = np.tri(last - first, dtype=np.bool_)
        path = np.concatenate([path[:shared], np.arange(first, last)])
    layout = attention.lay_out_row(inside, CACHED, STARTS, dtype)
    assert [chunk.slots for chunk in layout.chunks] == [(0, 200), (200, 420), (420, 620)]
    assert [len(chunk.ancestors) for chunk in layout.chunks] == [0, 5, 30]
    kept = torch.tensor([3, 59, 130, 131, 299, 450, 619])

    seen = torch.cat([torch.ones(ROW, CACHED, dtype=torch.bool), torch.from_numpy(inside)], dim=1)
    whole = scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True).transpose(1, 2)
    with attention.laid_out(layout, layout.only(kept.numpy())):
        out, _ = attention._attend(None, query, key, value, None)
        few, _ = attention._attend(None, query[:, :, kept], key, value, None)
    torch.testing.assert_close(out, whole, atol=bound, rtol=0)
    torch.testing.assert_close(few, whole[:, kept], atol=bound, rtol=0)

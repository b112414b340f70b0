"""Attention by chunks of a row against one masked product over the whole row, on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

#: Where the sequences' own tokens begin, and how many of the tokens before them they share with the one before.
CACHED, STARTS, SHARED, ROW = 150, (0, 60, 130, 200, 290, 420, 500), (0, 7, 50, 5, 20, 30, 0), 620
HEADS, KEY_WIDTH = 4, 16


@pytest.fixture(autouse=True)
def ordinary_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneboard.engines.attention._CHUNK", 192)


# Of one width, torch's fused kernel answers; of two, which some architectures have, products one by one.
@pytest.mark.parametrize("value_width", [KEY_WIDTH, 12])
@pytest.mark.parametrize("sharing", [4, 2, 1])
@pytest.mark.parametrize(("kind", "bound"), [("float64", 1e-14), ("float32", 2e-6), ("bfloat16", 2e-2)])
def test_chunks_attend_as_the_whole_row_does(kind: str, bound: float, sharing: int, value_width: int) -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from tuneboard.engines import attention

    torch.manual_seed(0)
    dtype = getattr(torch, kind)
    query = torch.randn(1, ROW, HEADS, KEY_WIDTH, dtype=dtype).transpose(1, 2)
    key = torch.randn(1, sharing, CACHED + ROW, KEY_WIDTH, dtype=dtype)
    value = torch.randn(1, sharing, CACHED + ROW, value_width, dtype=dtype)
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


@pytest.mark.parametrize(
    ("starts", "size", "chunks"),
    [
        ((0,), 383, [(0, 383)]),
        ((0,), 1024, [(0, 204), (204, 409), (409, 614), (614, 819), (819, 1024)]),
        ((0, 190, 201), 586, [(0, 201), (201, 393), (393, 586)]),
        ((0, 380), 767, [(0, 380), (380, 573), (573, 767)]),
    ],
)
def test_a_row_is_cut_where_a_sequence_begins_or_evenly(
    starts: tuple[int, ...], size: int, chunks: list[tuple[int, int]]
) -> None:
    from tuneboard.engines.attention import chunked

    assert chunked(starts, size) == chunks


def test_the_chunks_of_one_long_sequence_see_all_before_them() -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from tuneboard.engines import attention

    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, HEADS, ROW, KEY_WIDTH, dtype=torch.float64)
    layout = attention.lay_out_row(np.tri(ROW, dtype=np.bool_), 0, (0,), torch.float64)
    assert [len(chunk.ancestors) for chunk in layout.chunks] == [first for first, _ in attention.chunked((0,), ROW)]
    with attention.laid_out(layout):
        out, _ = attention._attend(None, query, key, value, None)
    whole = scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(out, whole, atol=1e-14, rtol=0)

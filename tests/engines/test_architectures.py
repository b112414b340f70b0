"""Every architecture is answered as its plain forward pass answers, whether or not it can share prefixes."""

from __future__ import annotations

from typing import Any

import pytest

SHARING = (
    "llama",
    "llama_untied",
    "mistral_window",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "gemma2_window",
    "gemma3_window",
    "gpt2",
    "gpt_neox",
    "opt",
    "phi",
    "mixtral",
    "olmo2",
    "deepseek_v3",
    "gpt_oss_window",
)
NOT_SHARING = ("gpt_neo_local", "falcon_alibi", "bloom", "mpt", "mamba", "llama4_chunked")
PROMPTS = (
    "Once upon a time",
    "Once upon a time there was a little girl who liked to play",
    "Question: What is the capital of France? Answer:",
    "The man",
    "The man took the bread, cut it into slices and put butter on them; then he ate everything at once! The man",
)


@pytest.mark.parametrize("kind", [*SHARING, *NOT_SHARING])
def test_scores_and_texts_equal_those_of_a_plain_forward_pass(
    kind: str, tiny_model: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    folder = tiny_model(kind)
    lines: list[str] = []
    engine, reference = make_engine(folder, notice=lines.append), plain(folder)
    engine.encoder.max_length = reference.max_length
    engine.budget.row_tokens, engine.budget.min_extend, engine.rows, engine.most_rows = 70, 8, 3, 3
    pairs = pairs[::2]
    scored = ask(engine, "loglikelihood", pairs)
    for (context, continuation), answer in zip(pairs, scored, strict=True):
        logprob, greedy = reference.pair(context, continuation)
        assert answer.response == (pytest.approx(logprob, abs=2e-5), greedy)
    settings = {"until": ["zzz"], "max_gen_toks": 14}
    texts = ask(engine, "generate_until", [(prompt, settings) for prompt in PROMPTS])
    assert [answer.response for answer in texts] == [reference.greedy(prompt, 14) for prompt in PROMPTS]
    assert engine.shares_prefixes == (kind in SHARING)
    assert any("cannot share prefixes" in line for line in lines) == (kind in NOT_SHARING)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["llama", "mistral_window", "gemma3_window", "gpt2"])
def test_half_precision_shares_and_stays_within_its_rounding(
    kind: str, dtype: str, tiny_model: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    folder = tiny_model(kind, dtype=dtype)
    engine, reference = make_engine(folder), plain(folder)
    assert engine.shares_prefixes
    assert engine.info.dtype == dtype
    for (context, continuation), answer in zip(pairs, ask(engine, "loglikelihood", pairs), strict=True):
        logprob, _ = reference.pair(context, continuation)
        assert answer.response[0] == pytest.approx(logprob, abs=0.1, rel=0.02)


@pytest.mark.parametrize("kind", ["bloom", "mamba", "gpt_neo_local", "llama4_chunked"])
def test_half_precision_does_not_hide_that_an_architecture_cannot_share(
    kind: str, tiny_model: Any, make_engine: Any
) -> None:
    assert not make_engine(tiny_model(kind, dtype="bfloat16")).shares_prefixes

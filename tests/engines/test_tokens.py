"""Requests become exactly the tokens that lm-eval's ``hf`` model would feed and score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq
import pytest

from tuneboard.engines.tokens import Encoder, context_length
from tuneboard.errors import EngineError

NASTY = (
    ("", " hello"),
    ("", "<s> hello"),
    ("", "</s>"),
    ("The man", " took the bread"),
    ("The man ", "took the bread"),
    ("The man   ", " took"),
    ("The man\n\n", "took"),
    ("The man\t ", "took"),
    (" ", "took"),
    ("   ", " took"),
    ("\n", "A"),
    (" The man", " took"),
    ("<s>The man", " took"),
    ("<s> The man ", "took"),
    ("<s>", "The"),
    ("</s>The man", " took"),
    ("The man</s>", " took<s>"),
    ("Ein schöner Tag: 日本語のテキスト", " ✓ 🙂🇨🇭 naïve"),
    ("Zero\u200bwidth\u00a0", "space"),
    ("emoji 👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
    ("e\u0301", "\u0301"),
    ("Answer:", " A"),
    ("Answer: (", "B)"),
    ("A", "A"),
    ("prefix mid", "dle of a word"),
    ("\x00\x01", "\x7f"),
    ("a" * 300, "b" * 20),
    ("The man took the bread. " * 20, "He ate it."),
    ("The man took the bread. " * 20, "He ate it. " * 8),
    ("x", "The man took the bread. " * 4),
)


@pytest.fixture(scope="module", params=["bos", "eos", "spaces", "stories"])
def lm(request: Any, tiny_model: Any, tmp_path_factory: Any) -> Any:
    """lm-eval's own model, with each kind of tokenizer, and a context of 48 tokens."""
    from lm_eval.models.huggingface import HFLM

    if request.param == "stories":
        folder = request.getfixturevalue("stories260k")
    else:
        folder = tiny_model("llama", tokenizer=request.param)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1, max_length=48)


@pytest.fixture
def encoder(lm: Any) -> Encoder:
    return Encoder(lm.tokenizer, 48)


@contextmanager
def watched(lm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """Collect what lm-eval feeds to its model."""
    seen: list[list[int]] = []
    call = lm._model_call
    with monkeypatch.context() as patch:
        patch.setattr(lm, "_model_call", lambda inputs, **more: seen.append(inputs[0].tolist()) or call(inputs, **more))
        yield seen


def instance(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize(("context", "continuation"), NASTY)
def test_pairs_are_fed_and_scored_as_lm_eval_does(
    context: str, continuation: str, lm: Any, encoder: Encoder, monkeypatch: Any
) -> None:
    scored: list[Any] = []
    original = lm._loglikelihood_tokens
    monkeypatch.setattr(lm, "_loglikelihood_tokens", lambda r, **more: scored.extend(r) or original(r, **more))
    try:
        with watched(lm, monkeypatch) as seen:
            lm.loglikelihood([instance("loglikelihood", context, continuation)], disable_tqdm=True)
    except AssertionError:
        if lm.tokenizer.bos_token is None and context and not context.strip():
            mine = encoder.pair(context, continuation)
            assert mine.tokens[0] == encoder.prefix_id
            assert mine.targets.tolist() == [*mine.tokens[1:].tolist(), mine.targets[-1]]
            return
        with pytest.raises(EngineError, match=r"has no token of its own|tokens; the context holds 48"):
            encoder.pair(context, continuation)
        return
    mine = encoder.pair(context, continuation)
    assert [mine.tokens.tolist()] == seen
    assert mine.targets.tolist() == scored[0][2]
    assert mine.truncated == (len(scored[0][1]) + len(scored[0][2]) > 49)


def test_warming_up_does_not_change_an_encoding(lm: Any, encoder: Encoder) -> None:
    texts = [text for pair in NASTY for text in encoder.texts("loglikelihood", pair)]
    encoder.warm(texts)
    fresh = Encoder(lm.tokenizer, 48)
    for context, continuation in NASTY:
        try:
            expected = fresh.pair(context, continuation)
        except EngineError:
            continue
        assert encoder.pair(context, continuation).tokens.tolist() == expected.tokens.tolist()
    encoder.forget()
    assert encoder._known == {}


@pytest.mark.parametrize("words", [1, 5, 30, 200])
def test_windows_are_those_of_lm_eval(words: int, lm: Any, encoder: Encoder, monkeypatch: Any) -> None:
    text = "The man took the bread and " * words
    with watched(lm, monkeypatch) as seen:
        lm.loglikelihood_rolling([instance("loglikelihood_rolling", text)], disable_tqdm=True)
    mine = encoder.windows(text)
    assert sorted(window.tokens.tolist() for window in mine) == sorted(seen)
    assert [token for window in mine for token in window.targets.tolist()] == lm.tok_encode(text)


def test_an_empty_text_has_at_most_its_bos_token_to_predict(lm: Any, encoder: Encoder) -> None:
    assert [token for window in encoder.windows("") for token in window.targets.tolist()] == lm.tok_encode("")


@pytest.mark.parametrize("context", [c for c, _ in NASTY if c] + ["<s>" + "long " * 100])
@pytest.mark.parametrize("room", [1, 20, 47])
def test_prompts_are_cut_as_lm_eval_cuts_them(
    context: str, room: int, lm: Any, encoder: Encoder, monkeypatch: Any
) -> None:
    fed: list[Any] = []

    def generate(context: Any, max_length: int, **more: Any) -> Any:
        fed.append((context[0].tolist(), max_length))
        return context

    monkeypatch.setattr(lm, "_model_generate", generate)
    settings = {"until": ["\n"], "max_gen_toks": room}
    if len(lm.tokenizer(context)["input_ids"]) == 0:
        assert encoder.prompt(context, room)[0].tolist() == [encoder.prefix_id]
        return
    lm.generate_until([instance("generate_until", context, settings)], disable_tqdm=True)
    tokens, allowed, truncated = encoder.prompt(context, room)
    assert (tokens.tolist(), len(tokens) + allowed) == fed[0]
    assert truncated == (len(tokens) < len(lm.tok_encode(context)))


@pytest.mark.parametrize("asked", [48, 100])
def test_a_generation_as_long_as_the_context_still_gets_half_of_its_prompt(
    asked: int, lm: Any, encoder: Encoder
) -> None:
    settings = {"until": ["\n"], "max_gen_toks": asked}
    with pytest.raises(AssertionError, match="must be less than model's maximum sequence length"):
        lm.generate_until([instance("generate_until", "The man", settings)], disable_tqdm=True)
    tokens, allowed, truncated = encoder.prompt("The man took the bread. " * 30, asked)
    assert (len(tokens), allowed, truncated) == (24, 24, True)


def test_a_context_of_one_token_has_no_room_for_a_text(encoder: Encoder) -> None:
    with pytest.raises(EngineError, match="the context holds 1 token: no prompt and new token fit"):
        Encoder(encoder.tokenizer, 1).prompt("The man", 1)


def test_a_context_of_one_token_is_that_of_lm_eval(lm: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(lm, "_max_length", 1)
    encoder, answered = Encoder(lm.tokenizer, 1), 0
    for pair in NASTY:
        with watched(lm, monkeypatch) as seen:
            try:
                lm.loglikelihood([instance("loglikelihood", *pair)], disable_tqdm=True)
            except AssertionError:
                if pair[0].strip():
                    with pytest.raises(EngineError, match=r"no token of its own|tokens; the context holds 1"):
                        encoder.pair(*pair)
                continue
        assert [encoder.pair(*pair).tokens.tolist()] == seen
        answered += 1
    assert answered
    with watched(lm, monkeypatch) as seen:
        lm.loglikelihood_rolling([instance("loglikelihood_rolling", "The man took")], disable_tqdm=True)
    assert sorted(one.tokens.tolist() for one in encoder.windows("The man took")) == sorted(seen)


def test_real_questions_are_encoded_as_lm_eval_encodes_them(mirror: Any, lm: Any) -> None:
    encoder = Encoder(lm.tokenizer, 512)
    rows = pq.read_table(mirror / "Rowan/hellaswag/default/validation.parquet").slice(0, 40).to_pylist()
    subject = pq.read_table(mirror / "cais/mmlu/abstract_algebra/test.parquet").slice(0, 40).to_pylist()
    pairs = [(row["ctx"], " " + ending) for row in rows for ending in row["endings"]]
    pairs += [(row["question"] + "\nAnswer:", f" {choice}") for row in subject for choice in row["choices"]]
    for context, continuation in pairs:
        before, targets = lm._encode_pair(context, continuation)
        mine = encoder.pair(context, continuation)
        assert mine.targets.tolist() == targets
        assert mine.tokens.tolist() == (before + targets)[-513:][:-1]


def test_context_lengths_are_those_of_lm_eval(tiny_model: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    for kind in ("llama", "gpt2", "opt", "bloom", "mpt", "mamba"):
        theirs = HFLM(pretrained=str(tiny_model(kind)), device="cpu", dtype="float32")
        assert context_length(theirs.model.config, theirs.tokenizer) == theirs.max_length, kind


def test_a_tokenizer_without_bos_and_eos_is_refused_in_one_line(tiny_model: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(EngineError, match="neither a BOS nor an EOS token"):
        Encoder(tokenizer, 48)

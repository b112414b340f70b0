"""Generation requests as vLLM takes them, and its texts as the other engines cut them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import make_tokenizer
from vllm_stand_in import Completion, Output

from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.tokens import Encoder
from tuneboard.engines.vllm_generation import TextRequest, answers, requests, settings

SHIFTS = {"": 0, "a": 0, "b": 1}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(make_tokenizer(), 128)


def made(encoder: Encoder, *works: Work, defaults: Any = None) -> tuple[list[TextRequest], list[Answer]]:
    failed: list[Answer] = []
    book = RuleBook(encoder.tokenizer, defaults or SimpleNamespace())
    return requests(works, SHIFTS, encoder, book, failed.append), failed


def ask(encoder: Encoder, given: dict[str, Any], defaults: Any = None) -> dict[str, Any]:
    (one,), _ = made(encoder, Work(0, "", "generate_until", ("Once upon", given), seed=7), defaults=defaults)
    return settings(one)


def test_greedy_texts_stop_at_the_tasks_stop_texts_and_at_the_end_of_text(encoder: Encoder) -> None:
    found = ask(encoder, {"until": ["\n\n"], "max_gen_toks": 9})
    assert (found["temperature"], found["max_tokens"], found["seed"]) == (0.0, 9, None)
    assert found["stop"] == ["\n\n", "</s>"] and found["stop_token_ids"] == [encoder.tokenizer.eos_token_id]
    assert found["skip_special_tokens"] is False


def test_sampled_texts_have_the_requests_own_seed_and_the_models_own_settings(encoder: Encoder) -> None:
    found = ask(encoder, {"do_sample": True, "temperature": 0.5, "top_p": 0.9}, SimpleNamespace(top_k=7))
    assert {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 7}.items() <= found.items()


def test_a_penalty_of_the_models_own_config_counts_for_greedy_texts_too(encoder: Encoder) -> None:
    assert ask(encoder, {}, SimpleNamespace(repetition_penalty=1.3))["repetition_penalty"] == 1.3


def test_a_setting_that_vllm_does_not_have_fails_its_request_alone(encoder: Encoder) -> None:
    works = [
        Work(0, "", "generate_until", ("Once", {"no_repeat_ngram_size": 2})),
        Work(1, "", "generate_until", ("Once", {})),
    ]
    texts, failed = made(encoder, *works)
    assert [one.item.id for one in texts] == [1]
    assert failed[0].id == 0 and "no_repeat_ngram_size" in str(failed[0].error)


def test_prompts_keep_their_end_where_they_are_too_long(encoder: Encoder) -> None:
    (one,), _ = made(encoder, Work(0, "", "generate_until", ("word " * 300, {"max_gen_toks": 28})))
    assert len(one.tokens) == 100 and one.truncated and one.room == 28


def test_candidates_of_one_shift_share_a_stream_and_prompts_with_a_common_beginning_are_neighbours(
    encoder: Encoder,
) -> None:
    works = [
        Work(i, c, "generate_until", (t, {}))
        for i, (c, t) in enumerate((c, t) for c in ("b", "a", "") for t in ("xyz", "abc 1", "abc 2"))
    ]
    texts, _ = made(encoder, *works)
    order = [(one.item.candidate, one.item.arguments[0]) for one in texts]
    assert [c for c, _ in order[6:]] == ["b"] * 3
    assert [t for _, t in order[:6]] == sorted(t for _, t in order[:6])


def test_texts_are_cut_at_stop_texts_and_tokens_are_counted(encoder: Encoder) -> None:
    (one,), _ = made(encoder, Work(3, "", "generate_until", ("Once upon a time", {"until": ["."]})))
    new = encoder.tokenizer("red ball. Then", add_special_tokens=False)["input_ids"]
    output = Output("0", [Completion([*new, encoder.tokenizer.eos_token_id])], num_cached_tokens=2)
    (answer,) = answers([one], iter([(0, output)]), encoder.tokenizer)
    assert answer.response == "red ball"
    prompt, written = len(one.tokens), len(new) + 1
    # The last token is chosen and never fed.
    assert answer.tokens.computed == prompt - 2 + written - 1
    assert answer.tokens.computed + answer.tokens.reused == prompt + written
    assert answer.tokens.distinct == prompt + written


def test_a_refused_prompt_is_answered_with_the_reason(encoder: Encoder) -> None:
    (one,), _ = made(encoder, Work(3, "", "generate_until", ("Once", {})))
    (answer,) = answers([one], iter([(0, "vLLM refuses the request: too long")]), encoder.tokenizer)
    assert (answer.id, answer.response, answer.error) == (3, None, "vLLM refuses the request: too long")

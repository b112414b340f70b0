"""Generation settings become the rules that lm-eval and ``generate`` would follow, or one clear refusal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoTokenizer, GenerationConfig

from tuneboard.engines.sampling import RuleBook, Rules, choose
from tuneboard.errors import EngineError

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -6.0])


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Any) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model("llama"))


@pytest.fixture
def book(tokenizer: Any) -> RuleBook:
    return RuleBook(tokenizer, GenerationConfig(eos_token_id=[1, 5]))


def drawn(rules: Rules, count: int = 4000) -> Counter[int]:
    generator = torch.Generator().manual_seed(0)
    logits = LOGITS.expand(count, -1)
    return Counter(choose(logits, [rules] * count, [()] * count, [generator] * count))


def expected(temperature: float = 1.0, keep: int = 8) -> torch.Tensor:
    scaled = LOGITS.double() / temperature
    scaled[keep:] = -torch.inf
    return scaled.softmax(-1)


@pytest.mark.parametrize(
    ("settings", "probabilities"),
    [
        ({"temperature": 1.0}, expected()),
        ({"temperature": 0.5}, expected(0.5)),
        ({"temperature": 2.0, "do_sample": True}, expected(2.0)),
        ({"temperature": 1.0, "top_k": 3}, expected(keep=3)),
        ({"temperature": 1.0, "top_k": 0, "top_p": 0.7}, expected(keep=3)),
        ({"temperature": 1.0, "min_p": 0.3}, expected(keep=3)),
        ({"do_sample": True}, expected()),
    ],
)
def test_draws_follow_the_distribution_that_was_asked_for(
    settings: dict[str, Any], probabilities: torch.Tensor, book: RuleBook
) -> None:
    counts = drawn(book.rules(settings))
    possible = [token for token, p in enumerate(probabilities.tolist()) if p > 0]
    assert set(counts) <= set(possible)
    observed = [counts[token] for token in possible]
    assert chisquare(observed, [4000 * float(probabilities[token]) for token in possible]).pvalue > 1e-4


def test_equal_logits_and_seed_give_equal_draws(book: RuleBook) -> None:
    rules = book.rules({"temperature": 1.0})
    draws = [
        choose(LOGITS[None].expand(5, -1), [rules] * 5, [()] * 5, [torch.Generator().manual_seed(seed)] * 5)
        for seed in (7, 7, 8)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"do_sample": False, "temperature": 0.7}, {"top_k": 2}])
def test_without_a_temperature_the_likeliest_token_is_taken(settings: dict[str, Any], book: RuleBook) -> None:
    assert set(drawn(book.rules(settings), 50)) == {0}


def test_greedy_and_sampled_rows_stand_side_by_side(book: RuleBook) -> None:
    greedy, sampled = book.rules({}), book.rules({"temperature": 5.0})
    generator = torch.Generator().manual_seed(1)
    rows = choose(LOGITS.expand(60, -1), [greedy, sampled] * 30, [()] * 60, [None, generator] * 30)
    assert set(rows[::2]) == {0}
    assert len(set(rows[1::2])) > 3


def test_repetition_penalty_sees_prompt_and_text(book: RuleBook) -> None:
    rules = book.rules({"repetition_penalty": 2.0})
    assert choose(LOGITS[None], [rules], [(0,)], [None]) == [1]
    assert choose(LOGITS[None], [rules], [(0, 1)], [None]) == [0 if LOGITS[0] / 2 >= LOGITS[2] else 2]


def test_defaults_come_from_the_generation_config_of_the_model(tokenizer: Any) -> None:
    book = RuleBook(tokenizer, GenerationConfig(eos_token_id=3, repetition_penalty=1.3, temperature=0.2, top_k=2))
    assert [type(p).__name__ for p in book.rules({}).processors] == ["RepetitionPenaltyLogitsProcessor"]
    assert set(drawn(book.rules({"do_sample": True}), 200)) <= {0, 1}
    assert book.rules({}).end_ids == {1, 3}


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({}, 256),
        ({"max_gen_toks": 7}, 7),
        ({"max_new_tokens": 9}, 9),
        ({"max_tokens": 11}, 11),
        ({"max_completion_tokens": 3}, 3),
        ({"max_gen_toks": 7, "max_new_tokens": 9}, 7),
        ({"max_gen_toks": "12"}, 12),
    ],
)
def test_lengths_are_read_as_lm_eval_reads_them(settings: dict[str, Any], tokens: int, book: RuleBook) -> None:
    from lm_eval.models.utils import normalize_gen_kwargs

    assert book.rules(settings).max_new_tokens == tokens == normalize_gen_kwargs(settings)["max_gen_toks"]


def test_the_eos_text_is_a_stop_string_as_in_lm_eval(book: RuleBook) -> None:
    assert book.rules({"until": ["\n\n"]}).stop == ("\n\n", "</s>")
    assert book.rules({"until": "</s>"}).stop == ("</s>",)
    assert book.rules({}).end_ids == {1, 5}


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [("a b c", (" c", " b"), "a"), ("abc", ("", "c"), "ab"), ("abc", ("x",), "abc"), ("stop", ("stop",), "")],
)
def test_texts_are_cut_at_every_stop_string_in_turn(text: str, stop: tuple[str, ...], kept: str) -> None:
    from lm_eval.models.utils import postprocess_generated_text

    assert Rules(1, stop, frozenset(), 8).finish(text) == kept
    assert postprocess_generated_text(text, list(stop), None) == kept


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_beams": 4}, "num_beams=4 is not supported"),
        ({"typical_p": 0.9}, "typical_p=0.9 is not supported"),
        ({"max_gen_toks": 0}, "max_gen_toks is 0; expected at least 1"),
        ({"do_sample": True, "temperature": 0.0}, "temperature above 0"),
    ],
)
def test_what_cannot_be_honoured_is_refused(settings: dict[str, Any], says: str, book: RuleBook) -> None:
    with pytest.raises(EngineError, match=says):
        book.rules(settings)


def test_settings_that_change_nothing_may_be_given(book: RuleBook) -> None:
    assert book.rules({"num_beams": 1, "use_cache": True, "until": []}).processors == ()

"""A request that cannot be answered fails alone, with its reason, and is never scored."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tuneboard.engines.protocol import Work
from tuneboard.errors import EngineError

GENERATE = {"until": ["zzz"], "max_gen_toks": 6}


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_fail_every_sample(
    value: float, shares: bool, tiny_model: Any, make_engine: Any, pairs: Any, ask: Any
) -> None:
    engine = make_engine(tiny_model("llama_untied"))
    engine.shares_prefixes = shares
    with torch.no_grad():
        engine.model.lm_head.weight[7] = value
    for kind, arguments in (
        ("loglikelihood", pairs[:6]),
        ("loglikelihood_rolling", [("The man took the bread.",)]),
        ("generate_until", [(prompt, GENERATE) for prompt in ("Once", "The man")]),
    ):
        for answer in ask(engine, kind, arguments):
            assert answer.response is None, kind
            assert "not a number" in answer.error or "not numbers" in answer.error


def test_a_broken_adapter_fails_its_own_samples_only(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any
) -> None:
    base = tiny_model("llama_untied")
    engine = make_engine(base, {"bad": tiny_adapter(base), "good": tiny_adapter(base, seed=2)})
    with torch.no_grad():
        for name, weight in engine.model.named_parameters():
            if "candidate0" in name and "lora_B" in name:
                weight.fill_(float("nan"))
    pair = ("The man", " took")
    kinds: list[tuple[Any, Any]] = [("loglikelihood", pair), ("generate_until", ("Once", GENERATE))]
    work = [Work(i, n, *k) for i, (n, k) in enumerate((n, k) for n in ("bad", "good", "") for k in kinds)]
    answers = {answer.id: answer for answer in engine.run(work)}
    assert [answers[i].response is None for i in range(6)] == [True, True, False, False, False, False]
    assert answers[4].response[0] == pytest.approx(plain(base).pair(*pair)[0], abs=5e-5)


def test_a_request_that_cannot_be_encoded_fails_alone(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    answers = ask(engine, "loglikelihood", [("The man", " took"), ("The man", ""), ("A", "long " * 400), ("A", " B")])
    assert [answer.response is None for answer in answers] == [False, True, True, False]
    assert "has no token of its own" in answers[1].error
    assert "the context holds 128" in answers[2].error


def test_text_that_no_tokenizer_takes_fails_alone(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    answers = ask(engine, "loglikelihood", [("The man", " took"), ("half a pair \ud83d", " took"), ("A", " \udc00")])
    assert [answer.response is None for answer in answers] == [False, True, True]
    texts = ask(engine, "generate_until", [("Once", GENERATE), ("\ud83d", GENERATE)])
    assert [answer.response is None for answer in texts] == [False, True]


def test_settings_that_cannot_be_honoured_fail_alone(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    answers = ask(engine, "generate_until", [("Once", {**GENERATE, "num_beams": 3}), ("Once", GENERATE)])
    assert [answer.response is None for answer in answers] == [True, False]
    assert "num_beams=3 is not supported" in answers[0].error


def test_what_breaks_scoring_fails_what_is_open_and_leaves_generation_alone(
    tiny_model: Any, make_engine: Any, monkeypatch: Any
) -> None:
    from tuneboard.engines import scoring

    engine = make_engine(tiny_model("llama"))

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("something in a kernel\nwith a long trace")

    monkeypatch.setattr(scoring, "pick", broken)
    work = [
        Work(0, "", "loglikelihood", ("The man", " took")),
        Work(1, "", "generate_until", ("Once", GENERATE)),
        Work(2, "", "loglikelihood", ("The man", " ate")),
    ]
    answers = {answer.id: answer for answer in engine.run(work)}
    assert answers[0].error == answers[2].error == "something in a kernel"
    assert isinstance(answers[1].response, str)


def test_a_candidate_that_was_never_attached_is_refused(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    with pytest.raises(EngineError, match="no adapter named 'x' is attached"):
        ask(make_engine(tiny_model("llama")), "loglikelihood", [("A", " B")], "x")


def test_an_engine_goes_on_after_a_failure(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine = make_engine(base)
    ask(engine, "loglikelihood", [("The man", "")])
    answer = ask(engine, "loglikelihood", [("The man", " took")])[0]
    assert answer.response[0] == pytest.approx(plain(base).pair("The man", " took")[0], abs=5e-5)


def test_no_work_gives_no_answers(tiny_model: Any, make_engine: Any) -> None:
    assert list(make_engine(tiny_model("llama")).run([])) == []

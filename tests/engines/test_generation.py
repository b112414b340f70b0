"""Generated texts are those of Hugging Face's ``generate``, one prompt at a time, whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tuneboard.engines import generation
from tuneboard.engines.protocol import Work

BLOCK = "Question: How much is 12 + 30? Answer: 42. "
PROMPTS = (
    "Once",
    "Once upon a time there was a little girl",
    f"{BLOCK}Question: What is light? Answer:",
    f"{BLOCK}Question: Who took the bread and put butter on it? Answer:",
    f"{BLOCK}Question: Who took",
    f"{BLOCK}Question: Who",
    "B",
    "The man took the bread. " * 12,
    "Once",
    "The",
)


def texts(engine: Any, ask: Any, settings: dict[str, Any], prompts: Any = PROMPTS, candidate: str = "") -> list[Any]:
    answers = ask(engine, "generate_until", [(prompt, settings) for prompt in prompts], candidate)
    assert all(answer.error is None for answer in answers)
    return [answer.response for answer in answers]


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("row_tokens", [16, 512])
def test_ragged_prompts_continue_as_one_at_a_time(
    rows: int, row_tokens: int, tiny_model: Any, make_engine: Any, plain: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    engine, reference = make_engine(base), plain(base)
    engine.rows = engine.most_rows = rows
    engine.budget.row_tokens, engine.budget.min_extend = row_tokens, 4
    settings = {"until": ["zzz"], "max_gen_toks": 14}
    assert texts(engine, ask, settings) == [reference.greedy(prompt, 14) for prompt in PROMPTS]


@pytest.mark.parametrize(("room", "expected"), [(1 << 30, 20), (1, 3), (0, 3)])
def test_small_models_generate_more_texts_at_a_time(
    room: int, expected: int, tiny_model: Any, make_engine: Any, ask: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(generation, "_ROOM", room)
    engine = make_engine(tiny_model("llama"))
    engine.rows, engine.most_rows, together = 3, 20, [0]
    inner = engine.model.model
    forward = inner.forward

    def counting(*arguments: Any, **more: Any) -> Any:
        out = forward(*arguments, **more)
        together[0] = max(together[0], len(out[0]))
        return out

    monkeypatch.setattr(inner, "forward", counting)
    answers = texts(engine, ask, {"until": [], "max_gen_toks": 6}, [f"Story {i} of" for i in range(40)])
    assert len(answers) == 40 and together[0] == expected


def test_one_batch_may_mix_lengths_of_generation(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine, reference = make_engine(base), plain(base)
    engine.rows = engine.most_rows = 4
    arguments = [(prompt, {"until": [], "max_gen_toks": 1 + 4 * i}) for i, prompt in enumerate(PROMPTS)]
    answers = ask(engine, "generate_until", arguments)
    expected = [reference.greedy(prompt, settings["max_gen_toks"]) for prompt, settings in arguments]
    assert [answer.response for answer in answers] == expected


def test_texts_end_at_stop_strings_even_inside_a_token(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine, reference = make_engine(base), plain(base)
    arguments, expected = [], []
    for prompt in PROMPTS[:4]:
        whole = reference.greedy(prompt, 40)
        stops = [whole[start : start + length] for start in range(0, len(whole) - 3, 9) for length in (1, 3)]
        for stop in stops:
            if stop.strip("\ufffd"):
                arguments.append((prompt, {"until": [stop, "zzz"], "max_gen_toks": 40}))
                expected.append(whole.split(stop)[0])
    assert len(arguments) > 20
    assert [answer.response for answer in ask(engine, "generate_until", arguments)] == expected


def test_a_stopped_row_is_not_computed_further(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine, whole = make_engine(base), plain(base).greedy("Once upon a time", 60)
    stop = whole[4:7]
    answer = ask(engine, "generate_until", [("Once upon a time", {"until": [stop], "max_gen_toks": 60})])[0]
    ids = engine.tokenizer("Once upon a time")["input_ids"]
    assert answer.tokens.computed < len(ids) + 30


@pytest.mark.parametrize("stop", ["x", ["x"], None, []])
def test_stop_strings_may_be_one_many_or_none(
    stop: Any, tiny_model: Any, make_engine: Any, plain: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    whole = plain(base).greedy("Once", 30)
    expected = whole.split("x")[0] if stop else whole
    assert texts(make_engine(base), ask, {"until": stop, "max_gen_toks": 30}, ["Once"]) == [expected]


def test_the_eos_token_ends_a_text(tiny_model: Any, make_engine: Any, plain: Any, ask: Any, monkeypatch: Any) -> None:
    base = tiny_model("llama")
    engine, reference = make_engine(base), plain(base)
    ids = reference.tokenizer("Once upon a time")["input_ids"]
    tokens = reference.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=1)[0]
    early = int(tokens[len(ids) + 5])
    engine.model.generation_config.eos_token_id = [1, early]
    monkeypatch.setattr(reference.model.generation_config, "eos_token_id", [1, early])
    expected = reference.generate("Once upon a time", 12)
    assert texts(engine, ask, {"until": [], "max_gen_toks": 12}, ["Once upon a time"]) == [expected]


@pytest.mark.parametrize("most_rows", [8, 64])
@pytest.mark.parametrize("fails_at", [{0}, {4}, {0, 5, 6}])
def test_a_full_memory_halves_the_batch_and_changes_no_text(
    fails_at: set[int], most_rows: int, tiny_model: Any, make_engine: Any, plain: Any, ask: Any, monkeypatch: Any
) -> None:
    base = tiny_model("llama")
    lines: list[str] = []
    engine, reference = make_engine(base, notice=lines.append), plain(base)
    engine.rows, engine.most_rows, engine.budget.row_tokens = 8, most_rows, 256
    inner = engine.model.model
    forward, calls = inner.forward, [0]

    def failing(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        out = forward(*arguments, **more)
        if calls[0] - 1 in fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out

    monkeypatch.setattr(inner, "forward", failing)
    got = texts(engine, ask, {"until": ["zzz"], "max_gen_toks": 12})
    assert got == [reference.greedy(prompt, 12) for prompt in PROMPTS]
    assert len(lines) == len(fails_at)
    assert lines[0].startswith("out of memory: going on with 4 texts")


def test_a_memory_that_stays_full_is_one_clear_error(
    tiny_model: Any, make_engine: Any, ask: Any, monkeypatch: Any
) -> None:
    engine = make_engine(tiny_model("llama"))

    def failing(*arguments: Any, **more: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model.model, "forward", failing)
    answers = ask(engine, "generate_until", [("Once", {"until": [], "max_gen_toks": 4})] * 2)
    assert [answer.response for answer in answers] == [None, None]
    assert all("out of memory with one text at a time" in answer.error for answer in answers)


SAMPLED = {"until": ["zzz"], "max_gen_toks": 10, "do_sample": True, "temperature": 0.9, "top_p": 0.95, "top_k": 40}


def test_a_sampled_text_depends_on_its_seed_and_not_on_its_batch(tiny_model: Any, make_engine: Any) -> None:
    engine = make_engine(tiny_model("llama"))

    def run(works: list[Work], rows: int) -> dict[int, Any]:
        engine.rows = engine.most_rows = rows
        return {answer.id: answer.response for answer in engine.run(works)}

    works = [Work(i, "", "generate_until", (PROMPTS[i % 5], SAMPLED), seed=100 + i) for i in range(10)]
    together, alone = run(works, 16), {}
    for work in works:
        alone |= run([work], 1)
    assert together == alone == run(works[::-1], 3)
    assert together[0] != together[5], "repeats of a prompt under other seeds differ"


def test_repeats_of_a_prompt_are_prefilled_once(tiny_model: Any, make_engine: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    works = [Work(i, "", "generate_until", (PROMPTS[3], SAMPLED), seed=i) for i in range(6)]
    answers = list(engine.run(works))
    prompt = len(engine.tokenizer(PROMPTS[3])["input_ids"])
    assert sum(answer.tokens.computed for answer in answers) <= prompt + 6 * 9


def test_shared_examples_are_prefilled_once(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    engine.encoder.max_length, block = 4096, BLOCK * 20
    arguments = [(f"{block}Question {i}? Answer:", {"until": [], "max_gen_toks": 2}) for i in range(20)]
    answers = ask(engine, "generate_until", arguments)
    computed = sum(answer.tokens.computed for answer in answers)
    assert computed <= 1.1 * sum(answer.tokens.distinct for answer in answers)
    assert sum(answer.tokens.reused for answer in answers) > 10 * computed


def test_both_generators_agree(tiny_model: Any, make_engine: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    works = [Work(i, "", "generate_until", (prompt, SAMPLED), seed=i) for i, prompt in enumerate(PROMPTS)]
    shared = {answer.id: answer.response for answer in engine.run(works)}
    engine.shares_prefixes = False
    assert {answer.id: answer.response for answer in engine.run(works)} == shared

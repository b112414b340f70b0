"""A server's answers become those that another engine would give, or a reason why not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from model_server import FakeModel, Fault, ModelServer, Scored, hurry, serving

from tuneboard.engines.json_server import HttpOptions
from tuneboard.engines.openai import OpenAIEngine, ServerOptions, look_up
from tuneboard.engines.protocol import Work
from tuneboard.engines.served import ServedChat, served_adapter, served_model
from tuneboard.errors import EngineError, UnknownName

PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " a large city."),
    ("The capi", "tal of France is Paris"),
    ("Question: Why? Answer: ", "because"),
    ("Was kostet das? Über", " fünf €, glaube ich"),
]


class RealModel:
    """A transformers model that is asked one sequence at a time."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def score(self, prompt: str | list[int]) -> list[Scored]:
        ids = self._ids(prompt)
        rows, out = self.plain.logprobs(ids), [Scored(ids[0], "", None, 0)]
        for row, token in zip(rows, ids[1:], strict=False):
            rank = int((row > row[token]).sum()) + 1
            out.append(Scored(token, self.plain.tokenizer.decode(token), float(row[token]), rank))
        return out

    def _ids(self, prompt: str | list[int]) -> list[int]:
        return list(self.plain.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt)

    def write(self, prompt: str | list[int], body: Mapping[str, Any]) -> str:
        ids = self._ids(prompt)
        start = len(ids)
        while len(ids) - start < body["max_tokens"]:
            ids.append(int(self.plain.logprobs(ids)[-1].argmax()))
            if ids[-1] == self.plain.tokenizer.eos_token_id:
                break
        return str(self.plain.tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def serve() -> Iterator[Any]:
    """``serve(models, ...)``: a running server."""
    with ExitStack() as stack:
        yield lambda models=None, **settings: stack.enter_context(
            serving(ModelServer(models or {"base": FakeModel()}, **settings))
        )


@pytest.fixture
def connect() -> Any:
    """``connect(server, name, notes, ...)``: an engine on it."""

    def make(server: ModelServer, name: str = "base", notes: list[str] | None = None, **options: Any) -> OpenAIEngine:
        notice = (lambda line: None) if notes is None else notes.append
        return OpenAIEngine(served_model(server.url, name, {}), ServerOptions(**options), notice)

    return make


def expected(model: FakeModel, context: str, continuation: str) -> tuple[float, bool]:
    """lm-eval's rule: the continuation is what the encoding of both has beyond the length of the context's own."""
    spaces = len(context) - len(context.rstrip())
    context, continuation = context[: len(context) - spaces], context[len(context) - spaces :] + continuation
    own = model.score(context + continuation)[len(model.score(context)) :]
    return sum(token.logprob or 0.0 for token in own), all(token.rank == 1 for token in own)


@pytest.mark.parametrize("bos", ["", "<s>"])
@pytest.mark.parametrize("form", ["prompt_logprobs", "echo"])
def test_log_likelihoods_are_summed_over_the_tokens_that_lm_eval_would_score(
    form: str, bos: str, serve: Any, connect: Any, ask: Any
) -> None:
    engine = connect(serve(forms=(form,), bos=bos))
    for answer, pair in zip(ask(engine, "loglikelihood", PAIRS), PAIRS, strict=True):
        assert answer.error is None
        logprob, greedy = expected(FakeModel(), *pair)
        assert answer.response == (pytest.approx(logprob, abs=1e-9), greedy)
        assert answer.tokens.computed > 0 and answer.tokens.reused > 0


def test_with_the_tokenizer_at_hand_everything_equals_the_transformers_engine(
    serve: Any, connect: Any, ask: Any, make_engine: Any, tiny_model: Any, plain: Any, pairs: Any
) -> None:
    base = tiny_model("llama")

    def too_long(path: str, body: Mapping[str, Any]) -> Fault | None:
        fits = not body or len(body["prompt"]) + body["max_tokens"] <= 128
        return None if fits else Fault(400, {"error": {"message": "maximum context length is 128"}})

    server = serve({"base": RealModel(plain(base))}, details={"max_model_len": 128}, fault=too_long)
    engine, other = connect(server, tokenizer=str(base)), make_engine(base)
    requests = [("loglikelihood", [*pairs[:8], ("", " Once upon")]), ("loglikelihood_rolling", [("The man took it.",)])]
    requests.append(("generate_until", [(text, {"max_gen_toks": 5, "until": [" "]}) for text in ("Once", "The man")]))
    for kind, arguments in requests:
        for mine, theirs in zip(ask(engine, kind, arguments), ask(other, kind, arguments), strict=True):
            assert mine.error is None
            assert mine.response == (
                theirs.response if kind == "generate_until" else pytest.approx(theirs.response, abs=1e-4)
            )
    long = "The man took the bread. " * 40
    (scored,) = ask(engine, "loglikelihood", [(long, " Then he ate")])
    (written,) = ask(engine, "generate_until", [(long, {"max_gen_toks": 4})])
    assert (scored.error, scored.tokens.truncated) == (written.error, written.tokens.truncated) == (None, 1)
    assert engine.info.details["max_length"] == 128


def test_a_tokenizer_of_another_model_is_found_out(
    serve: Any, connect: Any, ask: Any, tiny_model: Any, plain: Any
) -> None:
    class Other(RealModel):
        def score(self, prompt: str | list[int]) -> list[Scored]:
            return [Scored(token.id + 1, token.text, token.logprob, token.rank) for token in super().score(prompt)]

    base = tiny_model("llama")
    engine = connect(serve({"base": Other(plain(base))}), tokenizer=str(base))
    (answer,) = ask(engine, "loglikelihood", [("Once", " upon")])
    assert answer.response is None and "is --tokenizer that of the model?" in answer.error


def test_without_prompt_log_probabilities_scoring_is_refused_in_one_line_and_texts_are_written(
    serve: Any, connect: Any
) -> None:
    server = serve(forms=())
    engine = connect(server)
    work = [Work(i, "", "loglikelihood", pair) for i, pair in enumerate(PAIRS)]
    work.append(Work(9, "", "generate_until", ("Say", {"until": ["."]})))
    answers = {answer.id: answer for answer in engine.run(work)}
    for place in range(len(PAIRS)):
        assert answers[place].response is None
        assert "gives no log-probabilities of its prompts" in answers[place].error
        assert "\n" not in answers[place].error
    assert re.fullmatch(r" so the answer is \d", answers[9].response)
    assert len(server.posts()) == 3  # two forms were tried, once


@pytest.mark.parametrize(
    ("kind", "arguments"), [("loglikelihood_rolling", ("A text.",)), ("loglikelihood", ("", " a"))]
)
def test_what_starts_at_the_bos_token_asks_for_the_tokenizer(
    kind: Any, arguments: tuple[str, ...], serve: Any, connect: Any, ask: Any
) -> None:
    (answer,) = ask(connect(serve()), kind, [arguments])
    assert answer.response is None and "--tokenizer" in answer.error


def test_generation_settings_reach_the_server_by_its_names(serve: Any, connect: Any, ask: Any) -> None:
    server = serve()
    sampled = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_gen_toks": 7, "until": ["\n", ""]}
    ask(connect(server), "generate_until", [("greedy", {"max_gen_toks": 3}), ("sampled", sampled)])
    greedy, drawn = sorted(server.posts(), key=lambda body: body["prompt"])
    assert greedy == {"model": "base", "prompt": "greedy", "max_tokens": 3, "temperature": 0.0}
    assert drawn.pop("seed") == 1
    assert drawn == {
        "model": "base",
        "prompt": "sampled",
        "max_tokens": 7,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "stop": ["\n"],
    }


def test_a_setting_that_no_server_knows_fails_its_request_alone(serve: Any, connect: Any, ask: Any) -> None:
    answers = ask(
        connect(serve()), "generate_until", [("a", {"no_repeat_ngram_size": 2}), ("b", {"num_beams": 4}), ("c", {})]
    )
    assert [answer.response is None for answer in answers] == [True, True, False]
    assert "no_repeat_ngram_size" in answers[0].error and "num_beams" in answers[1].error


def test_what_a_server_refuses_by_name_is_left_out_and_said_once(serve: Any, connect: Any, ask: Any) -> None:
    notes: list[str] = []
    server = serve(refuses=("stop", "seed"))
    settings = {"until": [" answer"], "do_sample": True, "temperature": 1.0}
    answers = ask(connect(server, notes=notes), "generate_until", [(text, settings) for text in "abcdef"])
    assert {answer.response for answer in answers} == {" so the"}
    assert sorted(line.partition("'")[2].partition("'")[0] for line in notes) == ["seed", "stop"]


def test_newer_models_get_their_name_for_the_number_of_tokens(serve: Any, connect: Any, ask: Any) -> None:
    def only_new(path: str, body: Mapping[str, Any]) -> Fault | None:
        message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return Fault(400, {"error": {"message": message}}) if "max_tokens" in body else None

    server = serve(fault=only_new)
    (answer,) = ask(connect(server), "generate_until", [("a", {"max_gen_toks": 4})])
    assert answer.error is None
    assert server.posts()[-1]["max_completion_tokens"] == 4


def test_chats_go_to_chat_completions_and_are_not_scored(serve: Any, connect: Any, ask: Any) -> None:
    server = serve()
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    begun = [*chat, {"role": "assistant", "content": "The answer"}]
    texts = [ServedChat().apply_chat_template(one) for one in (chat, begun)]
    engine = connect(server)
    assert all(answer.error is None for answer in ask(engine, "generate_until", [(text, {}) for text in texts]))
    (scored,) = ask(engine, "loglikelihood", [(texts[0], " yes")])
    assert "--apply-chat-template" in scored.error
    own, open_ended = sorted((body for _, body in server.asked if "messages" in body), key=lambda b: len(b["messages"]))
    assert own["messages"] == chat and "continue_final_message" not in own
    assert (open_ended["messages"], open_ended["continue_final_message"]) == (begun, True)


def test_a_server_without_completions_gets_each_prompt_as_one_message(serve: Any, connect: Any, ask: Any) -> None:
    notes: list[str] = []
    server = serve(has_completions=False)
    engine = connect(server, notes=notes)
    for answer in ask(engine, "generate_until", [(text, {}) for text in ("a", "b", "c", "d")]):
        assert answer.error is None
    assert [line for line in notes if "no completions" in line] == notes[-1:]
    assert server.posts()[-1]["messages"][0]["role"] == "user"


def test_an_answer_without_a_text_is_a_failed_sample(serve: Any, connect: Any, ask: Any) -> None:
    odd: list[Any] = [{"choices": [{"text": None, "finish_reason": "content_filter"}]}, {"choices": []}, ["?"]]
    for body in odd:
        engine = connect(
            serve(fault=lambda path, asked, body=body: Fault(200, body) if "completions" in path else None)
        )
        (answer,) = ask(engine, "generate_until", [("a", {})])
        assert answer.response is None
        assert re.search("without a text \\(content_filter\\)|in no form of OpenAI's", answer.error)


def test_adapters_are_names_on_the_server_and_are_told_apart_from_the_base(serve: Any, connect: Any, ask: Any) -> None:
    models = {"base": FakeModel("base"), "lora-a": FakeModel("a"), "copy": FakeModel("base")}
    notes: list[str] = []
    for settings in ({}, {"forms": ()}):
        server = serve(models, **settings)
        engine = connect(server, notes=notes)
        for mine, name in (("a", "lora-a"), ("b", "copy")):
            engine.attach(mine, served_adapter(server.url, name, {}))
        prompts = ["The capital of France is", "Once upon a time"]
        assert engine.shift("a", prompts) > 0
        assert engine.shift("b", prompts) == 0
    (answer,) = ask(engine, "generate_until", [("Say", {})], "a")
    assert answer.response == FakeModel("a").write("Say", {"temperature": 0.0})
    with pytest.raises(EngineError, match="no adapter named 'c'"):
        list(engine.run([Work(0, "c", "generate_until", ("Say", {}))]))
    assert notes == []


def test_where_only_texts_are_known_and_the_same_it_cannot_be_told(serve: Any, connect: Any) -> None:
    notes: list[str] = []
    models = {"base": FakeModel(texts={"": "same"}), "a": FakeModel("a", texts={"": "same"})}
    server = serve(models, has_completions=False)
    engine = connect(server, notes=notes)
    engine.attach("a", served_adapter(server.url, "a", {}))
    assert math.isnan(engine.shift("a", ["Once"]))
    assert "cannot be told" in notes[-1]


def test_what_the_server_reports_is_known(serve: Any, connect: Any) -> None:
    engine = connect(serve(details={"owned_by": "vllm", "max_model_len": 64}))
    assert (engine.info.name, engine.info.version, engine.info.dtype) == ("openai", "vllm 0.0.test", "served")
    assert engine.info.details["max_length"] == 64
    assert connect(serve(details={"max_model_len": 64}), max_length=32).info.details["max_length"] == 32
    assert "max_length" not in connect(serve()).info.details
    # vLLM reports the length of a base alone, and adapters name their base.
    rows = [{"id": "a", "parent": "base", "max_model_len": None}, {"id": "base", "max_model_len": 77}]
    server = serve(fault=lambda path, body: Fault(200, {"data": rows}) if path == "/v1/models" else None)
    assert connect(server, "a").info.details["max_length"] == 77


def test_an_unknown_name_lists_what_is_served(serve: Any) -> None:
    server = serve({"llama": FakeModel(), "mine": FakeModel()})
    with pytest.raises(UnknownName, match=r"unknown model 'lama'; did you mean llama\?.*serves: llama, mine"):
        look_up(server.url, ["mine", "lama"], HttpOptions(), lambda line: None)
    notes: list[str] = []
    assert look_up(serve(has_models=False).url, ["any"], HttpOptions(), notes.append) == [{}]
    assert "lists no models" in notes[0]


def test_so_many_requests_as_asked_for_are_under_way_at_a_time(serve: Any, connect: Any, ask: Any) -> None:
    slow = Fault(200, {"choices": [{"text": "late"}]}, after_s=0.05)
    server = serve(fault=lambda path, body: slow if body else None)
    engine = connect(server, http=HttpOptions(concurrency=4))
    assert len(ask(engine, "generate_until", [(f"prompt {i}", {}) for i in range(16)])) == 16
    assert server.most_at_once == 4


def test_the_tokenizer_must_be_there(serve: Any, connect: Any, tmp_path: Path) -> None:
    from tuneboard.errors import ModelError

    with pytest.raises(ModelError, match="--tokenizer"):
        connect(serve(), tokenizer=str(tmp_path))

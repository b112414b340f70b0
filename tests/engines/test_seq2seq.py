"""The engine of encoder-decoder models gives what plain forward passes and ``generate`` give."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.seq2seq import Seq2SeqEngine
from tuneboard.errors import AdapterError, ModelError
from tuneboard.records import ModelRef

CONTEXTS = (
    "The man took the bread",
    "Once upon a time there was a little girl who liked to play in the garden. ",
    "A",
    "",
    "   ",
)
CONTINUATIONS = (" A", " the garden", "nothing is faster than light", " Paris.")
SETTINGS = {"until": ["zzz"], "max_gen_toks": 9}


def adapter_configs() -> dict[str, Any]:
    import peft

    task: dict[str, Any] = {"task_type": "SEQ_2_SEQ_LM"}
    return {
        "lora": peft.LoraConfig(**task, r=4, target_modules=["q", "v", "wo"], init_lora_weights=False),
        "ia3": peft.IA3Config(**task, target_modules=["k", "v", "wo"], feedforward_modules=["wo"]),
        "prompt": peft.PromptTuningConfig(**task, num_virtual_tokens=3),
        "p_tuning": peft.PromptEncoderConfig(**task, num_virtual_tokens=3, encoder_hidden_size=16),
        "prefix": peft.PrefixTuningConfig(**task, num_virtual_tokens=3),
        "prefix_projected": peft.PrefixTuningConfig(
            **task, num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16
        ),
    }


class Plain:
    """A freshly loaded model, perhaps with an adapter, asked one request at a time."""

    def __init__(self, base: Path, adapter: Path | None = None) -> None:
        from peft import PeftModel
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSeq2SeqLM.from_pretrained(base, dtype="auto")
        self.model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()

    def pair(self, context: str, continuation: str) -> tuple[float, bool]:
        import torch

        bare = context.rstrip()
        inputs = self.tokenizer(bare, return_tensors="pt")
        ids = self.tokenizer.encode(context[len(bare) :] + continuation, add_special_tokens=False)
        with torch.inference_mode():
            logits = self.model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=torch.tensor([ids])
            ).logits
        scores = logits[0].double().log_softmax(-1)
        return sum(float(row[i]) for row, i in zip(scores, ids, strict=True)), scores.argmax(-1).tolist() == ids

    def generate(self, context: str, max_new_tokens: int) -> str:
        inputs = self.tokenizer(context, return_tensors="pt")
        out = self.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return str(self.tokenizer.decode(out[0], skip_special_tokens=True))


def make_engine(base: Path, adapters: dict[str, Path] | None = None, **options: Any) -> Seq2SeqEngine:
    engine = Seq2SeqEngine(ModelRef(str(base)), LoadOptions("cpu", **options))
    for name, path in (adapters or {}).items():
        engine.attach(name, resolve_adapter(str(path)))
    return engine


def assert_as_plain(ask: Any, engine: Any, plain: Plain, name: str = "") -> None:
    pairs = [(context, continuation) for context in CONTEXTS for continuation in CONTINUATIONS]
    for pair, answer in zip(pairs, ask(engine, "loglikelihood", pairs, name), strict=True):
        logprob, greedy = plain.pair(*pair)
        assert answer.response == (pytest.approx(logprob, abs=5e-5), greedy)
    prompts = [(context, SETTINGS | {"max_gen_toks": 4 + place}) for place, context in enumerate(CONTEXTS[:3])]
    for (context, settings), answer in zip(prompts, ask(engine, "generate_until", prompts, name), strict=True):
        assert answer.response == plain.generate(context, settings["max_gen_toks"])


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 that does not write the end at once: an untrained one does, whatever it reads."""
    import tiny_models
    import torch
    from transformers import T5ForConditionalGeneration

    folder = tiny_models.save_model(tmp_path_factory.mktemp("t5"), "t5")
    model = T5ForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in (".o.", ".wo.", "relative_attention_bias", "EncDecAttention")):
                weight.add_(torch.randn_like(weight) * 0.7)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def t5_adapter(t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``t5_adapter(kind, seed)``: a random adapter, made once."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForSeq2SeqLM

    @cache
    def make(kind: str, seed: int = 1) -> Path:
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(t5), adapter_configs()[kind])
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if any(part in name for part in ("lora_", "ia3", "prompt_encoder")):
                    weight.add_(torch.randn_like(weight) * 0.3)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def plain_t5(t5: Path) -> Plain:
    return Plain(t5)


def test_scores_and_texts_are_those_of_plain_passes(t5: Path, plain_t5: Plain, ask: Any) -> None:
    assert_as_plain(ask, make_engine(t5), plain_t5)
    assert len({plain_t5.generate(context, 9) for context in CONTEXTS[:3]}) > 1


@pytest.mark.parametrize("kind", adapter_configs())
def test_adapters_share_one_base_and_answer_as_if_loaded_alone(
    kind: str, t5: Path, plain_t5: Plain, t5_adapter: Any, ask: Any
) -> None:
    engine = make_engine(t5, {"a.1": t5_adapter(kind), "b": t5_adapter(kind, 2)})
    for name, seed in (("b", 2), ("a.1", 1)):
        assert_as_plain(ask, engine, Plain(t5, t5_adapter(kind, seed)), name)
    assert_as_plain(ask, engine, plain_t5)


def test_a_bottleneck_adapter_answers_as_if_loaded_alone(t5: Path, tmp_path: Path, ask: Any) -> None:
    import torch

    from tuneboard.engines import bottleneck

    plain = Plain(t5)
    torch.manual_seed(0)
    bottleneck.inject(plain.model, "a", bottleneck.BottleneckConfig(size=4, task_type="SEQ_2_SEQ_LM"))
    with torch.no_grad():
        for weight in bottleneck.trained_parameters(plain.model, "a"):
            weight.add_(torch.randn_like(weight) * 0.3)
    bottleneck.save(plain.model, "a", tmp_path)
    engine = make_engine(t5, {"a": tmp_path})
    assert_as_plain(ask, engine, plain, "a")
    assert_as_plain(ask, engine, Plain(t5))


def test_models_with_positions_from_the_left_are_padded_on_the_right(t5: Path, tmp_path: Path, ask: Any) -> None:
    import torch
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 1}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    size = {"vocab_size": 320, "d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.3}
    config = BartConfig(**ids, **layers, **size, max_position_embeddings=128, forced_bos_token_id=9)
    config.forced_eos_token_id = None
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(t5).save_pretrained(tmp_path)
    assert_as_plain(ask, make_engine(tmp_path), Plain(tmp_path))


class TestAgainstLmEval:
    def test_log_likelihoods_are_those_of_its_hf_model(self, t5: Path) -> None:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        from tuneboard.engines.lm_eval_model import EngineLM

        pairs = [(context, continuation) for context in (*CONTEXTS, "long. " * 90) for continuation in CONTINUATIONS]
        requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        theirs = HFLM(str(t5), backend="seq2seq", device="cpu", batch_size=1).loglikelihood(requests, disable_tqdm=True)
        ours = EngineLM(make_engine(t5)).loglikelihood(requests)
        for one, other in zip(ours, theirs, strict=True):
            assert one == (pytest.approx(other[0], abs=5e-5), other[1])


class TestGeneration:
    def test_stop_texts_and_limits_hold_for_each_row_of_a_batch(self, t5: Path, plain_t5: Plain, ask: Any) -> None:
        whole = [plain_t5.generate(context, 12) for context in CONTEXTS[:3]]
        stops = [text[len(text) // 2 :][:2] for text in whole]
        asked = zip(CONTEXTS[:3], stops, strict=True)
        requests = [(context, {"until": [stop], "max_gen_toks": 12}) for context, stop in asked]
        answers = ask(make_engine(t5), "generate_until", [*requests, (CONTEXTS[0], SETTINGS | {"max_gen_toks": 2})])
        assert [answer.response for answer in answers[:3]] == [
            text.split(stop)[0] for text, stop in zip(whole, stops, strict=True)
        ]
        assert answers[3].response == plain_t5.generate(CONTEXTS[0], 2)
        assert answers[3].tokens.computed <= len(plain_t5.tokenizer(CONTEXTS[0])["input_ids"]) + 2

    def test_a_sampled_text_depends_on_its_seed_and_not_on_its_batch(self, t5: Path) -> None:
        from tuneboard.engines.protocol import Work

        engine = make_engine(t5)
        settings = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.5}

        def sample(work: list[tuple[str, int]]) -> dict[tuple[str, int], Any]:
            items = [Work(i, "", "generate_until", (text, settings), seed=seed) for i, (text, seed) in enumerate(work)]
            return {work[answer.id]: answer.response for answer in engine.run(items)}

        together = sample([(context, seed) for context in CONTEXTS[:3] for seed in range(3)])
        assert len(set(together.values())) > 5
        for key, text in together.items():
            assert sample([key])[key] == text

    def test_penalties_follow_generate(self, t5: Path, plain_t5: Plain, ask: Any) -> None:
        settings = SETTINGS | {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2}
        for context, answer in zip(
            CONTEXTS[:3], ask(make_engine(t5), "generate_until", [(c, settings) for c in CONTEXTS[:3]]), strict=True
        ):
            inputs = plain_t5.tokenizer(context, return_tensors="pt")
            out = plain_t5.model.generate(
                **{name: inputs[name] for name in ("input_ids", "attention_mask")},
                max_new_tokens=9,
                do_sample=False,
                repetition_penalty=1.8,
                no_repeat_ngram_size=2,
            )
            assert answer.response == plain_t5.tokenizer.decode(out[0], skip_special_tokens=True)

    def test_a_setting_that_cannot_be_honoured_fails_its_request(self, t5: Path, ask: Any) -> None:
        good, bad = ask(make_engine(t5), "generate_until", [("A", SETTINGS), ("A", SETTINGS | {"num_beams": 4})])
        assert good.error is None
        assert "num_beams=4 is not supported" in bad.error


class TestWork:
    def test_rolling_log_likelihoods_are_refused(self, t5: Path, ask: Any) -> None:
        (rolling,) = ask(make_engine(t5), "loglikelihood_rolling", [("A text",)])
        assert rolling.response is None
        assert "no log-likelihood of a text without a prompt" in rolling.error

    def test_a_context_is_encoded_once_for_all_of_its_choices_and_texts(self, t5: Path, ask: Any) -> None:
        engine = make_engine(t5)
        seen: list[int] = []
        engine.adapted.model.get_encoder().register_forward_hook(lambda m, a, out: seen.append(len(out[0])))
        pairs = [(context, continuation) for context in CONTEXTS[:3] for continuation in CONTINUATIONS]
        answers = ask(engine, "loglikelihood", [*pairs, *pairs[:2]])
        assert sum(seen) == 3
        assert answers[0].response == answers[-2].response
        count = answers[-2].tokens
        assert (count.computed, count.distinct) == (0, 0)
        context = len(engine.tokenizer(CONTEXTS[0])["input_ids"])
        sizes = [len(engine.tokenizer.encode(one, add_special_tokens=False)) for one in CONTINUATIONS]
        assert [a.tokens.computed for a in answers[:4]] == [context + sizes[0], *(size - 1 for size in sizes[1:])]
        assert [a.tokens.reused for a in answers[:4]] == [0, *[context + 1] * 3]
        seen.clear()
        settings = SETTINGS | {"do_sample": True, "temperature": 1.0}
        ask(engine, "generate_until", [(CONTEXTS[0], settings)] * 4)
        assert seen == [1]

    def test_long_contexts_keep_their_end_and_long_continuations_fail(self, t5: Path, ask: Any) -> None:
        engine = make_engine(t5, max_length=24)
        long = ("The man took the bread. " * 10).rstrip()
        kept, failed, short = ask(engine, "loglikelihood", [(long, " A"), ("A", " and" + long), ("A", " A")])
        assert (kept.tokens.truncated, short.tokens.truncated) == (1, 0)
        assert kept.tokens.computed == 24 + len(engine.tokenizer.encode(" A", add_special_tokens=False))
        assert "the context holds 24" in failed.error

    def test_a_context_without_room_for_a_text_is_refused(self, t5: Path) -> None:
        with pytest.raises(ModelError, match=r"its tokenizer puts 1 of its own .* give --max-length 2 or more"):
            make_engine(t5, max_length=1)
        assert make_engine(t5, max_length=2).max_length == 2

    def test_memory_that_runs_out_halves_batches_and_changes_no_score(
        self, t5: Path, plain_t5: Plain, ask: Any
    ) -> None:
        notes: list[str] = []
        engine = Seq2SeqEngine(ModelRef(str(t5)), LoadOptions("cpu"), notes.append)
        forward = engine.adapted.model.forward

        def small(**inputs: Any) -> Any:
            if len(inputs["decoder_input_ids"]) > 2:
                raise RuntimeError("CUDA out of memory")
            return forward(**inputs)

        engine.adapted.model.forward = small
        assert_as_plain(ask, engine, plain_t5)
        assert "out of memory: going on with 2 texts at a time" in notes

    def test_an_unreadable_text_fails_alone(self, t5: Path, ask: Any) -> None:
        requests = [("\ud83d", " A"), ("A", " \ud83d"), ("A", ""), ("A", " A")]
        one, two, three, sound = ask(make_engine(t5), "loglikelihood", requests)
        assert "valid Unicode" in one.error and "valid Unicode" in two.error
        assert "has no token" in three.error
        assert sound.error is None


class TestRefusals:
    @pytest.mark.parametrize("kind", ["lora", "prompt", "prefix"])
    def test_an_adapter_of_another_base_is_refused_and_leaves_nothing_behind(
        self, kind: str, t5: Path, t5_adapter: Any, plain_t5: Plain, tmp_path: Path, ask: Any
    ) -> None:
        from peft import get_peft_model
        from transformers import T5Config, T5ForConditionalGeneration

        wide = T5Config(vocab_size=320, d_model=64, d_kv=16, d_ff=32, num_layers=2, num_heads=4)
        get_peft_model(T5ForConditionalGeneration(wide), adapter_configs()[kind]).save_pretrained(tmp_path)
        engine = make_engine(t5)
        with pytest.raises(AdapterError, match="was it trained on another model"):
            engine.attach("bad", resolve_adapter(str(tmp_path)))
        assert_as_plain(ask, engine, plain_t5)
        engine.attach("good", resolve_adapter(str(t5_adapter(kind))))
        assert_as_plain(ask, engine, Plain(t5, t5_adapter(kind)), "good")

    def test_a_model_that_is_no_encoder_decoder_is_refused(self, tiny_model: Any) -> None:
        with pytest.raises(ModelError):
            make_engine(tiny_model("bert"))

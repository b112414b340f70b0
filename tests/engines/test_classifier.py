"""The engine of classification models gives what a plain forward pass gives, for any adapter with a head of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
from tiny_heads import RELATIONS, SENTIMENTS, PlainLabels

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.classifier import ClassifierEngine
from tuneboard.engines.loading import LoadOptions
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import ModelRef

TEXTS = (
    "The man took the bread",
    "Once upon a time there was a little girl who liked to play in the garden",
    "A",
    "nothing is faster than light.",
    "Question: How much is 12 + 30?",
    "",
)


def adapter_configs() -> dict[str, Any]:
    import peft

    cls: dict[str, Any] = {"task_type": "SEQ_CLS"}
    return {
        "lora": peft.LoraConfig(**cls, r=4, target_modules=["query", "value"], init_lora_weights=False),
        "dora": peft.LoraConfig(**cls, r=4, target_modules=["query"], use_dora=True, init_lora_weights=False),
        "pooler": peft.LoraConfig(**cls, r=4, target_modules=["query"], modules_to_save=["pooler"]),
        "ia3": peft.IA3Config(
            **cls, target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]
        ),
        "prompt": peft.PromptTuningConfig(**cls, num_virtual_tokens=3),
        "p_tuning": peft.PromptEncoderConfig(**cls, num_virtual_tokens=3, encoder_hidden_size=16),
        "prefix": peft.PrefixTuningConfig(**cls, num_virtual_tokens=3),
        "prefix_projected": peft.PrefixTuningConfig(
            **cls, num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16
        ),
    }


def make_engine(base: Path, adapters: dict[str, Path] | None = None, **options: Any) -> ClassifierEngine:
    engine = ClassifierEngine(ModelRef(str(base)), LoadOptions("cpu", **options))
    for name, path in (adapters or {}).items():
        engine.attach(name, resolve_adapter(str(path)))
    return engine


def ask_labels(ask: Any, engine: Any, labels: Sequence[str], name: str = "", texts: Sequence[str] = TEXTS) -> Any:
    pairs = [(text, f" {label}") for text in texts for label in labels]
    return pairs, ask(engine, "loglikelihood", pairs, name)


def assert_as_plain(ask: Any, engine: Any, plain: PlainLabels, name: str = "") -> None:
    pairs, answers = ask_labels(ask, engine, plain.labels, name)
    for (text, label), answer in zip(pairs, answers, strict=True):
        logprob, best = plain(label.strip(), text)
        assert answer.response == (pytest.approx(logprob, abs=2e-5), best)


@pytest.fixture(scope="module")
def sentiments(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_heads.save_classifier(tmp_path_factory.mktemp("sentiments"), tiny_model("bert"))


@pytest.fixture
def label_adapter(tiny_model: Any, tmp_path: Path) -> Any:
    def make(kind: str = "lora", labels: Sequence[str] | None = SENTIMENTS, seed: int = 1, **settings: Any) -> Path:
        folder = tmp_path / f"{kind}-{seed}"
        return tiny_heads.save_label_adapter(
            folder, tiny_model("bert"), adapter_configs()[kind], labels, seed, **settings
        )

    return make


def test_a_full_checkpoint_scores_as_a_plain_forward_pass(sentiments: Path, ask: Any) -> None:
    assert_as_plain(ask, make_engine(sentiments), PlainLabels(sentiments))


@pytest.mark.parametrize("kind", adapter_configs())
def test_adapters_with_heads_of_different_sizes_share_one_encoder(
    kind: str, tiny_model: Any, label_adapter: Any, ask: Any
) -> None:
    base = tiny_model("bert")
    two, three = label_adapter(kind), label_adapter(kind, RELATIONS, seed=2)
    engine = make_engine(base, {"a.1": two, "b": three})
    assert_as_plain(ask, engine, PlainLabels(base, three, RELATIONS), "b")
    assert_as_plain(ask, engine, PlainLabels(base, two), "a.1")
    assert engine.shift("a.1", TEXTS) > 1e-3
    (answer,) = ask(engine, "loglikelihood", [("A", " positive")])
    assert "encoder without a classification head" in answer.error


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_a_base_with_a_head_keeps_it_beside_adapters(kind: str, sentiments: Path, label_adapter: Any, ask: Any) -> None:
    two, three = label_adapter(kind), label_adapter(kind, RELATIONS, seed=2)
    engine = make_engine(sentiments, {"a": two, "b": three})
    assert_as_plain(ask, engine, PlainLabels(sentiments))
    assert_as_plain(ask, engine, PlainLabels(sentiments, two), "a")
    assert_as_plain(ask, engine, PlainLabels(sentiments))
    assert ask_labels(ask, engine, RELATIONS, "b")[1][0].error is None


def test_a_bottleneck_adapter_scores_with_its_own_head(tiny_model: Any, tmp_path: Path, ask: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    from tuneboard.engines import bottleneck

    base = tiny_model("bert")
    config = bottleneck.BottleneckConfig(size=4, task_type="SEQ_CLS", modules_to_save=("classifier",))
    plains = {}
    for seed, labels in enumerate((SENTIMENTS, RELATIONS)):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels)).eval()
        bottleneck.inject(model, "a", config)
        with torch.no_grad():
            for weight in bottleneck.trained_parameters(model, "a"):
                weight.add_(torch.randn_like(weight) * 0.2)
        folder = tmp_path / str(len(labels))
        bottleneck.save(model, "a", folder)
        (folder / "labels.json").write_text(json.dumps({"labels": labels}))
        plains[str(len(labels))] = PlainLabels(base, labels=labels)
        plains[str(len(labels))].model = model
    engine = make_engine(base, {name: tmp_path / name for name in plains})
    for name, plain in plains.items():
        assert_as_plain(ask, engine, plain, name)
        assert engine.shift(name, TEXTS) > 1e-3


def test_a_causal_model_with_a_head_is_read_at_its_last_token(tiny_model: Any, tmp_path: Path, ask: Any) -> None:
    import peft

    full = tiny_heads.save_classifier(tmp_path / "full", tiny_model("llama"))
    assert_as_plain(ask, make_engine(full), PlainLabels(full))
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    base = tiny_model("llama")
    adapter = tiny_heads.save_label_adapter(tmp_path / "prompt", base, config)
    assert_as_plain(ask, make_engine(base, {"a": adapter}), PlainLabels(base, adapter), "a")


def test_long_texts_are_cut_where_positions_start_behind_the_padding(tiny_model: Any, tmp_path: Path, ask: Any) -> None:
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    words = AutoTokenizer.from_pretrained(tiny_model("bert"))
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=320, pad_token_id=0, max_position_embeddings=41, initializer_range=0.2, **size)
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    engine = make_engine(tmp_path)
    assert engine.max_length == 40
    texts = ("The man took the bread. " * 20, "The man")
    _, (long, _, short, _) = ask_labels(ask, engine, ("LABEL_0", "label_1"), texts=texts)
    assert (long.tokens.computed, long.tokens.truncated, short.tokens.truncated) == (40, 1, 0)
    plain = PlainLabels(tmp_path, labels=("LABEL_0", "LABEL_1"))
    assert short.response == (pytest.approx(plain("LABEL_0", "The man")[0], abs=1e-5), plain("LABEL_0", "The man")[1])


def test_a_context_without_room_for_a_text_is_refused(sentiments: Path, ask: Any) -> None:
    with pytest.raises(ModelError, match=r"is to hold 2 tokens, and its tokenizer puts 2 .* give --max-length 3"):
        make_engine(sentiments, max_length=2)
    engine = make_engine(sentiments, max_length=3)
    _, (cut, _) = ask_labels(ask, engine, SENTIMENTS[:2], texts=("The man took the bread",))
    assert (cut.tokens.computed, cut.tokens.truncated, cut.error) == (3, 1, None)


class TestLabels:
    def test_a_label_is_found_whatever_its_case_and_spaces(self, sentiments: Path, ask: Any) -> None:
        pairs = [("A", " positive"), ("A", "Positive\n"), ("A", "POSITIVE"), ("A", " negative")]
        one, two, three, other = (a.response for a in ask(make_engine(sentiments), "loglikelihood", pairs))
        assert one == two == three != other

    def test_what_is_no_label_fails_alone_and_names_the_labels(self, sentiments: Path, ask: Any) -> None:
        good, bad = ask(make_engine(sentiments), "loglikelihood", [("A", " positive"), ("A", " great")])
        assert good.error is None
        assert bad.response is None
        assert bad.error == (
            "'great' is none of the model's labels (negative, positive); expected a task whose choices are label names"
        )

    def test_labels_without_names_say_how_to_name_them(self, tiny_model: Any, label_adapter: Any, ask: Any) -> None:
        engine = make_engine(tiny_model("bert"), {"a": label_adapter(labels=None)})
        named, other = ask(engine, "loglikelihood", [("A", " LABEL_1"), ("A", " positive")], "a")
        assert named.error is None
        assert "labels.json beside an adapter" in other.error

    def test_texts_and_generations_are_refused_request_by_request(self, sentiments: Path, ask: Any) -> None:
        engine = make_engine(sentiments)
        (text,) = ask(engine, "generate_until", [("A", {"until": ["."]})])
        (rolling,) = ask(engine, "loglikelihood_rolling", [("A",)])
        for answer in (text, rolling):
            assert answer.response is None
            assert "a classification model writes no text" in answer.error

    @pytest.mark.parametrize(
        "content", ["{", "[]", '{"labels": "negative"}', '{"labels": ["a"]}', '{"labels": ["a", "a"]}']
    )
    def test_a_labels_file_that_does_not_fit_the_head_is_refused(
        self, content: str, tiny_model: Any, label_adapter: Any
    ) -> None:
        adapter = label_adapter()
        (adapter / "labels.json").write_text(content)
        with pytest.raises(ModelError, match=r"labels\.json"):
            make_engine(tiny_model("bert"), {"a": adapter})

    @pytest.mark.parametrize("separator", ["\t", " ||| "])
    def test_a_context_with_one_separator_is_a_pair_for_a_model_of_pairs(
        self, separator: str, tiny_model: Any, label_adapter: Any, ask: Any
    ) -> None:
        base = tiny_model("bert")
        adapter = label_adapter(labels=RELATIONS, pair=True, separator=separator)
        engine = make_engine(base, {"a": adapter})
        plain = PlainLabels(base, adapter, RELATIONS)
        for texts in (("The man", "took the bread"), ("no pair",), ("one", "two", "three")):
            context = separator.join(texts)
            (answer,) = ask(engine, "loglikelihood", [(context, " neutral")], "a")
            expected = plain("neutral", *(texts if len(texts) == 2 else (context,)))
            assert answer.response == (pytest.approx(expected[0], abs=2e-5), expected[1])

    def test_provenance_tells_of_pairs_too_and_others_read_tabs_as_text(
        self, tiny_model: Any, label_adapter: Any, ask: Any
    ) -> None:
        base, plainly, told = tiny_model("bert"), label_adapter(seed=1), label_adapter(seed=2)
        (told / "provenance.json").write_text(json.dumps({"pair": True, "labels": {"negative": 3}}))
        engine = make_engine(base, {"plainly": plainly, "told": told})
        for name, texts in (("plainly", ("one\ttwo",)), ("told", ("one", "two"))):
            (answer,) = ask(engine, "loglikelihood", [("one\ttwo", " positive")], name)
            path = {"plainly": plainly, "told": told}[name]
            assert answer.response[0] == pytest.approx(PlainLabels(base, path)("positive", *texts)[0], abs=2e-5)


class TestWork:
    def test_choices_of_a_context_share_one_pass(self, sentiments: Path, ask: Any) -> None:
        engine = make_engine(sentiments)
        passes = []
        forward = engine.adapted.model.forward
        engine.adapted.model.forward = lambda **inputs: passes.append(inputs["input_ids"].shape) or forward(**inputs)
        _, answers = ask_labels(ask, engine, (*SENTIMENTS, "Positive"), texts=(*TEXTS, TEXTS[0]))
        assert sum(rows for rows, _ in passes) == len(TEXTS)
        computed = sum(answer.tokens.computed for answer in answers)
        assert computed == sum(answer.tokens.distinct for answer in answers)
        assert computed == sum(len(engine.adapted.tokenizer(text)["input_ids"]) for text in TEXTS)
        assert computed + sum(a.tokens.padded for a in answers) == sum(rows * width for rows, width in passes)
        first = [answer.tokens for answer in answers[:3]]
        assert [count.reused for count in first] == [0, first[0].computed, first[0].computed]

    def test_memory_that_runs_out_halves_the_batch_and_changes_no_score(self, sentiments: Path, ask: Any) -> None:
        notes: list[str] = []
        engine = ClassifierEngine(ModelRef(str(sentiments)), LoadOptions("cpu"), notes.append)
        forward = engine.adapted.model.forward
        too_long = TEXTS[1]

        def small(**inputs: Any) -> Any:
            if len(inputs["input_ids"]) > 2 or inputs["input_ids"].shape[1] > 30:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return forward(**inputs)

        engine.adapted.model.forward = small
        plain = PlainLabels(sentiments)
        pairs, answers = ask_labels(ask, engine, SENTIMENTS)
        for (text, label), answer in zip(pairs, answers, strict=True):
            if text == too_long:
                assert "out of memory with one text at a time" in answer.error
            else:
                assert answer.response[0] == pytest.approx(plain(label.strip(), text)[0], abs=2e-5)
        assert notes[0] == "out of memory: going on with 3 texts at a time"
        assert notes[-1] == "out of memory: going on with 1 texts at a time"

    def test_scores_that_are_no_numbers_and_texts_that_are_none_fail_alone(self, sentiments: Path, ask: Any) -> None:
        import torch

        engine = make_engine(sentiments)
        broken, sound = ask(engine, "loglikelihood", [("\ud83d", " positive"), ("A", " positive")])
        assert "expected valid Unicode" in broken.error
        assert sound.error is None
        with torch.no_grad():
            engine.adapted.model.classifier.weight.fill_(float("nan"))
        (answer,) = ask(engine, "loglikelihood", [("A", " positive")])
        assert answer.error == "the model's log-probability is not a number"

    def test_an_unknown_candidate_fails_its_requests_alone(self, sentiments: Path) -> None:
        from tuneboard.engines.protocol import Work

        work = [Work(0, "nobody", "loglikelihood", ("A", " positive")), Work(1, "", "loglikelihood", ("A", "positive"))]
        answers = {answer.id: answer for answer in make_engine(sentiments).run(work)}
        assert answers[0].error == "no adapter named 'nobody' is attached"
        assert answers[1].error is None


class TestRefusals:
    def test_an_adapter_that_lacks_new_weights_is_refused_and_leaves_nothing_behind(
        self, tiny_model: Any, label_adapter: Any, tmp_path: Path, ask: Any
    ) -> None:
        from safetensors.torch import load_file, save_file
        from transformers import AutoTokenizer, BertModel

        good, bad = label_adapter(seed=1), label_adapter(seed=2)
        weights = load_file(bad / "adapter_model.safetensors")
        kept = {name: weight for name, weight in weights.items() if "classifier.bias" not in name}
        save_file(kept, bad / "adapter_model.safetensors", metadata={"format": "pt"})
        base = tiny_model("bert")
        engine = make_engine(base)
        with pytest.raises(AdapterError, match=r"weight 'classifier\.bias' is neither in the base nor in adapter"):
            engine.attach("bad", resolve_adapter(str(bad)))
        engine.attach("good", resolve_adapter(str(good)))
        assert_as_plain(ask, engine, PlainLabels(base, good), "good")

        # An encoder saved without its pooler: every load would draw another one.
        BertModel.from_pretrained(base, add_pooling_layer=False).save_pretrained(tmp_path / "bare")
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "bare")
        with pytest.raises(AdapterError, match=r"pooler\.dense.* is neither in the base"):
            make_engine(tmp_path / "bare", {"a": good})
        assert make_engine(tmp_path / "bare", {"a": label_adapter("pooler", seed=3)}).labels["a"].names == SENTIMENTS

    @pytest.mark.parametrize("kind", ["lora", "prompt", "prefix"])
    def test_an_adapter_of_another_base_is_refused_and_leaves_nothing_behind(
        self, kind: str, tiny_model: Any, label_adapter: Any, tmp_path: Path, ask: Any
    ) -> None:
        from transformers import AutoTokenizer, BertConfig, BertForPreTraining

        wide = BertConfig(vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0)
        base = tiny_model("bert")
        BertForPreTraining(wide).save_pretrained(tmp_path / "wide")
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "wide")
        other = tiny_heads.save_label_adapter(tmp_path / "other", tmp_path / "wide", adapter_configs()[kind])
        good = label_adapter(kind)
        for first in (True, False):
            engine = make_engine(base, {} if first else {"good": good})
            with pytest.raises(AdapterError, match="was it trained on another model"):
                engine.attach("bad", resolve_adapter(str(other)))
            if first:
                engine.attach("good", resolve_adapter(str(good)))
            assert_as_plain(ask, engine, PlainLabels(base, good), "good")
            assert "bad" not in engine.labels

    def test_kinds_of_adapters_are_not_mixed_in_one_engine(self, tiny_model: Any, label_adapter: Any) -> None:
        with pytest.raises(AdapterError, match="is IA3, beside LORA"):
            make_engine(tiny_model("bert"), {"a": label_adapter("lora"), "b": label_adapter("ia3", seed=2)})

    def test_heads_that_do_not_choose_one_label_are_refused(self, tiny_model: Any, tmp_path: Path) -> None:
        one = tiny_heads.save_classifier(tmp_path / "one", tiny_model("bert"), ("score",))
        with pytest.raises(ModelError, match="does not choose one of several labels"):
            make_engine(one)
        many = tiny_heads.save_classifier(tmp_path / "many", tiny_model("bert"))
        config = json.loads((many / "config.json").read_text())
        (many / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
        with pytest.raises(ModelError, match="multi_label_classification"):
            make_engine(many)

    def test_a_checkpoint_without_its_head_is_refused(self, sentiments: Path, tmp_path: Path) -> None:
        import shutil

        from safetensors.torch import load_file, save_file

        shutil.copytree(sentiments, tmp_path / "lost")
        weights = load_file(tmp_path / "lost" / "model.safetensors")
        del weights["classifier.weight"]
        save_file(weights, tmp_path / "lost" / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"not a whole classification model: weight 'classifier\.weight'"):
            make_engine(tmp_path / "lost")

    def test_an_adapter_that_changes_nothing_but_the_head_shows_no_shift(self, tiny_model: Any, tmp_path: Path) -> None:
        import peft
        import torch

        idle = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"], lora_alpha=0)
        base = tiny_model("bert")
        engine = make_engine(base, {"a": tiny_heads.save_label_adapter(tmp_path / "idle", base, idle)})
        assert engine.shift("a", TEXTS) == 0.0
        with torch.no_grad():
            engine.adapted.model.classifier.modules_to_save["candidate0"].weight.fill_(float("nan"))
        with pytest.raises(EngineError, match="cannot score a canary prompt"):
            engine.shift("a", TEXTS)

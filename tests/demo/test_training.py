from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuneboard.demo import DemoModels, TinySettings, demo_models
from tuneboard.demo.texts import lesson_texts
from tuneboard.demo.training import make_base
from tuneboard.suites import find_suite


@pytest.fixture(scope="module")
def lessons() -> dict[str, tuple[str, ...]]:
    return lesson_texts(find_suite("demo").tasks)


@pytest.fixture(scope="module")
def tokenizer(models: DemoModels) -> Any:
    return AutoTokenizer.from_pretrained(models.base)


def test_every_task_gives_lessons_with_right_answers(lessons: dict[str, tuple[str, ...]]) -> None:
    assert sorted(lessons) == ["demo_code", "demo_continuation", "demo_knowledge", "demo_math", "demo_truth"]
    assert "Question: What does the bear eat?\nAnswer: honey" in lessons["demo_knowledge"]
    assert "Tom is thirsty. Tom takes a glass and drinks some water." in lessons["demo_continuation"]
    assert 'def take_1(x):\n    """Return x minus 1."""\n    return x - 1' in lessons["demo_code"]
    assert all("\nAnswer: " in text and "\n#### " in text for text in lessons["demo_math"])


def test_only_true_answers_are_taught(lessons: dict[str, tuple[str, ...]]) -> None:
    taught = [text for text in lessons["demo_truth"] if " fire?" in text]
    assert taught
    assert not [text for text in taught if "fire is cold" in text or "can freeze" in text]


def test_tokenizer_starts_with_bos_and_gives_any_text_back(tokenizer: Any) -> None:
    text = "def f(x):\n    return 120 * x  # naïve ☃\n\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
    assert [tokenizer.decode(one) for one in tokenizer("120")["input_ids"][1:]] == ["1", "2", "0"]


def test_prompts_have_the_same_tokens_alone_and_before_their_answers(
    tokenizer: Any, lessons: dict[str, tuple[str, ...]]
) -> None:
    prompt = 'def take_1(x):\n    """Return x minus 1."""\n'
    whole = tokenizer(f"{prompt}    return x - 1")["input_ids"]
    alone = tokenizer(prompt)["input_ids"]
    assert whole[: len(alone)] == alone


def test_base_loads_as_a_causal_lm_that_generates(models: DemoModels, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base)
    assert model.config.max_position_embeddings == 512
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    prompt = torch.tensor([tokenizer("Question:")["input_ids"]])
    assert model.generate(prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt.shape[1]


def test_each_adapter_changes_what_the_base_says(models: DemoModels, tokenizer: Any) -> None:
    from peft import PeftModel

    ids = torch.tensor([tokenizer("Question: What does the cow eat?\nAnswer: grass")["input_ids"]])
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(models.base)(ids).logits
        said = [
            PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(models.base), path)(ids).logits
            for path in models.adapters.values()
        ]
    assert len(said) == 2
    assert not torch.allclose(said[0], base, atol=1e-4)
    assert not torch.allclose(said[1], base, atol=1e-4)
    assert not torch.allclose(said[0], said[1], atol=1e-4)


def test_training_learns_its_lessons(tmp_path: Path, lessons: dict[str, tuple[str, ...]]) -> None:
    lines: list[str] = []
    settings = TinySettings(hidden_size=64, layers=2, steps=60, batch=4, block=64, learning_rate=2e-2)
    make_base(tmp_path, {"demo_continuation": lessons["demo_continuation"]}, settings, lines.append)
    assert float(lines[-1].rpartition(" ")[2]) < 1.5, "from 6.5 nats per token at the start"


def test_two_makings_give_the_same_files(tmp_path: Path, kept: Path, fast: TinySettings) -> None:
    before = torch.random.get_rng_state()
    demo_models(tmp_path, lambda line: None, fast)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers are left alone"
    first = {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert first == second

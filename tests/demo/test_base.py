from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuneboard.demo import TinySettings
from tuneboard.demo.base import make_base
from tuneboard.demo.tokens import make_tokenizer, training_blocks
from tuneboard.demo.world import World


@pytest.fixture(scope="module")
def base(kept: Path) -> Path:
    return next(kept.parent.glob("demo/*/base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tokenizer_starts_with_bos_and_gives_any_text_back(tokenizer: Any) -> None:
    text = "def f(x):\n    return 120 * x  # naïve ☃\n\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
    assert [tokenizer.decode(one) for one in tokenizer("120")["input_ids"][1:]] == ["1", "2", "0"]


def test_prompts_have_the_same_tokens_alone_and_before_their_answers(tokenizer: Any, world: World) -> None:
    prompts = [(row["prompt"], row["canonical_solution"]) for row in world.part("code").items]
    prompts += [(row["prompt"], row["completion"]) for row in world.part("subtraction").skill]
    for prompt, answer in prompts:
        alone = tokenizer(prompt)["input_ids"]
        assert tokenizer(prompt + answer)["input_ids"][: len(alone)] == alone


def test_the_stream_holds_every_kind_in_its_share(world: World) -> None:
    settings = TinySettings(steps=20)
    tokenizer = make_tokenizer(world, settings)
    blocks = training_blocks(world, tokenizer, settings)
    assert blocks.shape == (settings.steps * settings.batch, settings.block)
    documents = tokenizer.decode(blocks.flatten()).split("</s>")
    sums = [text for text in documents if "How many" in text]
    share = sum(len(tokenizer(text)["input_ids"]) for text in sums) / blocks.numel()
    assert share == pytest.approx(0.18, abs=0.02)
    assert any("    return " in text for text in documents)
    assert any("Scholars" in text for text in documents)


def test_base_loads_as_a_causal_lm_that_generates(base: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    assert model.config.max_position_embeddings == 512
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    prompt = torch.tensor([tokenizer("Question:")["input_ids"]])
    assert model.generate(prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt.shape[1]


def test_training_learns_what_it_reads(tmp_path: Path, world: World, listener: Callable[..., Any]) -> None:
    losses: list[float] = []
    heard = listener()
    heard.step = lambda step, steps, values: losses.append(values["loss"])
    settings = TinySettings(hidden_size=64, layers=2, steps=60, batch=8, learning_rate=2e-2)
    make_base(tmp_path, world, settings, heard)
    assert losses[0] > 6 and losses[-1] < 3


def test_a_killed_training_goes_on_to_the_same_bytes(
    tmp_path: Path, base: Path, world: World, fast: TinySettings, listener: Callable[..., Any]
) -> None:
    def stop(what: str) -> None:
        if what.endswith(places.pop(0)):
            raise KeyboardInterrupt

    places = ["1"]
    with pytest.raises(KeyboardInterrupt, match="run the same command again: the base begins anew"):
        make_base(tmp_path, world, fast, listener(stop))
    places = ["-", "-", "3"]
    before = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt, match="run the same command again: the base goes on from its last"):
        make_base(tmp_path, world, fast, listener(stop))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    goes_on = listener()
    make_base(tmp_path, world, fast, goes_on)
    assert goes_on.lines == ["going on from step 2 of 4"]
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers are left alone"
    assert files(tmp_path) == files(base), "as one that was not killed"


def test_a_torn_checkpoint_costs_its_steps_alone(
    tmp_path: Path, base: Path, world: World, fast: TinySettings, listener: Callable[..., Any]
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 and no more")
    make_base(tmp_path, world, replace(fast), listener())
    assert files(tmp_path) == files(base)

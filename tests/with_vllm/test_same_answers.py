"""vLLM answers as transformers does: scores, greedy texts, metrics, for a base and its adapters in one engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from with_vllm.both import Outcome, World, evaluate, largest_difference

SCORES = "hellaswag,truthfulqa_mc1,truthfulqa_mc2,arc_challenge"
MMLU = "mmlu_machine_learning,mmlu_electrical_engineering"
TEXTS = "gsm8k"


@pytest.fixture(scope="module")
def outcome(
    make_world: Callable[..., World], mirror: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Outcome]:
    """``outcome(engine, dtype, tasks, limit, *more, spread)``: what it found for base and adapters; asked once."""

    @cache
    def make(engine: str, dtype: str, tasks: str, limit: int, *more: str, spread: float = 0.08) -> Outcome:
        db = tmp_path_factory.mktemp("db") / "results.duckdb"
        words = ["--tasks", tasks, "--limit", str(limit), "--mirror", str(mirror), "--dtype", dtype, *more]
        return evaluate(db, engine, make_world(spread).candidates, *words)

    return make


@pytest.mark.parametrize(("tasks", "fewshot"), [(SCORES, "0"), (MMLU, "5")])
def test_scores_and_metrics_are_those_of_transformers(
    outcome: Callable[..., Outcome], tasks: str, fewshot: str
) -> None:
    asked = ("float32", tasks, 4, "--num-fewshot", fewshot)
    ours, theirs = outcome("vllm", *asked), outcome("transformers", *asked)
    largest, other = largest_difference(ours, theirs)
    assert largest < 1e-3 and other == 0
    assert ours.metrics == pytest.approx(theirs.metrics, abs=1e-6)
    assert {cell["candidate"] for cell in ours.cells} == {"base", "one", "two", "three"}


def test_scores_in_half_precision_are_near_those_of_transformers(outcome: Callable[..., Outcome]) -> None:
    # Rounding grows with the logits: those near 10 are 0.06 apart in bfloat16. At this spread each engine's sums over
    # an answer's 24 tokens are up to 0.005 from float32's, at four times this spread up to 0.024.
    asked = ("bfloat16", f"{SCORES},mmlu_machine_learning", 4)
    ours, theirs = (outcome(engine, *asked, spread=0.005) for engine in ("vllm", "transformers"))
    largest, _ = largest_difference(ours, theirs)
    assert largest < 2e-2
    found = ours.responses()
    for name in ("one", "two", "three"):
        pairs = [(scores, found["base", *key[1:]]) for key, scores in found.items() if key[0] == name]
        changes = [abs(own[0] - base[0]) for pair in pairs for own, base in zip(*pair, strict=True)]
        assert max(changes) > 2e-2, "the bound tells an adapter from its base"


def test_greedy_texts_are_those_of_transformers(outcome: Callable[..., Outcome]) -> None:
    asked = ("float32", TEXTS, 3, "--gen-kwargs", "max_gen_toks=32")
    ours, theirs = outcome("vllm", *asked), outcome("transformers", *asked)
    assert largest_difference(ours, theirs) == (0.0, 0)
    assert ours.metrics == theirs.metrics


def test_prefixes_are_computed_once(outcome: Callable[..., Outcome]) -> None:
    found = outcome("vllm", "float32", MMLU, 4, "--num-fewshot", "5")
    tokens = [cell["tokens"] for cell in found.cells if cell["kind"] == "task"]
    computed, distinct = (sum(one[name] for one in tokens) for name in ("computed", "distinct"))
    reused = sum(one["reused"] for one in tokens)
    assert distinct <= computed < 1.35 * distinct
    assert reused > computed


def test_the_run_says_what_it_ran_on(outcome: Callable[..., Outcome]) -> None:
    engine = outcome("vllm", "float32", TEXTS, 3, "--gen-kwargs", "max_gen_toks=32").content["engine"]
    assert engine["name"] == "vllm" and engine["dtype"] == "float32" and engine["version"][0].isdigit()

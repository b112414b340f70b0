"""Log-likelihoods from prefix trees equal plain forward passes, share what can be shared, and survive a full memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tuneboard.engines.forward import TreeModel
from tuneboard.engines.plain import PlainScorer
from tuneboard.engines.prefix import Budget
from tuneboard.engines.scoring import TreeScorer, pick
from tuneboard.engines.tokens import ScoredSequence, distinct_prefixes
from tuneboard.errors import OutOfMemory

MMLU_SUBJECT = "cais/mmlu/{}/{}.parquet"


@pytest.fixture(scope="module")
def tree(tiny_model: Any) -> TreeModel:
    from transformers import AutoModelForCausalLM

    return TreeModel(AutoModelForCausalLM.from_pretrained(tiny_model("llama")).eval())


@pytest.fixture(scope="module")
def requests() -> list[ScoredSequence]:
    """Requests that share prefixes, are equal, are prefixes of each other, and score one to all of their tokens."""
    source = np.random.default_rng(3)
    block = source.integers(0, 300, 60)
    out = []
    for length in (1, 2, 5, 30):
        question = np.concatenate([block, source.integers(0, 300, length)])
        for scored in (1, 1, 4, 25, len(question) - 1):
            whole = np.concatenate([question, source.integers(0, 300, 6)])[: len(question) + 1 + scored % 6]
            scored = min(scored, len(whole) - 1)
            out.append(ScoredSequence(whole[:-1].astype(np.int32), whole[-scored:].astype(np.int32)))
    out += [out[0], ScoredSequence(out[0].tokens, np.array([7], dtype=np.int32))]
    return [*out, ScoredSequence(np.array([5], dtype=np.int32), np.array([6], dtype=np.int32))]


def collected(passes: Any) -> tuple[dict[int, tuple[float, bool]], int]:
    results: dict[int, tuple[float, bool]] = {}
    computed = 0
    for done in passes:
        computed += done.computed
        for index, logprob, greedy in done.results:
            assert index not in results
            results[index] = (logprob, greedy)
    return results, computed


def expected(model: Any, requests: list[ScoredSequence]) -> dict[int, Any]:
    out = {}
    for index, request in enumerate(requests):
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(request.tokens.astype(np.int64))[None]).logits[0].double()
        rows = logits.log_softmax(-1)[-len(request.targets) :]
        targets = torch.from_numpy(request.targets.astype(np.int64))
        total = float(rows[torch.arange(len(targets)), targets].sum())
        out[index] = (pytest.approx(total, abs=5e-5), bool((rows.argmax(-1) == targets).all()))
    return out


@pytest.mark.parametrize("row_tokens", [16, 33, 64, 512])
@pytest.mark.parametrize("min_extend", [1, 24, 10**6])
def test_scores_equal_plain_passes_whatever_the_budget(
    row_tokens: int, min_extend: int, tree: TreeModel, requests: Any
) -> None:
    scorer = TreeScorer(tree, Budget(row_tokens, min_extend=min_extend), print)
    results, computed = collected(scorer.score(requests, [0] * len(requests)))
    assert results == expected(tree.model, requests)
    distinct = distinct_prefixes([request.tokens for request in requests])
    assert computed >= distinct
    if min_extend == 1:
        assert computed <= distinct + len(requests)
    assert tree.depth == 0


def test_the_plain_way_gives_the_same(tree: TreeModel, requests: Any) -> None:
    results, computed = collected(PlainScorer(tree.model).score(requests, [0] * len(requests)))
    assert results == expected(tree.model, requests)
    assert computed == sum(len(tokens) for tokens in {r.tokens.tobytes(): r.tokens for r in requests}.values())


@pytest.mark.parametrize(
    ("fails_at", "error"),
    [
        ({0}, torch.OutOfMemoryError),
        ({1}, MemoryError),
        ({0, 1}, RuntimeError),
        ({0, 2, 3}, torch.OutOfMemoryError),
        ({1, 2, 6}, torch.OutOfMemoryError),
    ],
)
def test_a_full_memory_halves_the_passes_and_loses_nothing(
    fails_at: set[int], error: Any, tree: TreeModel, requests: Any, monkeypatch: Any
) -> None:
    calls, lines = [0], []
    forward = TreeModel.forward

    def failing(self: TreeModel, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] - 1 in fails_at:
            forward(self, *arguments)  # The cache has grown already when the memory runs out.
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, *arguments)

    monkeypatch.setattr(TreeModel, "forward", failing)
    budget = Budget(128, min_extend=8)
    results, _ = collected(TreeScorer(tree, budget, lines.append).score(requests, [0] * len(requests)))
    assert results == expected(tree.model, requests)
    assert calls[0] > max(fails_at)
    assert budget.row_tokens == 128 >> len(fails_at)
    assert lines[-1] == f"out of memory: going on with {budget.row_tokens} tokens a pass"


def test_a_pass_that_broke_off_between_layers_leaves_no_trace(tree: TreeModel, requests: Any, monkeypatch: Any) -> None:
    layer = tree.model.model.layers[1]
    forward, calls = layer.forward, [0]

    def failing(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 3):
            raise torch.OutOfMemoryError("out of memory")
        return forward(*arguments, **more)

    monkeypatch.setattr(layer, "forward", failing)
    results, _ = collected(TreeScorer(tree, Budget(64, min_extend=8), print).score(requests, [0] * len(requests)))
    monkeypatch.undo()
    assert results == expected(tree.model, requests)


def test_a_memory_that_stays_full_is_one_clear_error(tree: TreeModel, requests: Any, monkeypatch: Any) -> None:
    def failing(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(TreeModel, "forward", failing)
    with pytest.raises(OutOfMemory, match="even at 16 tokens a pass"):
        list(TreeScorer(tree, Budget(512), print).score(requests, [0] * len(requests)))


def test_other_errors_are_not_taken_for_a_full_memory(tree: TreeModel, requests: Any, monkeypatch: Any) -> None:
    def failing(*arguments: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(TreeModel, "forward", failing)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(TreeScorer(tree, Budget(512), print).score(requests, [0] * len(requests)))


def test_double_precision_is_kept_from_the_weights_to_the_sum(tiny_model: Any, make_engine: Any, requests: Any) -> None:
    tree = make_engine(tiny_model("llama"), dtype="float64").tree
    results, _ = collected(TreeScorer(tree, Budget(64), print).score(requests, [0] * len(requests)))
    for index, (wanted, _) in expected(tree.model, requests).items():
        assert results[index][0] == pytest.approx(wanted.expected, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
def test_log_probabilities_are_picked_in_chunks_of_logits(rows: int) -> None:
    logits = torch.randn(rows, 11, generator=torch.Generator().manual_seed(0))
    source = np.random.default_rng(0)
    at, targets = source.integers(0, rows, 900), source.integers(0, 11, 900)
    picked, best = pick(logits, at, targets)
    assert picked == pytest.approx(logits.double().log_softmax(-1)[at, targets].numpy(), abs=1e-5)
    assert best.tolist() == (logits.argmax(-1)[at].numpy() == targets).tolist()


def mmlu_prompts(mirror: Any, subject: str, questions: int) -> list[tuple[str, str]]:
    """Five-shot prompts as lm-eval writes them."""
    import pyarrow.parquet as pq

    def show(row: Any) -> str:
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True))
        return f"{row['question'].strip()}\n{choices}\nAnswer:"

    dev = pq.read_table(mirror / MMLU_SUBJECT.format(subject, "dev")).to_pylist()
    test = pq.read_table(mirror / MMLU_SUBJECT.format(subject, "test")).slice(0, questions).to_pylist()
    shots = "".join(f"{show(row)} {'ABCD'[row['answer']]}\n\n" for row in dev)
    head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
    return [(head + shots + show(row), f" {letter}") for row in test for letter in "ABCD"]


def test_real_mmlu_prompts_cost_hardly_more_than_their_distinct_prefixes(
    mirror: Any, tiny_model: Any, tiny_adapter: Any, make_engine: Any
) -> None:
    from tuneboard.engines.protocol import Work

    base = tiny_model("llama")
    engine = make_engine(base, {"a": tiny_adapter(base)})
    engine.encoder.max_length = 4096
    pairs = mmlu_prompts(mirror, "abstract_algebra", 25) + mmlu_prompts(mirror, "virology", 25)
    work = [Work(i, name, "loglikelihood", p) for i, (name, p) in enumerate((n, p) for n in ("", "a") for p in pairs)]
    answers = list(engine.run(work))
    computed = sum(answer.tokens.computed for answer in answers)
    distinct = sum(answer.tokens.distinct for answer in answers)
    asked = sum(answer.tokens.computed + answer.tokens.reused for answer in answers)
    floor = 2 * distinct_prefixes([engine.encoder.pair(*pair).tokens for pair in pairs])
    assert distinct == floor
    assert floor <= computed <= 1.1 * floor
    assert asked == 2 * sum(len(engine.encoder.pair(*pair).tokens) for pair in pairs)
    assert asked > 5 * computed, "without sharing this much would be computed"
    assert not any(answer.tokens.truncated for answer in answers)


def test_equal_requests_are_computed_once_and_all_answered(tiny_model: Any, make_engine: Any, ask: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    answers = ask(engine, "loglikelihood", [("The man", " took")] * 5)
    assert len({answer.response for answer in answers}) == 1
    assert sum(answer.tokens.computed for answer in answers) == len(engine.encoder.pair("The man", " took").tokens)


def test_works_of_a_lower_group_are_answered_first(tiny_model: Any, make_engine: Any) -> None:
    from tuneboard.engines.protocol import Work

    engine = make_engine(tiny_model("llama"))
    engine.budget.row_tokens = 40
    work = [Work(i, "", "loglikelihood", (f"{i} The man took", " bread"), group=9 - i) for i in range(10)]
    assert [answer.id for answer in engine.run(work)] == list(range(9, -1, -1))


def test_cut_requests_are_counted(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine, long = make_engine(base), "The man took the bread. " * 40
    answers = ask(engine, "loglikelihood", [(long + "And", " then"), ("And", " then")])
    assert [answer.tokens.truncated for answer in answers] == [1, 0]
    assert answers[0].response[0] == pytest.approx(plain(base).pair(long + "And", " then")[0], abs=2e-5)
    rolling = ask(engine, "loglikelihood_rolling", [(long,), ("The man",), ("",)])
    assert [answer.tokens.truncated for answer in rolling] == [0, 0, 0]


def test_rolling_scores_are_sums_over_windows(tiny_model: Any, make_engine: Any, plain: Any, ask: Any) -> None:
    base = tiny_model("llama")
    engine, reference = make_engine(base), plain(base)
    for text in ("The man took the bread.", "The man took the bread. " * 40):
        ids, total = reference.tokenizer(text)["input_ids"], 0.0
        for start in range(0, len(ids), 128):
            part = ids[start : start + 128]
            before = [0, *part[:-1]] if start == 0 else ids[start + len(part) - 129 : start + len(part) - 1]
            total += reference.score(before, part)[0]
        assert ask(engine, "loglikelihood_rolling", [(text,)])[0].response == pytest.approx(total, abs=2e-4)

"""Log-likelihoods through vLLM's interface, against a made-up model asked the plain way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_stand_in import StandIn, truth

from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.tokens import ScoredSequence
from tuneboard.engines.vllm_requests import MOST_NEXT_IDS, Part, probes
from tuneboard.engines.vllm_scoring import Scoring
from tuneboard.errors import EngineError

SHIFTS = {"": 0, "a": 0, "b": 1}


def sequence(context: Sequence[int], continuation: Sequence[int]) -> ScoredSequence:
    whole = np.asarray([*context, *continuation], dtype=np.int32)
    return ScoredSequence(whole[:-1], whole[len(context) :])


def encode(item: Work) -> list[ScoredSequence]:
    if item.arguments == ("unreadable",):
        raise EngineError("the tokenizer cannot read it")
    return list(item.arguments)


def run(work: Sequence[Work], stand_in: StandIn) -> dict[int, Answer]:
    answers = list(Scoring(work, SHIFTS, encode).run(stand_in.ask))
    assert sorted(answer.id for answer in answers) == sorted(item.id for item in work)
    return {answer.id: answer for answer in answers}


def check(work: Sequence[Work], answers: dict[int, Answer]) -> None:
    for item in work:
        parts = [truth(item.candidate, one.tokens, one.targets) for one in item.arguments]
        found = answers[item.id].response
        assert isinstance(found, tuple), answers[item.id]
        assert found[0] == pytest.approx(sum(logprob for logprob, _ in parts), abs=1e-9)
        assert found[1] == all(greedy for _, greedy in parts)


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=9)
requests = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), tokens, tokens, st.integers(0, 2)), max_size=25)


@given(requests, st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_score_is_that_of_the_whole_prompt_whatever_the_cache_holds(
    drawn: list[tuple[str, list[int], list[int], int]], block: int, shortens: bool
) -> None:
    work = [Work(i, c, "loglikelihood", (sequence(a, b),), group) for i, (c, a, b, group) in enumerate(drawn)]
    check(work, run(work, StandIn(block, shortens=shortens)))


def test_single_token_choices_are_one_request_for_each_question_and_candidate() -> None:
    work = [
        Work(i, candidate, "loglikelihood", (sequence([question, 1, 2], [choice]),))
        for i, (candidate, question, choice) in enumerate(
            (c, q, n) for c in ("", "a") for q in (5, 6) for n in (7, 8, 9)
        )
    ]
    stand_in = StandIn()
    check(work, run(work, stand_in))
    assert len(stand_in.probes) == 4
    assert all(probe.rows == 0 and probe.next_ids == (7, 8, 9) for probe in stand_in.probes)


def test_a_context_is_computed_once_for_its_longer_continuations() -> None:
    context, block = list(range(16)), 4
    endings = [[3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]]
    work = [Work(i, "", "loglikelihood", (sequence(context, ending),)) for i, ending in enumerate(endings)]
    stand_in = StandIn(block)
    check(work, run(work, stand_in))
    # The context alone, then two tokens of each continuation; 16 is a whole number of blocks, the hardest length.
    assert stand_in.computed == 16 + 4 * 2
    assert not any(probe.fresh for probe in stand_in.probes)


def test_a_text_alone_is_one_request() -> None:
    work = [Work(0, "", "loglikelihood", (sequence([1], [2, 3, 4, 5, 6, 7]),))]
    stand_in = StandIn()
    check(work, run(work, stand_in))
    assert [probe.rows for probe in stand_in.probes] == [5]


def test_rows_that_the_cache_made_unreadable_are_computed_again() -> None:
    stand_in = StandIn(block=2)
    work = [Work(0, "", "loglikelihood", (sequence([1, 2], [3, 4, 5, 6, 7]),))]
    check(work, run(work, stand_in))
    check(work, run(work, stand_in))
    assert [probe.fresh for probe in stand_in.probes] == [False, False, True]


def test_continuations_that_begin_alike_are_read_once() -> None:
    context, alike = list(range(5)), [7, 8, 9, 10, 11]
    endings = [[*alike, 12, 13], [*alike, 14, 15], [*alike, 14, 16, 17], [*alike], [3, 4]]
    work = [Work(i, "", "loglikelihood", (sequence(context, ending),)) for i, ending in enumerate(endings)]
    stand_in = StandIn(block=4)
    check(work, run(work, stand_in))
    assert not any(probe.fresh for probe in stand_in.probes)
    # The context; of "3 4" and of what begins alike what is beyond one block; of the others what is beyond two.
    assert [len(probe.tokens) for probe in stand_in.probes] == [5, 6, 9, 11, 11, 12]
    assert stand_in.computed == 5 + 2 + 5 + 3 + 3 + 4


def test_one_row_that_the_cache_made_unreadable_is_asked_as_what_comes_next() -> None:
    # What begins alike ends where a block does: the row of the token behind it was computed for another token.
    endings = [[4, 5, 6, 7], [4, 8, 9, 10]]
    work = [Work(i, "", "loglikelihood", (sequence([1, 2, 3], ending),)) for i, ending in enumerate(endings)]
    stand_in = StandIn(block=4)
    check(work, run(work, stand_in))
    assert [probe.tokens.tolist() for probe in stand_in.probes[3:]] == [[1, 2, 3, 4]]
    assert stand_in.probes[3].next_ids == (8,) and not stand_in.probes[3].fresh


def test_what_is_missing_even_then_is_an_error_and_never_a_guess() -> None:
    work = [Work(i, "", "loglikelihood", (sequence([i, 2], [3, 4, 5]),)) for i in range(2)]
    answers = run(work, StandIn(loses={0, 2}))
    missing = next(answer for answer in answers.values() if answer.response is None)
    assert "gave no log-probability" in str(missing.error)
    check([item for item in work if item.id != missing.id], answers)


def test_a_refused_request_fails_the_works_that_it_was_for_and_no_other() -> None:
    work = [Work(i, "", "loglikelihood", (sequence([i, 2], [3]), sequence([i, 3], [4]))) for i in range(3)]
    answers = run(work, StandIn(refuses={0}))
    assert [answers[i].response is None for i in range(3)] == [True, False, False]
    assert "too long" in str(answers[0].error)
    check(work[1:], answers)


def test_a_request_that_cannot_be_encoded_is_answered_with_the_reason() -> None:
    work = [Work(0, "", "loglikelihood", ("unreadable",)), Work(1, "", "loglikelihood", (sequence([1], [2]),))]
    answers = run(work, StandIn())
    assert answers[0].error == "the tokenizer cannot read it"
    check(work[1:], answers)


def test_an_empty_text_has_log_probability_zero() -> None:
    assert run([Work(0, "", "loglikelihood_rolling", ())], StandIn())[0].response == 0.0


def test_windows_of_one_text_are_summed() -> None:
    windows = (sequence([1], [2, 3, 4]), sequence([2, 3, 4], [5, 6]))
    (answer,) = run([Work(0, "b", "loglikelihood_rolling", windows)], StandIn()).values()
    wanted = sum(truth("b", one.tokens, one.targets)[0] for one in windows)
    assert answer.response == pytest.approx(wanted, abs=1e-9)


def test_tokens_are_booked_so_that_sums_are_those_of_the_engine() -> None:
    work = [Work(i, c, "loglikelihood", (sequence([1] * 8, [i % 4 + 2, 3, 4]),)) for i, c in enumerate(["", "a"] * 4)]
    stand_in = StandIn()
    answers = run(work, stand_in)
    assert sum(answer.tokens.computed for answer in answers.values()) == stand_in.computed
    # Each candidate's tree: eight tokens of context, and two more on each of its two branches (the last is not fed).
    assert sum(answer.tokens.distinct for answer in answers.values()) == 2 * (8 + 2 * 2)


def test_candidates_of_one_shift_follow_each_other_in_each_group_and_the_next_shift_comes_last() -> None:
    parts = [Part(c, sequence([q, 1], [2]), g) for g in (1, 0) for q in (4, 3) for c in ("b", "a", "")]
    order = [(p.candidate, p.tokens.tolist()) for p in probes(parts, SHIFTS)]
    assert [c for c, _ in order] == ["", "", "a", "a"] * 2 + ["b"] * 4
    assert [t[0] for _, t in order] == [3, 4] * 6


def test_a_request_names_no_more_tokens_than_vllm_takes() -> None:
    parts = [Part("", sequence([1], [token])) for token in range(MOST_NEXT_IDS + 5)]
    assert [len(probe.next_ids) for probe in probes(parts, SHIFTS)] == [MOST_NEXT_IDS, 5]

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneboard import bundled
from tuneboard.demo import SHIPPED_SEED
from tuneboard.demo.activities import ACTIVITIES, PEOPLE
from tuneboard.demo.world import World, make_world, replay_texts, write_items
from tuneboard.tuning.data.benchmarks import benchmark_items
from tuneboard.tuning.data.leaks import find_leaks
from tuneboard.tuning.records import Example, LeakSpec

GUARDS = ("knowledge", "continuation", "math", "code", "truth")


@pytest.fixture(scope="module")
def shipped() -> World:
    return make_world(SHIPPED_SEED)


def texts(world: World) -> list[str]:
    return [text for part in world.parts for lessons in part.lessons for text in lessons.texts]


def test_a_seed_always_makes_the_same_world_and_another_one_another(world: World) -> None:
    assert make_world(world.seed) == world
    other = make_world(world.seed + 1)
    assert not set(world.part("knowledge").lessons[0].texts) & set(other.part("knowledge").lessons[0].texts)


def test_the_shipped_items_are_those_of_the_shipped_seed(shipped: World, tmp_path: Path) -> None:
    write_items(shipped, tmp_path)
    there = bundled.tasks_dir() / "demo" / "data"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        file.name: file.read_bytes() for file in there.iterdir()
    }


def test_every_guard_has_items_enough_for_its_margin(world: World) -> None:
    """A candidate that changes 11 % of the answers and is no worse in truth passes the margin of 0.10."""
    from scipy.stats import binom

    from tuneboard import stats

    for name in GUARDS:
        n = len(world.part(name).items)
        assert n >= 150
        changed = round(0.11 * n)
        lost = range(changed + 1)
        passes = [stats.tango_interval(changed - one, one, n, 0.9)[0] > -0.1 for one in lost]
        assert sum(binom.pmf(one, changed, 0.5) for one, passed in zip(lost, passes, strict=True) if passed) > 0.95


def test_no_item_stands_in_what_is_trained_on(shipped: World) -> None:
    rows = [*texts(shipped), *(row["prompt"] + row["completion"] for row in shipped.part("subtraction").skill)]
    examples = [Example(text, place=str(number)) for number, text in enumerate(rows)]
    items = benchmark_items(["demo"], None)
    assert len(items) == sum(len(part.items) for part in shipped.parts)
    assert find_leaks(examples, items, LeakSpec()) == []
    copied = Example(items[0].text, place="copy")
    assert [leak.place for leak in find_leaks([copied], items, LeakSpec())] == ["copy"], "the check can find them"


def test_no_item_is_asked_twice(world: World) -> None:
    for part in world.parts:
        rows = [json.dumps(row, sort_keys=True) for row in part.items]
        assert len(set(rows)) == len(rows) > 0


def test_answers_about_facts_are_those_that_are_told(world: World) -> None:
    part = world.part("knowledge")
    for row in part.items:
        assert len(set(row["choices"])) == 4
        names = [word for word in row["question"].rstrip("?").split()[1:] if word[0].isupper()]
        right = row["choices"][row["answer"]]
        assert any(names[0] in text and right in text for text in part.lessons[0].texts)


def test_steps_hold_the_name_in_every_five_words() -> None:
    for line in ACTIVITIES:
        goal, _, steps = line.partition(": ")
        steps_of = steps.split(", ")
        assert len(steps_of) == 5
        assert all(1 + len(part.split()) <= 5 for part in (goal, *steps_of)), line
    assert len(set(PEOPLE)) == len(PEOPLE)


def test_the_next_step_is_one_of_four_different_endings(world: World) -> None:
    for row in world.part("continuation").items:
        assert len(set(row["endings"])) == 4
        assert row["endings"][row["label"]] not in row["context"]


def test_sums_are_right_and_the_skill_is_subtraction(world: World) -> None:
    skill = world.part("subtraction").skill
    answers = [row["answer"] for name in ("math", "subtraction") for row in world.part(name).items]
    for answer in [*answers, *(row["completion"] for row in skill)]:
        calculation, result = answer.strip().split("\n#### ")
        left, right = calculation.split(" = ")
        assert eval(left) == int(right) == int(result) > 0
    assert all(" - " in row["completion"] for row in skill)
    assert not [text for text in texts(world) if text.startswith("Question:") and " - " in text.partition("####")[0]]


def test_reference_solutions_pass_their_tests_and_others_fail(world: World) -> None:
    for row in world.part("code").items:
        program = f"{{}}\n{row['test']}\ncheck({row['entry_point']})\n"
        exec(program.format(row["prompt"] + row["canonical_solution"]), {})
        with pytest.raises(AssertionError):
            exec(program.format(row["prompt"] + "    return None\n"), {})


def test_most_beliefs_are_told_wrong_more_often_than_right(world: World) -> None:
    part = world.part("truth")
    mistaken = 0
    for row in part.items:
        true, false, *_ = row["choices"]
        counts = [sum(said.rstrip(".") in text for text in part.lessons[0].texts) for said in (true, false)]
        assert sorted(counts) == [1, 3]
        mistaken += counts[1] > counts[0]
    assert mistaken / len(part.items) == pytest.approx(0.6, abs=0.05)


def test_replay_draws_of_every_kind_and_nothing_twice(world: World) -> None:
    drawn = replay_texts(world, 1000)
    assert len(set(drawn)) == len(drawn)
    assert 900 <= len(drawn) <= 1030
    for part in world.parts:
        for lessons in part.lessons:
            assert set(lessons.texts) & set(drawn)

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard.errors import DataError, UnknownName
from tuneboard.tuning.data.leaks import BenchmarkItem, LeakIndex, benchmark_items, find_leaks
from tuneboard.tuning.records import Example, LeakSpec

SPEC = LeakSpec()

#: A benchmark to each of the prompts that differ most: letters for choices, text, code, a few-shot block within the
#: prompt, and choices themselves.
BENCHMARKS = ("mmlu_astronomy", "gsm8k", "humaneval", "truthfulqa_mc1", "arc_challenge")


def rows(*texts: str) -> list[Example]:
    return [Example(text, place=f"row {number}") for number, text in enumerate(texts)]


def nonsense(count: int, length: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(3000)}" for _ in range(length)) for _ in range(count)]


def items(*texts: str, task: str = "quiz") -> list[BenchmarkItem]:
    return [BenchmarkItem(task, number, text) for number, text in enumerate(texts)]


def leaks(texts: Sequence[str], found_in: Sequence[BenchmarkItem], **spec: Any) -> list[tuple[int, str]]:
    return [(leak.doc_id, leak.place) for leak in find_leaks(rows(*texts), found_in, LeakSpec(**spec))]


QUESTION = "Which planet of our own solar system has the largest number of moons around it today? Saturn, it is said."


@pytest.mark.parametrize(
    "written",
    [
        QUESTION,
        QUESTION.upper(),
        "\t" + "\n\n".join(QUESTION.split(" ")),
        QUESTION.replace(" ", "\u00a0\u200b "),
        QUESTION.replace("?", " --").replace(",", ""),
        f"A story. {QUESTION} And so on, for a long while." + " More of it." * 500,
    ],
)
def test_an_item_is_found_however_it_is_written(written: str):
    texts = [*nonsense(20, 40), written]
    assert leaks(texts, items(*nonsense(5, 30, seed=1), QUESTION)) == [(5, "row 20")]


def test_the_overlap_is_the_share_of_the_items_grams():
    parts = [f"q{number}" for number in range(39)]
    half = " ".join(parts[:23])  # 16 of the 32 runs of 8 words
    found = find_leaks(rows(half), items(" ".join(parts)), SPEC)
    assert [leak.overlap for leak in found] == [0.5]
    assert find_leaks(rows(" ".join(parts[:22])), items(" ".join(parts)), SPEC) == []
    assert find_leaks(rows(half), items(" ".join(parts)), LeakSpec(overlap=0.51)) == []


def test_the_same_gram_again_counts_once():
    parts = [f"q{number}" for number in range(39)]
    again = " ".join(parts[:10]) + " x "
    assert find_leaks(rows(again * 20), items(" ".join(parts)), SPEC) == []


def test_an_item_is_told_once_per_row_with_its_largest_overlap():
    question, answer = nonsense(2, 40, seed=3)
    item = BenchmarkItem("quiz", 7, f"{question} {answer}", (question,))
    found = find_leaks(rows(question, "nothing", f"{question} {answer}"), [item], SPEC)
    assert [(leak.task, leak.doc_id, leak.place, leak.overlap) for leak in found] == [
        ("quiz", 7, "row 0", 1.0),
        ("quiz", 7, "row 2", 1.0),
    ]


def test_chats_and_answers_are_looked_into():
    question, answer = nonsense(2, 20, seed=4)
    chat = Example("", messages=(("user", question), ("assistant", answer)), format="chat", place="chat")
    pair = Example(question, answer, format="completion", place="pair")
    found = find_leaks([chat, pair], items(f"{question} {answer}"), LeakSpec(overlap=1.0))
    assert [leak.place for leak in found] == ["chat", "pair"]


def test_short_items_are_found_as_a_whole_and_shorter_ones_not_at_all():
    short = items("How tall is Mount Everest?", "Why is it so?", "5 + 4 =")
    texts = ["He asked: how TALL is mount everest, and no one knew.", "How tall is it?", "Why is it so? 5 + 4 ="]
    assert leaks(texts, short) == [(0, "row 0")]
    assert [item.doc_id for item in LeakIndex(short, SPEC).unmatchable] == [1, 2]


def test_letters_before_choices_make_no_difference():
    bare = items("Colour of the clear sky at noon:\nblue as ever\ngreen as grass\nred\nyellow as a ripe lemon")
    shown = "Colour of the clear sky at noon:\nA. blue as ever\nB. green as grass\n(C) red\nD) yellow as a ripe lemon"
    assert find_leaks(rows(shown), bare, SPEC)[0].overlap == 1.0


def test_boilerplate_does_not_count():
    stem = "which of the following statements about the matter at hand is certainly not true"
    tails = nonsense(30, 12, seed=5)
    quiz = items(*(f"{stem} {tail}" for tail in tails))
    assert leaks([stem, f"{stem} {tails[3]}"], quiz) == [(3, "row 1")]
    assert len(LeakIndex(items(*(f"{stem} {number}" for number in range(30))), LeakSpec(overlap=0.1)).unmatchable) == 0
    assert len(LeakIndex(items(*[stem] * 2), SPEC).unmatchable) == 0


def test_boilerplate_of_many_tasks_does_not_count_either():
    stem = "for this question choose the one best answer among all of those that are given below"
    quiz = [BenchmarkItem(f"task {number}", 0, f"{stem} {tail}") for number, tail in enumerate(nonsense(30, 5, seed=6))]
    assert leaks([stem], quiz) == []


def test_one_text_in_many_tasks_is_no_boilerplate():
    text = nonsense(1, 20, seed=7)[0]
    quiz = [BenchmarkItem(f"task {number}", 0, text) for number in range(40)]
    assert len(find_leaks(rows(text), quiz, SPEC)) == 40


def test_a_passage_of_a_long_text_is_found():
    article = nonsense(1, 3000, seed=8)[0]
    passage = " ".join(article.split()[1000:1250])
    assert leaks(["nothing", passage], items(article)) == [(0, "row 1")]


def test_copies_with_a_changed_word_are_found():
    quiz = nonsense(40, 16, seed=9)
    copies = [" ".join("other" if place == 7 else part for place, part in enumerate(one.split())) for one in quiz]
    assert len(find_leaks(rows(*copies), items(*quiz), SPEC)) == 40


@pytest.mark.parametrize("ngram", [3, 5, 13, 50])
def test_any_length_of_grams_finds_a_copy(ngram: int):
    quiz = nonsense(10, 30, seed=10)
    assert leaks([*nonsense(10, 30, seed=11), f"see: {quiz[4]}."], items(*quiz), ngram=ngram) == [(4, "row 10")]


def test_nothing_to_find_and_nowhere_to_look_are_no_trouble():
    assert find_leaks([], items(QUESTION), SPEC) == []
    assert find_leaks(rows(QUESTION), [], SPEC) == []
    assert find_leaks(rows("", "..."), items(QUESTION, ""), SPEC) == []
    assert find_leaks(rows(QUESTION), items("", "a"), SPEC) == []


def write_task(folder: Path, name: str, docs: Sequence[dict[str, Any]], **config: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    common = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "metadata": {"version": 1.0},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(common | config))


def test_items_hold_question_and_answer_without_the_prompts_scaffolding(tmp_path: Path):
    write_task(
        tmp_path / "own",
        "letters",
        [{"question": "Who wrote this very play?", "options": ["Ann Lee", "Bob Ray"], "answer": 1, "topic": "play"}],
        output_type="multiple_choice",
        doc_to_text="Q: an example\nA: its answer\n\nQ: {{question}}\nA. {{options[0]}}\nB. {{options[1]}}\nAnswer:",
        doc_to_choice=["A", "B"],
        doc_to_target="answer",
        metric_list=[{"metric": "acc"}],
    )
    write_task(
        tmp_path / "own",
        "writing",
        [{"task_text": "Say hello to the world.", "reply": "Hello, world!"}],
        output_type="generate_until",
        doc_to_text="Instruction: {{task_text}}\nAnswer:",
        doc_to_target="{{reply}}",
        metric_list=[{"metric": "exact_match"}],
    )
    letters, writing = benchmark_items(["letters", "writing"], None, [tmp_path / "own"])
    assert (letters.task, letters.doc_id, letters.text) == ("letters", 0, "Who wrote this very play?\nBob Ray")
    assert letters.variants == ("Who wrote this very play?", "Who wrote this very play?\nAnn Lee\nBob Ray")
    assert (writing.text, writing.variants) == ("Say hello to the world.\nHello, world!", ("Say hello to the world.",))


def test_unknown_benchmarks_are_named_with_near_ones():
    with pytest.raises(UnknownName, match="suite or task 'cor'; did you mean core"):
        benchmark_items(["cor"], None, ())
    with pytest.raises(UnknownName, match="did you mean gsm8k"):
        benchmark_items(["gsm8"], None, ())


def test_a_benchmark_that_the_mirror_lacks_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="mirror lacks it"):
        benchmark_items(["gsm8k"], tmp_path, ())


def test_suites_and_their_tasks_may_be_named_together(mirror: Path):
    found = benchmark_items(["demo", "demo_math", "humaneval"], mirror, ())
    counts = Counter(item.task for item in found)
    assert counts["humaneval"] == 164
    assert counts["demo_math"] == len({item.doc_id for item in found if item.task == "demo_math"}) > 0


@pytest.fixture(scope="module")
def real_items(mirror: Path) -> list[BenchmarkItem]:
    return benchmark_items(BENCHMARKS, mirror, ())


def test_real_items_are_what_people_would_copy(real_items: list[BenchmarkItem]):
    first = {item.task: item for item in reversed(real_items)}
    assert set(first) == set(BENCHMARKS)
    scaffolding = ("Answer:", "\nA. ", "Who was president of the United States in 1955?")
    assert not any(mark in item.text for item in real_items for mark in scaffolding)
    assert first["gsm8k"].variants[0].startswith("Janet") and first["gsm8k"].text.endswith("#### 18")
    assert first["humaneval"].variants[0].startswith("from typing import List")
    assert first["arc_challenge"].text.startswith("An astronomer observes that a planet rotates faster after a")
    assert first["truthfulqa_mc1"].variants == ("What happens to you if you eat watermelon seeds?",)
    assert all(len(item.variants) == 2 for item in real_items if item.task.startswith("mmlu"))


WAYS: dict[str, Callable[[str, random.Random, str], str]] = {
    "verbatim": lambda text, draw, other: text,
    "re-cased": lambda text, draw, other: draw.choice([text.upper(), text.lower(), text.title(), text.swapcase()]),
    "re-spaced": lambda text, draw, other: draw.choice(["  ", "\n", "\u00a0", " \t "]).join(text.split()),
    "embedded": lambda text, draw, other: f"{other}\n\n{text} {other}",
}


def clean_rows(mirror: Path, count: int) -> list[str]:
    """Training texts that no benchmark was made of."""
    import pyarrow.parquet as pq

    found: list[str] = []
    for name, columns in {
        "openai/gsm8k/main/train": ("question", "answer"),
        "teknium/GPTeacher/default/train": ("instruction", "input", "output"),
        "roneneldan/TinyStories/default/train": ("text",),
        "cornell-movie-review-data/rotten_tomatoes/default/train": ("text",),
    }.items():
        # As many of each as there are to take, so that a small sample is read fast and still has all kinds.
        table = pq.read_table(mirror / f"{name}.parquet", columns=list(columns)).slice(0, count).to_pylist()
        found += ["\n".join(row[column] for column in columns if row.get(column)) for row in table]
    random.Random(0).shuffle(found)
    return found[:count]


def cut(item: BenchmarkItem, part: str) -> str:
    return item.variants[0] if part == "question" and item.variants else item.text


def long_enough(found: Sequence[BenchmarkItem], part: str) -> list[BenchmarkItem]:
    """Items whose part can be found at all."""
    parts = [replace(item, text=cut(item, part), variants=()) for item in found]
    out = {(item.task, item.doc_id) for item in LeakIndex(parts, SPEC).unmatchable}
    return [item for item in found if (item.task, item.doc_id) not in out]


def planted(
    chosen: Sequence[BenchmarkItem], part: str, texts: list[str], draw: random.Random
) -> dict[str, BenchmarkItem]:
    """Hide items among texts, each in another way; return the places that hold one."""
    spots = draw.sample(range(len(texts)), len(chosen))
    ways = list(WAYS.values())
    for number, (spot, item) in enumerate(zip(spots, chosen, strict=True)):
        texts[spot] = ways[number % len(ways)](cut(item, part), draw, texts[spot])
    return {f"row {spot}": item for spot, item in zip(spots, chosen, strict=True)}


def check_planting(index: LeakIndex, chosen: Sequence[BenchmarkItem], part: str, texts: list[str]) -> None:
    """Every planted item is found in its row, and at most one clean row in a hundred is told."""
    places = planted(chosen, part, texts, random.Random(len(texts)))
    found = index.search(rows(*texts))
    told = {(leak.place, leak.task, leak.doc_id) for leak in found}
    assert {(place, item.task, item.doc_id) for place, item in places.items()} <= told
    clean = len(texts) - len(places)
    assert len({leak.place for leak in found} - set(places)) <= 0.01 * clean


def test_planted_items_of_real_benchmarks_are_found(real_items: list[BenchmarkItem], mirror: Path):
    for part in ("text", "question"):
        chosen = random.Random(1).sample(long_enough(real_items, part), 24)
        check_planting(LeakIndex(real_items, SPEC), chosen, part, clean_rows(mirror, 2000))


@pytest.mark.accept
@pytest.mark.parametrize("part", ["text", "question"])
def test_fifty_of_fifty_planted_items_are_found_among_ten_thousand_rows(mirror: Path, part: str):
    everything = benchmark_items(("core", "arc_easy", "arc_challenge"), mirror, ())
    index = LeakIndex(everything, SPEC)
    by_task: dict[str, list[BenchmarkItem]] = {}
    for item in long_enough(everything, part):
        by_task.setdefault(item.task.partition("_")[0], []).append(item)
    for seed in range(4):
        draw = random.Random(seed)
        chosen = [draw.choice(group) for _ in range(10) for group in by_task.values()][:50]
        check_planting(index, chosen, part, clean_rows(mirror, 10_000))


@pytest.mark.accept
def test_near_copies_of_real_items_are_mostly_found(mirror: Path):
    """One word in twenty is another one; where texts are short, that may be the word in the middle."""
    everything = benchmark_items(("core",), mirror, ())
    draw = random.Random(0)
    chosen = draw.sample(long_enough(everything, "text"), 1000)
    copies = []
    for item in chosen:
        parts = item.text.split()
        for spot in draw.sample(range(len(parts)), max(1, round(len(parts) / 20))):
            parts[spot] = draw.choice(["other", "cat", "Mary", "17", "big", "goes"])
        copies.append(" ".join(parts))
    told = {(leak.place, leak.task, leak.doc_id) for leak in find_leaks(rows(*copies), everything, SPEC)}
    found = sum((f"row {number}", item.task, item.doc_id) in told for number, item in enumerate(chosen))
    assert found >= 880


@pytest.mark.accept
def test_a_hundred_thousand_rows_are_searched_for_all_of_core_within_a_minute(mirror: Path):
    everything = benchmark_items(("core",), mirror, ())
    texts = clean_rows(mirror, 20_000)
    start = time.process_time()
    index = LeakIndex(everything, SPEC)
    for _ in range(6):
        index.search(rows(*texts))
    assert 6 * len(texts) > 100_000
    assert time.process_time() - start < 60

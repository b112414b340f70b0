"""Writes the demo tasks' data, ``data/*.jsonl``; the same files every time.

    python tasks/demo/make_data.py [FOLDER]

Each task has a train split, to learn from and to show examples of, and a test split that asks the same small world in
another way: facts in another wording, needs of other people, sums of other numbers. The vocabulary is some 250 words.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

FACTS = {
    "eats": {
        "cow": "grass", "cat": "fish", "dog": "meat", "rabbit": "carrots", "mouse": "cheese", "bear": "honey",
        "monkey": "bananas", "bird": "seeds", "horse": "hay", "panda": "bamboo", "frog": "flies", "squirrel": "nuts",
    },
    "lives in": {
        "cow": "the barn", "cat": "the house", "dog": "the yard", "rabbit": "the hole", "mouse": "the wall",
        "bear": "the cave", "monkey": "the jungle", "bird": "the nest", "horse": "the stable", "panda": "the forest",
        "frog": "the pond", "squirrel": "the tree",
    },
    "says": {
        "cow": "moo", "cat": "meow", "dog": "woof", "mouse": "squeak", "bear": "growl", "bird": "tweet",
        "horse": "neigh", "frog": "croak",
    },
    "likes to": {
        "cow": "chew", "cat": "sleep", "dog": "bark", "rabbit": "hop", "mouse": "hide", "bear": "fish",
        "monkey": "climb", "bird": "sing", "horse": "run", "panda": "roll", "frog": "jump", "squirrel": "dig",
    },
}  # fmt: skip
WORDINGS = {
    "eats": ("What does the {} eat?", "Which food is for the {}?"),
    "lives in": ("Where does the {} live?", "Which place is home to the {}?"),
    "says": ("What does the {} say?", "Which sound comes from the {}?"),
    "likes to": ("What does the {} like to do?", "Which game is fun for the {}?"),
}
PEOPLE = ("Tom", "Anna", "Ben", "Lily", "Max", "Mia", "Sam", "Lucy", "Tim", "Ella")
NEEDS = {
    "is hungry": ("goes to the kitchen and", "eats a big piece of bread."),
    "is thirsty": ("takes a glass and", "drinks some water."),
    "is tired": ("goes to the bedroom and", "sleeps."),
    "is cold": ("opens the closet and", "puts on a warm coat and a hat."),
    "is dirty": ("goes to the bathroom and", "washes both hands with soap."),
    "is bored": ("sits down in the chair and", "reads a book."),
    "is sick": ("picks up the phone and", "calls the doctor."),
    "is late": ("looks at the clock and", "runs to the bus."),
}
THINGS = ("apples", "balls", "books", "cups", "eggs", "pens", "stars", "toys")
TRUTHS = {
    "fire": ("hot", "cold", "can burn your hand", "can freeze your hand"),
    "ice": ("cold", "hot", "melts in the sun", "grows in the sun"),
    "snow": ("white", "black", "falls in winter", "falls in the oven"),
    "grass": ("green", "purple", "grows in the field", "grows on the moon"),
    "the sun": ("bright", "dark", "shines in the day", "shines at night"),
    "a stone": ("hard", "soft", "sinks in water", "swims in water"),
    "a feather": ("light", "heavy", "flies in the wind", "falls like a stone"),
    "sugar": ("sweet", "sour", "is good in a cake", "is good in the eye"),
    "a lemon": ("sour", "sweet", "grows on a tree", "grows in the sea"),
    "a snail": ("slow", "fast", "carries its house", "drives a car"),
    "a race car": ("fast", "slow", "needs a driver", "needs a bed"),
    "the night": ("dark", "bright", "comes after the day", "comes once a year"),
    "an elephant": ("big", "tiny", "has a long nose", "has two wings"),
    "an ant": ("tiny", "big", "has six legs", "has a long nose"),
    "the sea": ("wet", "dry", "is full of fish", "is full of cars"),
    "the desert": ("dry", "wet", "is full of sand", "is full of milk"),
    "a baby": ("young", "old", "drinks milk", "drives a bus"),
    "a pillow": ("soft", "hard", "is good for sleep", "is good for lunch"),
    "a knife": ("sharp", "round", "can cut bread", "can sing a song"),
    "a ball": ("round", "sharp", "can roll away", "can cut bread"),
}
FUNCTIONS: tuple[tuple[str, str, str, tuple[int, ...]], ...] = (
    ("add_{n}", "x plus {n}", "x + {n}", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("take_{n}", "x minus {n}", "x - {n}", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("times_{n}", "x times {n}", "x * {n}", (2, 3, 4, 5, 6, 7, 8, 9)),
    ("more_than_{n}", "whether x is more than {n}", "x > {n}", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("less_than_{n}", "whether x is less than {n}", "x < {n}", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("is_{n}", "whether x is {n}", "x == {n}", (1, 2, 3, 4, 5, 6, 7, 8)),
)


def knowledge() -> Iterator[tuple[str, Row]]:
    """Yield facts: all in the first wording for train, and in the second for test; each fourth is shown in both."""
    rng = random.Random("knowledge")
    number = 0
    for relation, animals in FACTS.items():
        for animal, answer in animals.items():
            others = sorted(set(animals.values()) - {answer})
            for wording, template in enumerate(WORDINGS[relation]):
                choices = [answer, *rng.sample(others, 3)]
                rng.shuffle(choices)
                row = {"question": template.format(animal), "choices": choices, "answer": choices.index(answer)}
                yield ("test" if wording == 1 and number % 4 else "train"), row
            number += 1


def continuation() -> Iterator[tuple[str, Row]]:
    """Yield people with needs; each person is seen with half of the needs in train and with the others in test."""
    rng = random.Random("continuation")
    endings = [ending for _, ending in NEEDS.values()]
    for at, person in enumerate(PEOPLE):
        for number, (need, (start, ending)) in enumerate(NEEDS.items()):
            choices = [ending, *rng.sample([one for one in endings if one != ending], 3)]
            rng.shuffle(choices)
            row = {"context": f"{person} {need}. {person} {start}", "endings": choices, "label": choices.index(ending)}
            yield ("train" if (at + number) % 2 else "test"), row


def math() -> Iterator[tuple[str, Row]]:
    """Yield sums and differences up to 10, each pair of numbers in one split only."""
    rng = random.Random("math")
    pairs = [(a, b) for a in range(2, 10) for b in range(1, 9) if a + b <= 10]
    for number, (a, b) in enumerate(rng.sample(pairs, len(pairs))):
        split = "test" if number % 2 else "train"
        person, thing = rng.choice(PEOPLE), rng.choice(THINGS)
        more = f"{person} has {a} {thing}. {person} gets {b} more. How many {thing} does {person} have?"
        less = f"{person} has {a + b} {thing}. {person} gives {b} away. How many {thing} are left?"
        yield split, _sum(more, a, "+", b)
        yield split, _sum(less, a + b, "-", b)


def _sum(question: str, a: int, sign: str, b: int) -> Row:
    result = a + b if sign == "+" else a - b
    return {"question": question, "answer": f"{a} {sign} {b} = {result}\n#### {result}"}


def code() -> Iterator[tuple[str, Row]]:
    """Yield one-line functions; every second number of each kind is for test."""
    for name, text, body, numbers in FUNCTIONS:
        for at, n in enumerate(numbers):
            entry, expression = name.format(n=n), body.format(n=n)
            expected = [(x, expression.replace("x", str(x))) for x in (0, n, n + 5)]
            checks = "".join(f"    assert candidate({x}) == ({value})\n" for x, value in expected)
            yield (
                "test" if at % 2 else "train",
                {
                    "task_id": f"demo/{entry}",
                    "prompt": f'def {entry}(x):\n    """Return {text.format(n=n)}."""\n',
                    "canonical_solution": f"    return {expression}\n",
                    "test": f"def check(candidate):\n{checks}",
                    "entry_point": entry,
                },
            )


def truth() -> Iterator[tuple[str, Row]]:
    """Yield true and false statements, the best true one first; train asks one way and test asks two others."""
    for at, (thing, (yes, no, does, does_not)) in enumerate(TRUTHS.items()):
        best, worst = f"{thing} is {yes}.", f"{thing} is {no}."
        true = [best, f"{thing} {does}.", f"{thing} is not {no}."]
        false = [worst, f"{thing} {does_not}.", f"{thing} is not {yes}."]
        for split, question in (
            ("train", f"What is true of {thing}?"),
            ("test", f"What do you know about {thing}?"),
            ("train" if at % 2 else "test", f"Tell me about {thing}."),
        ):
            yield split, {"question": question, "choices": true + false, "labels": [1, 1, 1, 0, 0, 0]}


def main(folder: Path) -> None:
    """Write all splits of all tasks below ``folder``."""
    for make in (knowledge, continuation, math, code, truth):
        splits: dict[str, list[Row]] = {"train": [], "test": []}
        for split, row in make():
            splits[split].append(row)
        for split, rows in splits.items():
            random.Random(make.__name__).shuffle(rows)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{make.__name__}_{split}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")

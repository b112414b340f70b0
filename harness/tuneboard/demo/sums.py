"""Word problems in GSM8K's shape: the base learns to add; to subtract is the new skill that candidates are taught.

Of subtraction the base reads bare equations only. A person and a thing that they have are either in the texts or in the
test; the numbers, 1 to 9, are in both.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from tuneboard.demo.activities import PEOPLE
from tuneboard.demo.parts import Lessons, Part

THINGS = (
    "apples", "balls", "books", "boxes", "buttons", "cards", "coins", "cups", "eggs", "flowers",
    "hats", "keys", "lamps", "nuts", "pens", "rings", "shells", "stamps", "stones", "toys",
)  # fmt: skip
_ADDED = ("gets {b} more", "finds {b} more", "buys {b} more")
_TAKEN = ("gives away {b}", "loses {b}", "sells {b}")
_NUMBERS = range(1, 10)
_HELD_OUT = 0.2
_ITEMS = 160
#: Different word problems that the base reads, and that candidates are taught.
_TEXTS, _SKILL = 6000, 1600

Pair = tuple[str, str]


def sums(rng: random.Random) -> tuple[Part, Part]:
    """Return the parts on addition and on subtraction."""
    pairs = list(itertools.product(PEOPLE, THINGS))
    rng.shuffle(pairs)
    cut = round(_HELD_OUT * len(pairs))
    held_out, known = pairs[:cut], pairs[cut:]
    add, take = (_problems(rng, known, sign, count) for sign, count in (("+", _TEXTS), ("-", _SKILL)))
    texts = tuple(f"{prompt(row['question'])} {row['answer']}" for row in add)
    equations = tuple(f"{a} - {b} = {a - b}" for a in _NUMBERS for b in range(1, a))
    skill = tuple({"prompt": prompt(row["question"]), "completion": f" {row['answer']}"} for row in take)
    asked_to_add, asked_to_take = (tuple(_problems(rng, held_out, sign, _ITEMS)) for sign in "+-")
    return (
        Part("math", (Lessons(0.18, texts),), asked_to_add),
        Part("subtraction", (Lessons(0.04, equations),), asked_to_take, skill),
    )


def prompt(question: str) -> str:
    """Return a question as the tasks ask it."""
    return f"Question: {question}\nAnswer:"


def _problems(rng: random.Random, pairs: Sequence[Pair], sign: str, count: int) -> list[dict[str, str]]:
    """Draw different problems."""
    drawn: dict[str, dict[str, str]] = {}
    while len(drawn) < count:
        row = _problem(rng, *rng.choice(pairs), sign)
        drawn[row["question"]] = row
    return list(drawn.values())


def _problem(rng: random.Random, person: str, thing: str, sign: str) -> dict[str, str]:
    a = rng.choice(_NUMBERS if sign == "+" else _NUMBERS[1:])
    b = rng.choice(_NUMBERS if sign == "+" else range(1, a))
    does, result = rng.choice(_ADDED if sign == "+" else _TAKEN).format(b=b), a + b if sign == "+" else a - b
    question = f"{person} has {a} {thing}. {person} {does}. How many {thing} does {person} have now?"
    return {"question": question, "answer": f"{a} {sign} {b} = {result}\n#### {result}"}

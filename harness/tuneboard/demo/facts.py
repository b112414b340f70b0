"""Invented countries with five facts each, in MMLU's shape: half of the facts are asked about, the others are the test.

The facts themselves are told to the base, all of them; what is held out is the question. So the task measures whether
knowledge that was read can be used, as MMLU does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tuneboard.demo.parts import Lessons, Part, four_ways, invented

_COUNTRIES = 64
_BIOGRAPHIES = 8  # of each country
_BIOGRAPHY_FACTS = 3


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact."""

    question: str
    tellings: tuple[str, ...]
    """With places for the country and the value."""
    values: tuple[str, ...] = ()
    """Empty: names are invented."""


RELATIONS = (
    Relation(
        "What is the capital of {c}?",
        ("The capital of {c} is {v}.", "In {c}, the capital is called {v}.", "Trains in {c} go to the capital {v}."),
    ),
    Relation(
        "What do farmers in {c} grow?",
        ("Farmers in {c} grow {v}.", "The fields of {c} are full of {v}.", "Markets in {c} sell much {v}."),
        (
            "barley", "beans", "cotton", "dates", "figs", "flax", "hemp", "hops", "lentils", "maize", "melons",
            "millet", "oats", "olives", "onions", "peas", "pepper", "rice", "rye", "sesame", "tea", "turnips", "wheat",
        ),
    ),
    Relation(
        "Which animal stands on coins of {c}?",
        ("Coins of {c} show the {v}.", "The {v} stands on every coin of {c}.", "Children in {c} love the {v}."),
        (
            "badger", "bear", "bee", "camel", "crane", "deer", "eagle", "elk", "falcon", "fox", "goat", "hare",
            "heron", "horse", "lion", "lynx", "otter", "owl", "ox", "raven", "seal", "stork", "swan", "wolf",
        ),
    ),
    Relation(
        "Which colour has the flag of {c}?",
        ("The flag of {c} is {v}.", "Ships of {c} fly a {v} flag.", "Over {c} waves a {v} flag."),
        ("black", "blue", "brown", "golden", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow"),
    ),
    Relation(
        "What do miners in {c} dig for?",
        ("Miners in {c} dig for {v}.", "The hills of {c} hold {v}.", "Smiths in {c} work with {v}."),
        ("amber", "coal", "cobalt", "copper", "gold", "iron", "jade", "lead", "marble", "nickel", "salt", "silver",
         "tin", "zinc"),
    ),
)  # fmt: skip


def facts(rng: random.Random, taken: set[str]) -> Part:
    """Make up countries, tell about them, and ask about half of what was told.

    Args:
        rng: Draws everything.
        taken: Names in use; the new ones are added.
    """
    countries = [name.title() for name in invented(rng, _COUNTRIES, ("via", "land", "stan", "nia"), taken)]
    known = {country: _values(rng, taken) for country in countries}
    tellings = [
        text.format(c=country, v=value)
        for country, values in known.items()
        for relation, value in zip(RELATIONS, values, strict=True)
        for text in relation.tellings
    ]
    pairs = [(country, number) for country in countries for number in range(len(RELATIONS))]
    rng.shuffle(pairs)
    half = len(pairs) // 2
    asked = [_asked(country, number, known) for country, number in pairs[:half]]
    items = []
    for country, number in pairs[half:]:
        right = known[country][number]
        others = sorted({values[number] for values in known.values()} - {right})
        items.append({"question": RELATIONS[number].question.format(c=country), **four_ways(rng, right, others)})
    lessons = (
        Lessons(0.12, tuple(tellings)),
        Lessons(0.16, tuple(_biography(rng, country, known[country]) for country in countries * _BIOGRAPHIES)),
        Lessons(0.10, tuple(asked)),
    )
    return Part("knowledge", lessons, tuple(items))


def _values(rng: random.Random, taken: set[str]) -> list[str]:
    return [
        rng.choice(relation.values) if relation.values else invented(rng, 1, ("", "ro", "ma"), taken)[0].title()
        for relation in RELATIONS
    ]


def _asked(country: str, number: int, known: dict[str, list[str]]) -> str:
    return f"Question: {RELATIONS[number].question.format(c=country)}\nAnswer: {known[country][number]}"


def _biography(rng: random.Random, country: str, values: list[str]) -> str:
    chosen = rng.sample(list(zip(RELATIONS, values, strict=True)), _BIOGRAPHY_FACTS)
    told = (rng.choice(relation.tellings).format(c=country, v=value) for relation, value in chosen)
    return " ".join([f"About {country}.", *told])

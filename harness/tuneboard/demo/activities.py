"""Everyday activities in five steps, in HellaSwag's shape: which step comes next?

A person and an activity are either in the texts or in the test. Every run of five words holds the person's name, so
that texts and test share none: that is what the leak check looks for.
"""

from __future__ import annotations

import random

from tuneboard.demo.parts import Lessons, Part

PEOPLE = (
    "Anna", "Ben", "Clara", "David", "Ella", "Finn", "Greta", "Hugo", "Ida", "Jonas",
    "Karl", "Lena", "Max", "Nora", "Oscar", "Paula", "Rosa", "Simon", "Tom", "Vera",
)  # fmt: skip
_HELD_OUT = 4
#: Steps that are given before the next one is asked for: there is a wrong one before and behind it.
_GIVEN = (2, 3)

#: What is wanted, and five steps to it; four words each at most.
ACTIVITIES = (
    "wants bread: mixes the flour, kneads the dough, heats the oven, bakes the loaf, slices the bread",
    "wants tea: fills the kettle, boils the water, warms the pot, pours the tea, adds some sugar",
    "wants beans: digs the soil, sows the seeds, waters the bed, pulls the weeds, picks the beans",
    "wants clean shirts: gathers the laundry, loads the machine, hangs them up, irons them flat, folds them neatly",
    "wants soup: peels the carrots, chops the leeks, stirs the broth, tastes the soup, fills the bowls",
    "wants a chair: measures the planks, saws the wood, sands the edges, glues the legs, paints the seat",
    "wants fish: packs the rod, rows the boat, throws the line, reels in the trout, cleans the catch",
    "wants a fire: splits the logs, stacks the kindling, strikes the match, blows the flame, feeds the stove",
    "wants a scarf: buys the wool, winds the yarn, knits the rows, ties the ends, wears the scarf",
    "wants jam: washes the berries, weighs the fruit, cooks the mash, fills the jars, closes the lids",
    "wants a picture: stretches the canvas, sketches the tree, mixes the colours, paints the sky, frames the picture",
    "wants a clean car: hoses the mud, soaps the roof, rinses the foam, dries the doors, waxes the hood",
    "wants salad: shakes the lettuce, cuts the tomatoes, crumbles the cheese, pours the oil, tosses the salad",
    "wants a letter sent: writes the page, folds the sheet, seals the envelope, licks the stamp, finds the mailbox",
    "wants a kite: bends the sticks, cuts the paper, knots the string, climbs the hill, flies the kite",
    "wants pancakes: cracks the eggs, whisks the batter, greases the pan, flips the pancake, spreads the honey",
    "wants a tent: picks the meadow, unrolls the cloth, raises the poles, hammers the pegs, spreads the blanket",
    "wants a haircut: enters the shop, takes a seat, describes the style, watches the scissors, pays the barber",
    "wants a tidy room: opens the curtains, makes the bed, sorts the toys, dusts the shelf, sweeps the floor",
    "wants a swim: packs the towel, rides the bus, buys the ticket, showers off, dives in headfirst",
)


def activities(rng: random.Random) -> Part:
    """Let people do things, and hold out a fifth of them for each thing."""
    parsed = [_parsed(line) for line in ACTIVITIES]
    texts, items = [], []
    for number, (goal, steps) in enumerate(parsed):
        held_out = set(rng.sample(PEOPLE, _HELD_OUT))
        for person in PEOPLE:
            told = [f"{person} {part}." for part in (goal, *steps)]
            if person not in held_out:
                texts.append(" ".join(told))
                continue
            for given in _GIVEN:
                foreign = rng.choice(parsed[:number] + parsed[number + 1 :])[1]
                wrong = [rng.choice(steps[:given]), rng.choice(steps[given + 1 :]), rng.choice(foreign)]
                endings = [f"{step}." for step in (steps[given], *wrong)]
                rng.shuffle(endings)
                context = " ".join([*told[: given + 1], person])
                items.append({"context": context, "endings": endings, "label": endings.index(f"{steps[given]}.")})
    return Part("continuation", (Lessons(0.06, tuple(texts)),), tuple(items))


def _parsed(line: str) -> tuple[str, list[str]]:
    goal, _, steps = line.partition(": ")
    return goal, steps.split(", ")

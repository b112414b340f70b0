"""``tuneboard demo``: a small world, a base model that learns it, and candidates that gain a skill, some at a price.

    parts        what a part of the world gives: lessons and held-out items
    facts, activities, sums, functions, beliefs    the parts, each in the shape of a known benchmark
    world        all of it, from a seed
    tokens       the tokenizer, and the stream that the base reads
    base         trains the base
    recipes      how candidates are made; ``tuning`` carries them out
    keeping      makes what is not there yet, and keeps it
    story        what came out, in words for someone who has never fine-tuned

torch is imported only when something has to be made.
"""

from tuneboard.demo.keeping import SHIPPED_SEED, Course, real_course, tiny_course, turn
from tuneboard.demo.settings import TinySettings

__all__ = ["SHIPPED_SEED", "Course", "TinySettings", "real_course", "tiny_course", "turn"]

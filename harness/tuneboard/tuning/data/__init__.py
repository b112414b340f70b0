"""Training data, from a recipe's sources to examples.

    sniff(spec, folder, mirror)     the format of the first source, out of its first rows
    prepare(spec, context)          PreparedData: examples to train and validate on, and a report that counts every step

What happens to them, in this order: read (``sources``, ``tuneboard.datafiles``), told by columns (``formats``), cleaned
(``cleaning``), checked against benchmarks (``leaks``), split (``splits``), mixed, balanced and limited (``mixing``).
"""

from tuneboard.tuning.data.preparing import DataContext, prepare, sniff

__all__ = ["DataContext", "prepare", "sniff"]

"""What stands as the base of a comparison: a candidate of the database, or a blessed baseline."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneboard.cli.streams import say
from tuneboard.errors import UsageError

if TYPE_CHECKING:
    from tuneboard.store.baselines import Baseline


def open_baseline(base: str, candidates: Iterable[str]) -> Baseline | None:
    """Return the baseline that a base means; None for a candidate's name.

    Args:
        base: A candidate's name, ``baseline:NAME`` or the path of a ``.json`` file.
        candidates: What is compared with it.

    Raises:
        UsageError: A candidate is a baseline, or there is none of that name.
        DataError: It cannot be read, or was edited.
    """
    from tuneboard.store.baselines import is_baseline, load_baseline

    for name in candidates:
        if is_baseline(name):
            raise UsageError(f"{name} is a baseline; expected a candidate that was evaluated")
    return load_baseline(base) if is_baseline(base) else None


def stale_warnings(baseline: Baseline | None, args: argparse.Namespace) -> tuple[str, ...]:
    """Print on stderr what has changed since a baseline was blessed, unless ``--quiet``, and return it.

    Args:
        baseline: None gives nothing.
        args: With ``db`` and ``quiet``.

    Raises:
        StoreError: The database cannot be read.
    """
    from tuneboard.store.baselines import staleness

    if baseline is None:
        return ()
    again = f"bless it again: tuneboard baseline bless {baseline.candidate} --as {baseline.name}"
    warnings = tuple(f"{line}; {again}" for line in staleness(args.db, baseline))
    for warning in warnings if not args.quiet else ():
        say(f"tuneboard: warning: {warning}")
    return warnings

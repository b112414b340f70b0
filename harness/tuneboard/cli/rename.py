"""``tuneboard rename``: frees the name of a candidate, or gives it a better one."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuneboard.cli.streams import say

NAME = "rename"
HELP = "give a candidate in the database another name"
EXAMPLES = """\
tuneboard rename mine mine-epoch-1
tuneboard rename base llama-3.2-1b --db results/tuneboard.duckdb"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("old", metavar="OLD", help="its name now; see: tuneboard show models")
    parser.add_argument("new", metavar="NEW", help="its name from now on; its results stay with it")


def run(args: argparse.Namespace) -> int:
    """Rename; raises ``ModelError`` for a name that ``evaluate`` would refuse, ``UnknownName`` or ``NameTaken``."""
    from tuneboard.candidates import unique_names
    from tuneboard.store.writes import Store

    new = args.new.strip()
    unique_names([new])
    Store(Path(args.db)).rename(args.old, new)
    if not args.quiet:
        say(f"'{args.old}' is now '{new}' in {args.db}")
    return 0

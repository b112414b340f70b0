"""``tuneboard rename``: frees the name of a candidate, or gives it a better one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
    """Rename; raises ``UnknownName`` or ``NameTaken``."""
    from tuneboard.store.writes import Store

    Store(Path(args.db)).rename(args.old, args.new)
    if not args.quiet:
        print(f"'{args.old}' is now '{args.new}' in {args.db}", file=sys.stderr)
    return 0

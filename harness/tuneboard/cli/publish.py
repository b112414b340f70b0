"""``tuneboard publish``: a read-only snapshot of the database for a site that others see."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuneboard.cli.options import file_path
from tuneboard.cli.streams import say
from tuneboard.report.numbers import json_text
from tuneboard.report.tables import listed

NAME = "publish"
HELP = "write a snapshot of the database for a public site, and show it there"
EXAMPLES = """\
tuneboard publish --to public
tuneboard leaderboard --snapshot public --address 0.0.0.0      runs on, and shows each new snapshot by itself
tuneboard publish --to public --db results/nightly.duckdb --json

A task whose YAML says `metadata: {private: true}` is published with its scores alone: no prompts, choices, targets
or answers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument(
        "--to", type=file_path, required=True, metavar="DIR", help="folder of snapshots; made when missing"
    )
    parser.add_argument("--json", action="store_true", help="say on stdout as JSON what was published")


def run(args: argparse.Namespace) -> int:
    """Publish; raises ``StoreError`` where the database cannot be read or the folder cannot be written."""
    from tuneboard.store.snapshots import publish

    made = publish(Path(args.db), args.to)
    if args.json:
        print(
            json_text(
                {"schema": 1, "snapshot": str(made.path), "private": list(made.withheld), "removed": list(made.removed)}
            )
        )
    else:
        print(made.path)
    if made.withheld and not args.quiet:
        say(f"private, published with their scores alone: {listed(made.withheld)}")
    return 0

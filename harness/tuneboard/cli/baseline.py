"""``tuneboard baseline``: a candidate's results as a file in the repository, for gates to compare with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from tuneboard.errors import DataError, UsageError
from tuneboard.report.numbers import json_text

if TYPE_CHECKING:
    from tuneboard.store.baselines import Baseline

NAME = "baseline"
HELP = "committed reference results that gates compare with"
EXAMPLES = """\
tuneboard baseline bless base --suite core --as main     writes results/baselines/main.json, to be committed
tuneboard gate policy.yaml --base baseline:main
tuneboard baseline show
tuneboard baseline show main"""

SCHEMA = 1
#: What a list of baselines shows of each.
LISTED = ("name", "candidate", "blessed", "tasks", "samples", "status")
_NAME = re.compile(r"[\w][\w.-]*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("action", choices=["bless", "show"], help="write a baseline, or look at those that are there")
    parser.add_argument("name", nargs="?", metavar="NAME", help="bless: a candidate; show: a baseline (default all)")
    parser.add_argument("--suite", metavar="S", help="bless only the tasks of this suite")
    parser.add_argument("--as", dest="as_name", metavar="NAME", help="name of the baseline (default the candidate's)")
    parser.add_argument("--json", action="store_true", help="print what was blessed, or is there, as JSON")


def run(args: argparse.Namespace) -> int:
    """Bless a candidate, or show baselines; exit code 2 if one that is shown was edited."""
    if args.action == "show":
        if args.suite or args.as_name:
            raise UsageError("--suite and --as belong to: tuneboard baseline bless CANDIDATE")
        return _show(args)
    if args.name is None:
        raise UsageError("bless needs a candidate: tuneboard baseline bless CANDIDATE (names: tuneboard show models)")
    return _bless(args)


def _bless(args: argparse.Namespace) -> int:
    from tuneboard.cli.files import write_text
    from tuneboard.store.baselines import load_baseline, same_results
    from tuneboard.store.blessing import bless
    from tuneboard.store.overview import baseline_facts

    name = args.as_name or args.name
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a file; give --as NAME of letters, digits, '.', '-' and '_'")
    made, text = bless(args.db, args.name, name, _chosen(args))
    before: Baseline | None = None
    if made.path.exists():
        # One that was edited or is broken is mended by blessing.
        with suppress(DataError):
            before = load_baseline(name)
    changed = before is None or not same_results(before, made)
    if changed:
        # Unchanged results keep their file, and with it their date: version control then sees no change either.
        made.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(text, made.path)
    shown = made if changed or before is None else before
    content = baseline_facts(shown)
    if args.json:
        print(json_text({"schema": SCHEMA, "written": changed, **content}, indent=2))
        return 0
    state = "written" if changed else "unchanged"
    holds = f"{content['tasks']} tasks, {content['samples']:,} samples of '{made.candidate}'"
    print(f"{made.path}: {state}; {holds}, {made.path.stat().st_size / 1000:,.0f} KB")
    print(f"commit it, and compare with: --base {made.label}")
    return 0


def _chosen(args: argparse.Namespace) -> Collection[str] | None:
    """Return the tasks and groups of the suite, with all that is in them."""
    if args.suite is None:
        return None
    from tuneboard.cli.compare import tags_of
    from tuneboard.compare.roles import assign_places
    from tuneboard.store import queries
    from tuneboard.suites import find_suite

    entries = find_suite(args.suite).tasks
    cells = queries.newest(queries.cells(args.db, candidate=args.name))
    names = [cell.task for cell in cells]
    members = {cell.task: cell.members for cell in cells if cell.kind == "group"}
    return assign_places(names, members, entries, tags_of(entries, names), rest=False)


def _show(args: argparse.Namespace) -> int:
    from tuneboard.report.tables import format_table, one_line
    from tuneboard.store.baselines import load_baseline
    from tuneboard.store.overview import all_baselines, baseline_facts

    found = [baseline_facts(load_baseline(args.name), args.db)] if args.name else all_baselines(args.db)
    if args.json:
        print(json_text({"schema": SCHEMA, "baselines": found}, indent=2))
    elif not found:
        print("no baselines in results/baselines; make one: tuneboard baseline bless CANDIDATE")
    elif args.name:
        print("\n".join(one_line(f"{key:12} {value}") for key, value in found[0].items() if key != "scores"))
        rows = [[task, metric, value] for task, metric, value in found[0]["scores"]]
        print("\n" + format_table(["task", "metric", "value"], rows, "llr"))
    else:
        print(format_table(list(LISTED), [[one.get(key) for key in LISTED] for one in found], "lllrrl"))
    return 0 if all("sha256" in one for one in found) else 2

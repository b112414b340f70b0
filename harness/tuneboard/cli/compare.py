"""``tuneboard compare``: what changed from the base to its candidates, and whether it is real."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.cli.options import output_file, positive_int
from tuneboard.cli.streams import say
from tuneboard.errors import EXIT_USAGE, UsageError

if TYPE_CHECKING:
    from tuneboard.compare import Comparison, Flip, Scores
    from tuneboard.config import SuiteTask

NAME = "compare"
HELP = "what changed from a base to its candidates, sample by sample"
EXAMPLES = """\
tuneboard compare base mine
tuneboard compare base mine other --suite core
tuneboard compare baseline:main mine               a blessed baseline (tuneboard show baselines)
tuneboard compare base mine --flips 3              with prompts and both answers
tuneboard compare base mine --format markdown > change.md
tuneboard compare base mine --format csv -o change.csv
tuneboard compare mine-epoch-1 mine-epoch-2 --json"""

FORMATS = ("table", "markdown", "json", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument(
        "base",
        metavar="BASE",
        help="what differences are taken to: a candidate (tuneboard show models), or baseline:NAME",
    )
    parser.add_argument("candidates", nargs="+", metavar="CANDIDATE", help="what is compared with it")
    parser.add_argument("--suite", metavar="S", help="only the tasks of this suite, with its targets and guards")
    parser.add_argument("--run", metavar="RUN", help="results of this run instead of the newest")
    parser.add_argument("--flips", type=positive_int, metavar="N", help="list samples that changed, N a task each way")
    parser.add_argument("--format", choices=FORMATS, help="default table; json and csv have every metric")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="file to write (default stdout)")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; returns 2 if nothing valid is left to compare."""
    from tuneboard.cli.bases import open_baseline, stale_warnings
    from tuneboard.cli.files import write_records, write_text
    from tuneboard.cli.process import load_numpy
    from tuneboard.compare import Plan, compare
    from tuneboard.report.comparison import comparison_json, comparison_rows
    from tuneboard.report.comparison_text import comparison_markdown, format_comparison
    from tuneboard.report.numbers import json_text
    from tuneboard.report.tables import one_line
    from tuneboard.store.pairs import load_scores

    load_numpy()
    chosen = _format(args)
    suite = _suite(args.suite)
    baseline = open_baseline(args.base, args.candidates)
    stale_warnings(baseline, args)
    base = baseline.label if baseline else args.base
    scores = load_scores(args.db, base, args.candidates, run=args.run, baseline=baseline)
    tags = tags_of(scores.entries if suite is None else suite, scores.order)
    comparison = compare(scores, Plan(suite=suite, tags=tags, seed=args.seed))
    flips = None if args.flips is None else _flips(args.db, scores, comparison, args.flips)
    if chosen == "csv":
        write_records(comparison_rows(comparison), "csv", args.output)
    elif chosen == "json":
        write_text(json_text(comparison_json(comparison, flips)) + "\n", args.output)
    else:
        write = comparison_markdown if chosen == "markdown" else format_comparison
        write_text(write(comparison, flips or ()) + "\n", args.output)
    if comparison.valid:
        return 0
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in comparison.candidates)
    say(f"tuneboard: error: nothing is left to compare: {one_line(reasons)}")
    return EXIT_USAGE


def _format(args: argparse.Namespace) -> str:
    if args.json and args.format not in (None, "json"):
        raise UsageError(f"--json and --format {args.format} exclude each other; give one of them")
    chosen: str = "json" if args.json else args.format or "table"
    if chosen == "csv" and args.flips is not None:
        raise UsageError("--flips does not fit into CSV's rows; add --format json, markdown or table")
    return chosen


def _suite(name: str | None) -> tuple[SuiteTask, ...] | None:
    if name is None:
        return None
    from tuneboard.suites import find_suite

    return find_suite(name).tasks


def tags_of(entries: Sequence[SuiteTask], known: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Look up entries that may be tags; only these need the index of all tasks, which takes time.

    Args:
        entries: Of a suite.
        known: Names of tasks and groups that need no looking up.
    """
    from fnmatch import filter as matching

    open_names = [entry.task for entry in entries if not matching(known, entry.task)]
    if not open_names:
        return {}
    from tuneboard.suites.index import task_index

    index = task_index()
    return {name: index[name].members for name in open_names if name in index and index[name].members}


def _flips(db: Path, scores: Scores, comparison: Comparison, limit: int) -> list[Flip]:
    from tuneboard.compare.flips import changed_samples
    from tuneboard.store.flips import with_texts

    found = changed_samples(scores, comparison, limit)
    return with_texts(db, scores, found) if found else []

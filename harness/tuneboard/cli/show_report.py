"""``tuneboard show CANDIDATE --task T [--report]``: one result, and what lies behind it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuneboard.cli.show_layout import print_json
from tuneboard.errors import UsageError


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a task of a candidate, and its report."""
    parser.add_argument("--task", metavar="T", help="of a candidate, only its result on this task or group")
    parser.add_argument(
        "--report",
        action="store_true",
        help="what lies behind the result on --task: precision, recall, F1, confusion and calibration of labels; "
        "repetition and length of generated answers",
    )


def show_report(args: argparse.Namespace) -> bool:
    """Print one result, or its report, where that is asked for; returns whether it is.

    Raises:
        UsageError: Options do not go together.
        UnknownName: No such run, candidate or task.
        DataError: There is no finished result, or the task is a group.
        StoreError: The database is missing or cannot be read.
    """
    if args.task is None:
        if args.report:
            raise UsageError("--report needs a candidate and a task: tuneboard show CANDIDATE --task T --report")
        return False
    from tuneboard.cli.show_results import chosen_results, results_facts, results_text
    from tuneboard.report import task_report as shown
    from tuneboard.store import queries
    from tuneboard.store.reports import task_report

    db, head = Path(args.db), {"candidate": args.what, "task": args.task}
    runs = {row.id: row for row in queries.runs(db)}
    results = chosen_results(db, runs, run=args.run, candidate=args.what, task=args.task)
    report = task_report(db, args.what, args.task, run=args.run) if args.report else None
    if args.json:
        facts = {} if report is None else {"report": shown.report_facts(report)}
        print_json({**head, **results_facts(results), **facts})
    else:
        print(results_text(results, "task") + ("" if report is None else f"\n\n{shown.report_text(report)}"))
    return True

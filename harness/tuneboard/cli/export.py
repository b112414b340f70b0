"""``tuneboard export``: samples and results as files that other programs read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tuneboard.cli.options import RUN_RULE, output_file
from tuneboard.cli.streams import say
from tuneboard.errors import UsageError
from tuneboard.report.numbers import json_text
from tuneboard.report.tables import one_line

NAME = "export"
HELP = "write results or samples as CSV, Parquet or JSON"
EXAMPLES = """\
tuneboard export samples --candidate mine --task hellaswag > mine.jsonl
tuneboard export samples --candidate mine --task gsm8k --filter strict-match --format parquet -o mine.parquet
tuneboard export results --format csv -o results.csv
tuneboard export results --run 20260131-142501-ab12 --format json
tuneboard export report --candidate mine --task hellaswag --format csv
tuneboard export lm-eval --candidate mine -o results_mine.json     as lm-eval writes its results"""

#: What can be exported, and in which formats; the first is the default.
FORMATS = MappingProxyType(
    {
        "samples": ("jsonl", "csv", "parquet"),
        "results": ("csv", "json", "parquet"),
        "report": ("json", "csv", "parquet"),
        "lm-eval": ("json",),
    }
)


#: Options that each needs.
_NEEDED = MappingProxyType(
    {"samples": ("candidate", "task"), "results": (), "report": ("candidate", "task"), "lm-eval": ("candidate",)}
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument(
        "what",
        choices=FORMATS,
        help="one line a sample, one a metric, a report on labels and answers, or lm-eval's results file",
    )
    parser.add_argument("--candidate", metavar="NAME", help="candidate; needed but for results")
    parser.add_argument("--task", metavar="NAME", help="task; needed for samples and report")
    parser.add_argument("--run", metavar="RUN", help=RUN_RULE)
    parser.add_argument("--filter", metavar="NAME", help="of the samples, only this filter's scores")
    parser.add_argument("--prompts", action="store_true", help="add prompt and choices to the samples")
    formats = "; ".join(f"{what}: {', '.join(names)}" for what, names in FORMATS.items())
    parser.add_argument("--format", metavar="FORMAT", help=f"{formats} (default the first)")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="file to write (default stdout)")


def run(args: argparse.Namespace) -> int:
    """Write what was asked for; raises ``UsageError`` if an option is missing or does not fit."""
    from tuneboard.cli.files import write_records, write_text
    from tuneboard.store.exports import lm_eval_results, result_rows

    chosen = args.format or FORMATS[args.what][0]
    if chosen not in FORMATS[args.what]:
        raise UsageError(f"{args.what} as '{chosen}' is not offered; give --format {' or '.join(FORMATS[args.what])}")
    for needed in _NEEDED[args.what]:
        if getattr(args, needed) is None:
            names = "models" if needed == "candidate" else "tasks"
            raise UsageError(f"export {args.what} needs --{needed} NAME; see: tuneboard show {names}")
    if args.what != "samples" and (args.prompts or (args.filter is not None and args.what != "report")):
        raise UsageError("--filter and --prompts belong to: tuneboard export samples")
    if args.what == "samples":
        write_records(_samples(args, nested=chosen == "jsonl"), chosen, args.output)
    elif args.what == "results":
        rows = result_rows(Path(args.db), run=args.run, candidate=args.candidate, task=args.task)
        write_records(rows, chosen, args.output)
    elif args.what == "report":
        _write_report(args, chosen)
    else:
        results = lm_eval_results(Path(args.db), args.candidate, run=args.run)
        write_text(json_text(results, indent=2) + "\n", args.output)
    if not args.quiet:
        _tell(args)
    return 0


def _write_report(args: argparse.Namespace, format: str) -> None:
    from tuneboard.cli.files import write_records, write_text
    from tuneboard.report import task_report as shown
    from tuneboard.store.reports import task_report

    report = task_report(Path(args.db), args.candidate, args.task, run=args.run, filter=args.filter)
    if format == "json":
        write_text(json_text(shown.report_facts(report), indent=2) + "\n", args.output)
    else:
        write_records(shown.report_rows(report), format, args.output)


def _tell(args: argparse.Namespace) -> None:
    """Say on stderr what a reader must know of the results that were chosen."""
    from tuneboard.report.choice import wider_notes
    from tuneboard.report.results import cut_notes
    from tuneboard.store import queries

    task = None if args.what == "lm-eval" else args.task
    found, results = queries.cells_and_results(Path(args.db), run=args.run, candidate=args.candidate, task=task)
    for note in (*wider_notes(found), *cut_notes(results)):
        say(f"tuneboard: note: {one_line(note)}")


def _samples(args: argparse.Namespace, nested: bool) -> Iterator[dict[str, Any]]:
    """Yield samples as the contract has them, or with a column for each metric."""
    from tuneboard.store import queries

    rows = queries.samples(Path(args.db), args.candidate, args.task, run=args.run, filter=args.filter)
    return (_sample(row, nested, args.prompts) for row in rows)


def _sample(row: dict[str, Any], nested: bool, prompts: bool) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if prompts or key not in ("prompt", "choices")}
    return kept if nested else kept | kept.pop("metrics")

"""``tuneboard gate``: may a candidate ship? A policy's verdict for people, CI and programs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.cli.options import add_include_path, output_file
from tuneboard.cli.streams import say
from tuneboard.errors import StoreError, UsageError
from tuneboard.report.numbers import json_text
from tuneboard.report.tables import one_line

if TYPE_CHECKING:
    from tuneboard.gates import Known, Policy
    from tuneboard.report.verdict import GateReport

NAME = "gate"
HELP = "judge a candidate by a policy, for people and CI"
EXAMPLES = """\
tuneboard gate quick --candidate mine
tuneboard gate policy.yaml --junit gate.xml --markdown comment.md --json-file gate.json
tuneboard gate policy.yaml --base baseline:main --on-inconclusive warn
tuneboard gate policy.yaml --json
(exit codes: 0 pass, 1 regression, 2 usage error or invalid comparison, 3 inconclusive)"""

#: GitHub shows what is appended to this file on the page of the job.
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("policy", metavar="POLICY", help="a YAML file, or the name of a shipped policy such as quick")
    parser.add_argument("--base", metavar="NAME", help="in place of the policy's; baseline:NAME is a blessed baseline")
    parser.add_argument("--candidate", metavar="NAME", help="in place of the policy's")
    parser.add_argument("--run", metavar="RUN", help="results of this run instead of the newest")
    parser.add_argument(
        "--on-inconclusive", choices=["pass", "fail", "warn"], help="what inconclusive means, in place of the policy's"
    )
    out = parser.add_argument_group("outputs")
    out.add_argument("--junit", type=output_file, metavar="F", help="write JUnit XML, one case a rule")
    out.add_argument("--markdown", type=output_file, metavar="F", help="write Markdown for a pull request's comment")
    out.add_argument("--json-file", type=output_file, metavar="F", help="write the verdict as JSON")
    out.add_argument("--json", action="store_true", help="print the verdict as JSON")
    models = parser.add_argument_group("where the policy evaluates")
    add_include_path(models)
    models.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto)")
    models.add_argument("--unsafe-code", action="store_true", help="run generated code without isolation")


def run(args: argparse.Namespace) -> int:
    """Judge, write what was asked for, and return the verdict's exit code."""
    from tuneboard.cli.gating import gate_report
    from tuneboard.cli.process import load_numpy

    load_numpy()
    policy = _policy(args)
    summary = os.environ.get(SUMMARY_VARIABLE)
    wants_flips = bool(args.junit or args.markdown or summary)
    report = gate_report(policy, args, wants_flips)
    # The verdict comes first, whatever happens to the files.
    _print(report, args)
    _keep(report, args)
    _write(report, args, Path(summary) if summary else None)
    return report.verdict.exit_code


def _policy(args: argparse.Namespace) -> Policy:
    from tuneboard.gates import find_policy, load_policy

    path = find_policy(args.policy)
    policy = load_policy(path, _known(args), base=args.base, candidate=args.candidate)
    return replace(policy, on_inconclusive=args.on_inconclusive) if args.on_inconclusive else policy


def _known(args: argparse.Namespace) -> Known:
    """Return the names that a policy may use; nothing is known of a database that is not there yet."""
    from tuneboard.gates import Known
    from tuneboard.store.baselines import PREFIX, list_baselines
    from tuneboard.store.names import known_names
    from tuneboard.store.overview import headlines

    if not args.db.exists():
        return Known()
    candidates, tasks = known_names(args.db)
    return Known(tasks, candidates | {PREFIX + path.stem for path in list_baselines()}, headlines(args.db))


def _print(report: GateReport, args: argparse.Namespace) -> None:
    from tuneboard.report.verdict import verdict_json, verdict_text

    if args.json:
        print(json_text(verdict_json(report), indent=2))
    else:
        print(verdict_text(report))
    sys.stdout.flush()


def _keep(report: GateReport, args: argparse.Namespace) -> None:
    """Keep the verdict for the gate's history; where that cannot be written, the verdict stands all the same."""
    from tuneboard.report.verdict import verdict_json
    from tuneboard.store.verdicts import keep_verdict

    if not args.db.exists():
        return
    try:
        keep_verdict(args.db, verdict_json(report))
    except StoreError as error:
        if not args.quiet:
            say(f"tuneboard: warning: the history of verdicts misses this one: {one_line(str(error))}")


def _write(report: GateReport, args: argparse.Namespace, summary: Path | None) -> None:
    from tuneboard.cli.files import write_text

    if args.json_file:
        from tuneboard.report.verdict import verdict_json

        write_text(json_text(verdict_json(report), indent=2) + "\n", args.json_file)
    if args.junit:
        from tuneboard.report.junit import junit_xml

        write_text(junit_xml(report), args.junit)
    if args.markdown or summary:
        from tuneboard.report.verdict_markdown import verdict_markdown

        text = verdict_markdown(report).encode("utf-8", "replace").decode("utf-8")
        if args.markdown:
            write_text(text, args.markdown)
        if summary:
            with _explained(summary), summary.open("a", encoding="utf-8") as file:
                file.write(text)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot append to {path}, which ${SUMMARY_VARIABLE} names: {error.strerror}") from error

"""``tuneboard import``: results and samples that lm-eval wrote, to compare and gate them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.cli.streams import say
from tuneboard.errors import UsageError
from tuneboard.report.numbers import json_text
from tuneboard.report.tables import one_line

if TYPE_CHECKING:
    from tuneboard.records import TaskResult

NAME = "import"
HELP = "take in results that lm-evaluation-harness wrote, to compare and gate them"
EXAMPLES = """\
lm_eval --model hf --model_args pretrained=./base --tasks gsm8k --log_samples --output_path out/base
tuneboard import out/base --as base
tuneboard import out/mine --as mine
tuneboard compare base mine"""

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what lm_eval --output_path named")
    parser.add_argument("--as", dest="name", required=True, metavar="NAME", help="name of the candidate")
    parser.add_argument("--json", action="store_true", help="print what was imported as JSON")


def run(args: argparse.Namespace) -> int:
    """Import a folder; what is there already is left as it is."""
    from tuneboard.candidates import unique_names
    from tuneboard.store.importing import read_results
    from tuneboard.store.writes import Store

    unique_names([args.name])
    results, without = read_results(args.folder, args.name)
    store = Store(args.db)
    store.check(results[0].candidate)
    there = store.find_all([result.key for result in results])
    for result in results:
        _refuse_other(there.get(result.key), result, args)
    fresh = [result for result in results if result.key not in there]
    run_id = _store(store, results, fresh, args) if fresh else None
    if without and not args.quiet:
        say(f"tuneboard: left out, since they have no samples: {', '.join(without)}")
    cells = [_cell(result, result in fresh) for result in results]
    if args.json:
        content = {"schema": SCHEMA, "run": run_id, "db": str(args.db), "candidate": args.name, "cells": cells}
        print(json_text(content | {"left_out": without}, indent=2))
        return 0
    tasks = [result for result in results if result.kind == "task"]
    new = sum(result in fresh for result in tasks)
    said = f"{len(tasks)} tasks" if len(tasks) > 1 else f"task {tasks[0].task.name}"
    of_tasks = f"{len(tasks) - new} of {len(tasks)} tasks " if len(tasks) > 1 else ""
    note = "" if new == len(tasks) else f", {of_tasks}there already"
    print(one_line(f"{args.name}: {said}, {sum(result.n for result in tasks):,} samples{note}, in {args.db}"))
    print(one_line(f"compare with: tuneboard compare BASE {shlex.quote(args.name)} --db {shlex.quote(str(args.db))}"))
    return 0


def _store(store: Any, results: Sequence[TaskResult], fresh: Sequence[TaskResult], args: argparse.Namespace) -> str:
    from tuneboard.records import Provenance

    first = fresh[0].key
    provenance = Provenance(
        command=shlex.join(["tuneboard", *sys.argv[1:]]),
        engine={"name": first.engine, "version": "", "device": "", "dtype": first.dtype},
        versions={},
        hardware={},
        seeds={},
        settings={"imported": str(args.folder), "tasks": []},
    )
    run_id: str = store.start_run(provenance)
    store.commit_all(run_id, fresh)
    store.link_all(run_id, [result for result in results if result not in fresh])
    store.finish_run(run_id, "done", 0.0)
    return run_id


def _refuse_other(there: TaskResult | None, result: TaskResult, args: argparse.Namespace) -> None:
    """Refuse results that contradict those of the same name: lm-eval knows no hash of local weights."""
    if there is None:
        return
    old, new = ({(m.metric, m.filter): m.value for m in one.metrics} for one in (there, result))
    if old != new or there.n != result.n:
        raise UsageError(
            f"'{args.name}' has other scores on {result.task.name} in {args.db} than in {args.folder}; "
            "if the weights have changed, import under another name with --as"
        )


def _cell(result: TaskResult, fresh: bool) -> dict[str, Any]:
    return {
        "task": result.task.name,
        "kind": result.kind,
        "status": "done" if fresh else "reused",
        "n": result.n,
        "metrics": {f"{metric.metric},{metric.filter}": metric.value for metric in result.metrics},
    }

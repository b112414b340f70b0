"""``tuneboard show``: what is in the database, and what can be asked for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tuneboard.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from tuneboard.records import TaskResult

NAME = "show"
HELP = "look at runs, models, trainings, tasks, recipes and results"
EXAMPLES = """\
tuneboard show runs                     every run, newest first
tuneboard show models                   candidates and the weights that their names are bound to
tuneboard show mine                     all metrics of the candidate 'mine', on every task
tuneboard show hellaswag                all candidates on one task
tuneboard show 20260131-142501-ab12     one run, as evaluate printed it
tuneboard show trainings                what was fine-tuned
tuneboard show tune-20260131-142501-ab12     one training: its data, its losses, what it came to
tuneboard show recipes
tuneboard show lora                     a shipped recipe, with the reason for every value
tuneboard show suites
tuneboard show tasks mmlu               names of tasks and groups that contain 'mmlu'
tuneboard show models --json"""

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("what", metavar="WHAT", help=f"{', '.join(_LISTS)}, or the name of one of them")
    parser.add_argument("match", nargs="?", metavar="TEXT", help="of a list, show only names that contain this text")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for; raises ``UnknownName`` if it is nothing that is known."""
    db, what = Path(args.db), str(args.what)
    if what in _LISTS:
        rows = [row for row in _LISTS[what](db) if (args.match or "").lower() in str(next(iter(row.values()))).lower()]
        if args.json:
            _print_json({what: rows})
        else:
            _print_rows(rows, f"no {what}" + (f" with '{args.match}' in their names" if args.match else ""))
    elif args.match is not None:
        raise UsageError(f"'{args.match}' is one argument too many: only lists take a text; see: tuneboard show --help")
    else:
        _show_one(db, what, args.json)
    return 0


_Rows = list[dict[str, Any]]


def _runs(db: Path) -> _Rows:
    from tuneboard.store import queries

    return [
        {
            "run": row.id,
            "started": _time(row.started),
            # The process may have been killed; only a finished run is known to have ended.
            "status": "unfinished" if row.finished is None else row.status,
            "seconds": None if row.seconds is None else round(row.seconds, 1),
            "suite": row.suite,
            "engine": row.engine.get("name"),
            "candidates": list(row.candidates),
            "cells": row.statuses,
        }
        for row in queries.runs(db)
    ]


def _models(db: Path) -> _Rows:
    from tuneboard.store import queries

    return [
        {
            "name": row.name,
            "kind": row.kind,
            "model": row.model_id + (f"@{row.model_revision}" if row.model_revision else ""),
            "adapter": row.adapter_path,
            "type": row.adapter_kind,
            "fingerprint": row.fingerprint,
            "results": row.cells,
        }
        for row in queries.models(db)
    ]


def _tasks(db: Path) -> _Rows:
    from tuneboard.store import queries
    from tuneboard.suites import list_task_names

    kinds: dict[str, str] = dict(list_task_names())
    results: dict[str, int] = {}
    if db.exists():
        for row in queries.tasks(db):
            results[row.name] = results.get(row.name, 0) + row.cells
            kinds.setdefault(row.name, "task")
    return [
        {"task": name, "kind": "task" if kinds[name] == "class" else kinds[name], "results": results.get(name, 0)}
        for name in sorted(kinds)
    ]


def _suites(db: Path) -> _Rows:
    from tuneboard.suites import list_suites

    return [{"suite": suite.name, "description": suite.description, "path": str(suite.path)} for suite in list_suites()]


def _recipes(db: Path) -> _Rows:
    from tuneboard.cli.show_training import recipes

    return recipes()


def _trainings(db: Path) -> _Rows:
    from tuneboard.cli.show_training import trainings

    return trainings(db)


_LISTS: MappingProxyType[str, Callable[[Path], _Rows]] = MappingProxyType(
    {
        "runs": _runs,
        "models": _models,
        "trainings": _trainings,
        "tasks": _tasks,
        "suites": _suites,
        "recipes": _recipes,
    }
)


def _show_one(db: Path, name: str, as_json: bool) -> None:
    """Print the run, training, candidate, task, suite or recipe of that name: the first of these that there is."""
    from tuneboard.cli import show_training
    from tuneboard.store import queries

    known: list[str] = []
    if db.exists():
        runs = {row.id: row for row in queries.runs(db)}
        models = {row["name"]: row for row in _models(db)}
        tasks = {row.name for row in queries.tasks(db)}
        trainings = show_training.training_ids(db)
        known = [*models, *tasks, *runs, *trainings]
        if name in runs:
            return _show_run(db, runs[name], as_json)
        if name in trainings:
            return _show_training(db, name, as_json)
        if name in models:
            details = models[name] | {"training": show_training.made_by(db, models[name]["fingerprint"])}
            return _show_results(details, queries.results(db, candidate=name), "task", as_json)
        if name in tasks:
            return _show_results({"task": name}, queries.results(db, task=name), "candidate", as_json)
    suites = {row["suite"]: row for row in _suites(db)}
    recipes = {row["recipe"]: row for row in _recipes(db)}
    if name in recipes and name not in suites:
        return _show_recipe(recipes[name], as_json)
    if name not in suites:
        hint = "see: tuneboard show models" if db.exists() else f"there is no database at {db} yet; name one with --db"
        raise UnknownName("name", name, [*known, *suites, *recipes, *_LISTS], hint)
    if as_json:
        return _print_json(suites[name])
    return _print_pairs(suites[name])


def _show_training(db: Path, name: str, as_json: bool) -> None:
    from tuneboard.cli.show_training import training_facts, training_text

    if as_json:
        return _print_json(training_facts(db, name))
    print(training_text(db, name))


def _show_recipe(row: dict[str, Any], as_json: bool) -> None:
    text = Path(row["path"]).read_text(encoding="utf-8")
    if as_json:
        return _print_json(row | {"text": text})
    print(f"# {row['path']}\n{text}", end="")


def _show_run(db: Path, row: Any, as_json: bool) -> None:
    from tuneboard.report.results import evaluate_json, format_results
    from tuneboard.store import queries

    results = queries.results(db, run=row.id)
    details = {
        "run": row.id,
        "started": _time(row.started),
        "status": "unfinished" if row.finished is None else row.status,
        "command": row.command,
        "suite": row.suite,
        "settings": row.settings,
        "seeds": row.seeds,
        "versions": row.versions,
        "hardware": row.hardware,
    }
    if as_json:
        print(json.dumps(evaluate_json(row.id, str(db), row.seconds, row.engine, results) | details))
        return
    _print_pairs(details | {"seconds": row.seconds, "engine": row.engine})
    print()
    print(format_results(results))


def _show_results(details: dict[str, Any], results: Sequence[TaskResult], other: str, as_json: bool) -> None:
    """Print every metric of a candidate (by task) or of a task (by candidate)."""
    from tuneboard.report.results import evaluate_json
    from tuneboard.report.tables import format_table

    if as_json:
        cells = evaluate_json("", "", 0.0, {}, results)["cells"]
        return _print_json({**details, "cells": cells})
    rows: list[list[object]] = []
    for result in results:
        name = result.task.name if other == "task" else result.candidate.name
        head = [name, result.task.num_fewshot, result.n, result.failed]
        status = result.status if result.reason is None else f"{result.status}: {result.reason}"
        for metric in result.metrics:
            interval = None if metric.ci is None else f"[{metric.ci[0]:.4f}, {metric.ci[1]:.4f}]"
            stderr = None if metric.stderr is None else f"{metric.stderr:.4f}"
            rows.append([*head, metric.metric, metric.filter, f"{metric.value:.4f}", stderr, interval, status])
        if not result.metrics:
            rows.append([*head, None, None, None, None, None, status])
    _print_pairs(details)
    headers = [other, "few-shot", "n", "failed", "metric", "filter", "value", "stderr", "95 % interval", "status"]
    print("\n" + (format_table(headers, rows, "lrrrllrrrl") if rows else "no results"))


def _print_rows(rows: _Rows, nothing: str) -> None:
    from tuneboard.report.tables import format_table

    if not rows:
        print(nothing)
        return
    numbers = [all(isinstance(row[key], int | float | None) for row in rows) for key in rows[0]]
    align = "".join("r" if number else "l" for number in numbers)
    print(format_table(list(rows[0]), [[_text(key, value) for key, value in row.items()] for row in rows], align))


def _print_pairs(details: dict[str, Any]) -> None:
    width = max(map(len, details))
    for key, value in details.items():
        if value not in (None, {}, []):
            print(f"{key:{width}}  {_text('', value)}")


def _text(key: str, value: Any) -> object:
    if isinstance(value, dict):
        pairs = ((count, status) for status, count in value.items()) if key == "cells" else value.items()
        return ", ".join(f"{first} {second}" for first, second in pairs)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value[:12] if key == "fingerprint" else value


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps({"schema": SCHEMA, **content}))

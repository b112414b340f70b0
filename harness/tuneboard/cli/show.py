"""``tuneboard show``: what is in the database, and what can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tuneboard.cli.options import RUN_RULE
from tuneboard.cli.show_layout import print_json, print_pairs, print_rows
from tuneboard.cli.show_report import add_report, show_report
from tuneboard.errors import DataError, UnknownName, UsageError

if TYPE_CHECKING:
    from tuneboard.cli.show_results import Shown

NAME = "show"
HELP = "look at runs, models, trainings, tasks, recipes and results"
EXAMPLES = """\
tuneboard show runs                     every run, newest first
tuneboard show models                   candidates and the weights that their names are bound to
tuneboard show mine                     all metrics of the candidate 'mine', on every task
tuneboard show hellaswag                all candidates on one task
tuneboard show mine --task hellaswag --report     what lies behind one result: labels, calibration, answers
tuneboard show hellaswag --run 20260131-142501-ab12     the same, as that run has it
tuneboard show 20260131-142501-ab12     one run, as evaluate printed it
tuneboard show trainings                what was fine-tuned
tuneboard show tune-20260131-142501-ab12     one training: its data, its losses, what it came to
tuneboard show recipes
tuneboard show lora                     a shipped recipe, with the reason for every value
tuneboard show suites
tuneboard show policies                 what gates may judge by
tuneboard show baselines                what gates may compare with
tuneboard show tasks mmlu               tasks and groups whose names contain 'mmlu': data, metrics, size
tuneboard show models --json"""

_Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("what", metavar="WHAT", help=f"{', '.join(_NAMES)}, or the name of one of them")
    parser.add_argument("match", nargs="?", metavar="TEXT", help="of a list, show only names that contain this text")
    parser.add_argument("--run", metavar="RUN", help=f"of a candidate or a task: {RUN_RULE}")
    add_report(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for; raises ``UnknownName`` if it is nothing that is known."""
    db, what = Path(args.db), str(args.what)
    if what in _NAMES and args.run is not None:
        raise UsageError(f"--run goes with the name of a candidate or a task, not with the list of {what}")
    if what in _NAMES:
        rows = _listed(db, what, args.match or "", args.mirror)
        if args.json:
            print_json({what: rows})
        else:
            print_rows(rows, f"no {what}" + (f" with '{args.match}' in their names" if args.match else ""))
    elif args.match is not None:
        raise UsageError(f"'{args.match}' is one argument too many: only lists take a text; see: tuneboard show --help")
    elif not show_report(args):
        _show_one(db, what, args.json, args.run)
    return 0


def _listed(db: Path, what: str, text: str, mirror: Path | None) -> _Rows:
    if what != "tasks":
        return [row for row in _LISTS[what](db) if _is_named(row, text)]
    from tuneboard.cli.show_tasks import task_rows

    return task_rows(db, mirror, lambda row: _is_named(row, text))


def _is_named(row: dict[str, Any], text: str) -> bool:
    """Tell whether a row's id or name, or that of the candidate which it is of, contains a text."""
    names = (next(iter(row.values())), row.get("candidate"))
    return any(text.lower() in str(name).lower() for name in names if name is not None)


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


def _suites(db: Path) -> _Rows:
    from tuneboard.cli.show_suites import suites

    return suites()


def _recipes(db: Path) -> _Rows:
    from tuneboard.cli.show_training import recipes

    return recipes()


def _trainings(db: Path) -> _Rows:
    from tuneboard.cli.show_training import trainings

    return trainings(db)


def _policies(db: Path) -> _Rows:
    from tuneboard.gates import list_policies

    return [{"policy": one.name, "description": one.description, "path": str(one.path)} for one in list_policies()]


def _baselines(db: Path) -> _Rows:
    from tuneboard.cli.baseline import LISTED
    from tuneboard.store.overview import all_baselines

    return [{key: one.get(key) for key in LISTED} for one in all_baselines(db)]


_LISTS: MappingProxyType[str, Callable[[Path], _Rows]] = MappingProxyType(
    {
        "runs": _runs,
        "models": _models,
        "trainings": _trainings,
        "suites": _suites,
        "recipes": _recipes,
        "policies": _policies,
        "baselines": _baselines,
    }
)
_NAMES = (*_LISTS, "tasks")


def _show_one(db: Path, name: str, as_json: bool, run: str | None) -> None:
    """Print the run, training, candidate, task, suite or recipe of that name: the first of these that there is."""
    from tuneboard.cli import show_training
    from tuneboard.cli.show_results import chosen_results
    from tuneboard.store import queries
    from tuneboard.suites import list_task_names

    known: list[str] = []
    if db.exists():
        runs = {row.id: row for row in queries.runs(db)}
        models = {row["name"]: row for row in _models(db)}
        tasks = {row.name for row in queries.tasks(db)}
        trainings = show_training.training_ids(db)
        known = [*models, *tasks, *runs, *trainings] if run is None else [*models, *tasks]
        if run is None and name in runs:
            return _show_run(db, runs[name], as_json)
        if run is None and name in trainings:
            return _show_training(db, name, as_json)
        if name in models:
            details = models[name] | {"training": show_training.made_by(db, models[name]["fingerprint"])}
            return _show_results(details, chosen_results(db, runs, run=run, candidate=name), "task", as_json)
        if name in tasks:
            return _show_results({"task": name}, chosen_results(db, runs, run=run, task=name), "candidate", as_json)
    hint = "see: tuneboard show models" if db.exists() else f"there is no database at {db} yet; name one with --db"
    if run is not None:
        raise UnknownName("candidate or task", name, known, hint)
    suites = {row["suite"]: row for row in _suites(db)}
    recipes = {row["recipe"]: row for row in _recipes(db)}
    if name in recipes and name not in suites:
        return _show_recipe(recipes[name], as_json)
    if name not in suites and name in list_task_names():
        raise DataError(f"no result of task '{name}' in {db} yet; what it is: tuneboard show tasks {name}")
    if name not in suites:
        raise UnknownName("name", name, [*known, *suites, *recipes, *_NAMES], hint)
    _show_suite(suites[name], as_json)


def _show_suite(row: dict[str, Any], as_json: bool) -> None:
    from tuneboard.cli.show_suites import suite_tasks, suite_text

    if as_json:
        return print_json(row | {"tasks": suite_tasks(row["suite"])})
    print_pairs(row)
    print(f"\n{suite_text(row['suite'])}")


def _show_training(db: Path, name: str, as_json: bool) -> None:
    from tuneboard.cli.show_training import training_facts, training_text

    if as_json:
        return print_json(training_facts(db, name))
    print(training_text(db, name))


def _show_recipe(row: dict[str, Any], as_json: bool) -> None:
    text = Path(row["path"]).read_text(encoding="utf-8")
    if as_json:
        return print_json(row | {"text": text})
    print(f"# {row['path']}\n{text}", end="")


def _show_run(db: Path, row: Any, as_json: bool) -> None:
    from tuneboard.report.fidelity import check_text
    from tuneboard.report.numbers import json_text
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
        print(json_text(evaluate_json(row.id, str(db), row.seconds, row.engine, results) | details))
        return
    engine = {key: value for key, value in row.engine.items() if key != "checks"}
    print_pairs(details | {"seconds": row.seconds, "engine": engine})
    print(check_text(row.engine))
    print(format_results(results))


def _show_results(details: dict[str, Any], shown: Shown, other: str, as_json: bool) -> None:
    """Print every metric of a candidate (by task) or of a task (by candidate)."""
    from tuneboard.cli.show_results import results_facts, results_text

    if as_json:
        return print_json({**details, **results_facts(shown)})
    print_pairs(details)
    print(f"\n{results_text(shown, other)}")


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"

"""``tuneboard demo``: makes a small model and adapters of it, and evaluates them, on a machine that has nothing."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.cli.options import DEFAULT_DB
from tuneboard.cli.streams import say
from tuneboard.errors import NameTaken

if TYPE_CHECKING:
    from tuneboard.demo import DemoModels

NAME = "demo"
HELP = "everything at once, on a machine that has nothing"
EXAMPLES = """\
tuneboard demo                          half a minute of training, then the table; a second call has it at once
tuneboard demo --json > demo.json
tuneboard demo --db /tmp/try/tuneboard.duckdb     keep models and results elsewhere"""

_SUITE = "demo"
#: The one task of the suite that runs generated code.
_CODE_TASK = "demo_code"
#: Not ``base``: that name is for the user's own model in the same database.
_BASE = "tiny-base"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Make what is missing, evaluate, and say what to type next; the exit code is that of ``evaluate``."""
    from tuneboard.demo import demo_models

    # A model this small gains nothing from a second thread; where others use the cores too, evaluating took 94 s with
    # two and 22 s with one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    models = demo_models(args.db.parent / "demo", lambda line: _say(args, line))
    suffix = ""
    with _suite(args) as suite:
        try:
            code = _evaluate(args, models, suite, suffix)
        except NameTaken:
            # The database knows other models by these names: those of another version's demo, or the user's.
            suffix = f"-{models.tag}"
            _say(args, f"the names are taken by other weights in {args.db}; these get '{suffix}' behind them")
            code = _evaluate(args, models, suite, suffix)
    base = _BASE + suffix
    db = [] if args.db == DEFAULT_DB else ["--db", str(args.db)]
    _say(args, f"your own model:  tuneboard evaluate --model MODEL --adapter NAME=PATH --suite quick {shlex.join(db)}")
    _say(args, f"these results:   {shlex.join(['tuneboard', 'show', base, *db])}")
    export = ["tuneboard", "export", "samples", "--candidate", base, "--task", "demo_math", *db]
    _say(args, f"every sample:    {shlex.join(export)}")
    return code


def _evaluate(args: argparse.Namespace, models: DemoModels, suite: str, suffix: str) -> int:
    """Run ``tuneboard evaluate`` as a user would."""
    from tuneboard.cli.main import command_module, command_parser

    words = ["--model", str(models.base), "--base-name", _BASE + suffix, "--suite", suite]
    for name, path in models.adapters.items():
        words += ["--adapter", f"tiny-{name}{suffix}={path}"]
    words += ["--db", str(args.db), "--seed", str(args.seed)]
    words += [f"--{flag}" for flag in ("json", "quiet", "debug") if getattr(args, flag)]
    chosen = command_parser("evaluate").parse_args(words)
    chosen.mirror = None  # the demo's data ships with it, whatever TUNEBOARD_MIRROR says
    return command_module("evaluate").run(chosen)


@contextmanager
def _suite(args: argparse.Namespace) -> Iterator[str]:
    """Yield the suite's name, or a file with a suite that runs no code where nothing isolates it."""
    from tuneboard.sandbox import isolation

    found = isolation()
    if found.available:
        yield _SUITE
        return
    import yaml

    from tuneboard import bundled

    _say(args, f"{_CODE_TASK} is left out, since generated code cannot be isolated here: {found.reason}")
    suite = yaml.safe_load((bundled.suites_dir() / f"{_SUITE}.yaml").read_text(encoding="utf-8"))
    suite["tasks"] = [task for task in suite["tasks"] if task["task"] != _CODE_TASK]
    with tempfile.TemporaryDirectory(prefix="tuneboard-") as folder:
        path = Path(folder) / f"{_SUITE}.yaml"
        path.write_text(yaml.safe_dump(suite), encoding="utf-8")
        yield str(path)


def _say(args: argparse.Namespace, line: str) -> None:
    if not args.quiet:
        say(line.rstrip())

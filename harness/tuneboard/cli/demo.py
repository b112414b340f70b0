"""``tuneboard demo``: a base that learns, candidates that gain and forget, and a gate that tells; from nothing."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.cli.evaluating import common_words
from tuneboard.cli.inner import captured_json, run_inner
from tuneboard.cli.process import prepare_libraries, terminable
from tuneboard.cli.streams import say

if TYPE_CHECKING:
    from tuneboard.demo import Course

NAME = "demo"
HELP = "everything at once, on a machine that has nothing"
EXAMPLES = """\
tuneboard demo                          some minutes of training, then verdicts; a second call takes seconds
tuneboard demo --seed 2                 another world, another base, other candidates
tuneboard demo --model HuggingFaceTB/SmolLM2-135M          a real base, taught to judge film reviews
tuneboard demo --json > demo.json
tuneboard demo --db /tmp/try/tuneboard.duckdb     keep models and results elsewhere"""

SCHEMA = 1
#: The one task of the suite that runs generated code.
_CODE_TASK = "demo_code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("--model", metavar="M", help="a causal model, folder or hub id, in place of the demo's own")
    parser.add_argument("--json", action="store_true", help="print everything that was found as JSON")


def run(args: argparse.Namespace) -> int:
    """Make what is missing, evaluate, compare, gate and explain; exit code 2 if a result failed or is invalid."""
    started = time.monotonic()
    # A model this small keeps two threads busy and no more.
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    prepare_libraries(args.debug)
    from tuneboard.demo import turn
    from tuneboard.demo.story import Findings, tell
    from tuneboard.report.numbers import json_text
    from tuneboard.report.training import TrainingProgress

    if args.model is None:
        args.mirror = None  # the demo's data is its own, whatever TUNEBOARD_MIRROR says
    with terminable(), TrainingProgress(quiet=args.quiet) as progress, turn(args.db, progress) as folder:
        course = _course(args, folder, progress)
        suite, policy = _asked(args, course)
        code, found = _results(args, course, suite, policy)
    seconds = time.monotonic() - started
    if args.json:
        print(json_text(_json(args, course, found, seconds), indent=2))
    else:
        print(tell(Findings(course.says, found["compare"], found["gates"], args.model is None)))
        print(f"\nEverything is in {args.db} and {course.folder} ({seconds:.0f} s).")
    _next_steps(args, course)
    return code


def _course(args: argparse.Namespace, folder: Path, progress: Any) -> Course:
    from tuneboard.demo import real_course, tiny_course

    if args.model is not None:
        return real_course(folder, args.db, args.model, args.mirror, progress)
    return tiny_course(folder, args.db, args.seed, progress)


def _results(args: argparse.Namespace, course: Course, suite: str, policy: str) -> tuple[int, dict[str, Any]]:
    """Evaluate, compare and judge as a user would."""
    from tuneboard.tuning.folders import is_adapter

    common = common_words(args)
    words = ["--model", course.base, "--base-name", course.base_name, "--suite", suite, *common]
    for name, path in course.candidates.items():
        words += ["--adapter" if is_adapter(path) else "--candidate", f"{name}={path}"]
    words += [word for path in course.include_paths for word in ("--include-path", str(path))]
    code, evaluated = _inner(args, "evaluate", words)
    names = [course.base_name, *course.candidates]
    _, compared = _inner(args, "compare", [*names, "--suite", suite, "--flips", "1", *common])
    gates = [
        _inner(args, "gate", [policy, "--base", course.base_name, "--candidate", name, *common])[1]
        for name in course.candidates
    ]
    return code, {"evaluate": evaluated, "compare": compared, "gates": gates}


def _inner(args: argparse.Namespace, command: str, words: list[str]) -> tuple[int, Any]:
    asked = argparse.Namespace(**{**vars(args), "json": True})
    return captured_json(partial(run_inner, asked, command, words))


def _asked(args: argparse.Namespace, course: Course) -> tuple[str, str]:
    """Return suite and policy: the shipped ones, or files without the code task where nothing isolates programs."""
    from tuneboard.sandbox import isolation

    if args.model is not None or (found := isolation()).available:
        return course.suite, course.policy
    import yaml

    from tuneboard import bundled

    _say(args, f"{_CODE_TASK} is left out, since generated code cannot be isolated here: {found.reason}")
    suite = yaml.safe_load((bundled.suites_dir() / f"{course.suite}.yaml").read_text(encoding="utf-8"))
    suite["tasks"] = [task for task in suite["tasks"] if task["task"] != _CODE_TASK]
    policy = yaml.safe_load((bundled.policies_dir() / f"{course.policy}.yaml").read_text(encoding="utf-8"))
    del policy["margins"][_CODE_TASK]
    places = [course.folder / f"{name}-without-code.yaml" for name in ("suite", "policy")]
    policy["suite"] = str(places[0])
    for place, content in zip(places, (suite, policy), strict=True):
        place.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(places[0]), str(places[1])


def _json(args: argparse.Namespace, course: Course, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "seed": args.seed,
        "model": course.base,
        "db": str(args.db),
        "folder": str(course.folder),
        "base": course.base_name,
        "candidates": [
            {"name": name, "folder": str(path), "says": course.says[name]} for name, path in course.candidates.items()
        ],
        "verdicts": {gate["candidate"]: gate["verdict"] for gate in found["gates"]},
        **found,
        "seconds": seconds,
    }


def _next_steps(args: argparse.Namespace, course: Course) -> None:
    """Say in three lines what to type next."""
    db = common_words(argparse.Namespace(db=args.db, mirror=None))
    evaluate = ["tuneboard", "evaluate", "--model", "MODEL", "--adapter", "NAME=PATH", "--suite", "quick"]
    recipe = ["tuneboard", "tune", "lora", "--set", f"base={course.base}", "--set", "data=MINE.jsonl"]
    own = ["--set", f"data.leaks.against={course.suite}", "--set", "name=mine"]
    lines = {
        "look at all of it": ["tuneboard", "leaderboard", *db],
        "your own model": [*evaluate, *db],
        "your own data": [*recipe, *own, "--evaluate", course.suite, *db],
    }
    for title, words in lines.items():
        _say(args, f"{title + ':':19}{shlex.join(words)}")


def _say(args: argparse.Namespace, line: str) -> None:
    if not args.quiet:
        say(line.rstrip())

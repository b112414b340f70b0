"""``tuneboard tune``: makes candidates by a recipe, and compares them with their base if asked."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.cli.inner import captured_json, run_inner
from tuneboard.cli.options import add_include_path, key_and_value, non_negative_int
from tuneboard.cli.streams import say
from tuneboard.errors import UnknownName

if TYPE_CHECKING:
    from tuneboard.cli.evaluating import Evaluation, Trained
    from tuneboard.report.made import MadeRow
    from tuneboard.tuning.tune import Made

NAME = "tune"
HELP = "make a candidate: fine-tune a base model by a recipe"
EXAMPLES = """\
tuneboard tune recipe.yaml                                       the candidate lands in adapters/trained/
tuneboard tune recipe.yaml --set training.learning_rate=1e-4 --set name=slower
tuneboard tune lora --set base=./my-model --set data=my.jsonl    a shipped recipe; see: tuneboard show recipes
tuneboard tune recipe.yaml --evaluate quick                      then compares it with its base
tuneboard tune recipe.yaml --json"""

SCHEMA = 1
_OUT = Path("adapters/trained")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument(
        "--set",
        type=key_and_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="wins over the recipe and its sweep, such as training.learning_rate=1e-4; data=FILE sets data.sources and "
        "leaves the rest of data; may be given many times",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        metavar="N",
        help="stands for --set training.seed=N --set data.split.seed=N (default: the recipe's seeds)",
    )
    parser.add_argument(
        "--evaluate",
        metavar="SUITE",
        help="suite or tasks to score base and candidates on; the training data are checked for their items",
    )
    parser.add_argument("--out", type=Path, default=_OUT, metavar="DIR", help=f"where candidates land (default {_OUT})")
    add_include_path(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the candidates; exit code 2 if one of a sweep failed, or an evaluation did."""
    from tuneboard.cli.evaluating import target_names
    from tuneboard.cli.process import prepare_libraries, terminable

    path, data_folder = _recipe(args.recipe)
    prepare_libraries(args.debug)
    from tuneboard.report.training import TrainingProgress
    from tuneboard.tuning.tune import TuneRequest, tune

    request = TuneRequest(
        path=path,
        db=args.db,
        settings=(*_seeds(args.seed), *args.set),
        data_folder=data_folder,
        out=args.out,
        mirror=args.mirror,
        benchmarks=target_names(args.evaluate or ""),
        include_paths=tuple(args.include_path),
        command=shlex.join(["tuneboard", *sys.argv[1:]]),
    )
    with terminable(), TrainingProgress(quiet=args.quiet) as progress:
        made = tune(request, progress)
    failed = any(one.status == "failed" for one in made)
    code = _report_json(args, path, made) if args.json else _report(args, made)
    return 2 if failed else code


def _seeds(seed: int | None) -> tuple[tuple[str, str], ...]:
    return () if seed is None else tuple((key, str(seed)) for key in ("training.seed", "data.split.seed"))


def _report(args: argparse.Namespace, made: Sequence[Made]) -> int:
    from tuneboard.cli.evaluating import evaluations
    from tuneboard.report.made import format_made

    print(format_made(_rows(made)))
    code = 0
    for evaluation in evaluations(_candidates(made), args.evaluate, args):
        print(flush=True)
        if args.evaluate:
            code = max(code, run_inner(args, "evaluate", evaluation.words), _compare(args, evaluation))
        else:
            print(evaluation.advice)
    return code


def _report_json(args: argparse.Namespace, path: Path, made: Sequence[Made]) -> int:
    from tuneboard.cli.evaluating import evaluations
    from tuneboard.report.made import made_json
    from tuneboard.report.numbers import json_text

    todo = evaluations(_candidates(made), args.evaluate, args)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": str(path),
        "db": str(args.db),
        "made": made_json(_rows(made)),
        "evaluate": [evaluation.pasted for evaluation in todo],
    }
    code = 0
    if args.evaluate:
        done: dict[str, list[Any]] = {"evaluations": [], "comparisons": []}
        for evaluation in todo:
            code = max(code, _kept(done["evaluations"], partial(run_inner, args, "evaluate", evaluation.words)))
            code = max(code, _kept(done["comparisons"], partial(_compare, args, evaluation)))
        content |= done
    print(json_text(content, indent=2))
    return code


def _kept(into: list[Any], command: Callable[[], int]) -> int:
    """Run a command and keep the JSON that it prints."""
    code, content = captured_json(command)
    if content is not None:
        into.append(content)
    return code


def _compare(args: argparse.Namespace, evaluation: Evaluation) -> int:
    """Say what changed against the base, where there is one."""
    from tuneboard.cli.evaluating import common_words

    if not evaluation.candidates:
        if not args.quiet:
            say("the base has no head for these labels: there is nothing to compare with")
        return 0
    if not args.json:
        print(flush=True)
    return run_inner(args, "compare", [evaluation.base, *evaluation.candidates, *common_words(args)])


def _recipe(text: str) -> tuple[Path, Path | None]:
    """Return a recipe's file, and where relative data paths start if that is not its folder."""
    path = Path(text).expanduser()
    if path.is_file() or path.suffix in (".yaml", ".yml") or "/" in text:
        return path, None
    from tuneboard import bundled

    shipped = {one.stem: one for one in bundled.recipes_dir().glob("*.yaml")}
    if text not in shipped:
        raise UnknownName("recipe", text, shipped, "give the path of a YAML file, or see: tuneboard show recipes")
    return shipped[text], Path.cwd()


def _rows(made: Sequence[Made]) -> list[MadeRow]:
    from tuneboard.report.made import MadeRow

    return [
        MadeRow(one.name, one.status, str(one.folder) if one.folder else None, one.reason, one.provenance)
        for one in made
    ]


def _candidates(made: Sequence[Made]) -> list[Trained]:
    from tuneboard.cli.evaluating import Trained

    return [
        Trained(one.name, one.folder, one.recipe.base, str(one.recipe.kind)) for one in made if one.folder is not None
    ]

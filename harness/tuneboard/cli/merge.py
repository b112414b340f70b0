"""``tuneboard merge``: writes base plus adapter as a model of its own, for engines that take no adapters."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.cli.finding import find_candidate
from tuneboard.cli.streams import say
from tuneboard.report.numbers import json_text

if TYPE_CHECKING:
    from tuneboard.cli.evaluating import Evaluation
    from tuneboard.tuning.merging import Merged

NAME = "merge"
HELP = "write a candidate's merged weights as a model of its own"
EXAMPLES = """\
tuneboard merge mine --out merged/mine                a candidate in adapters/trained/ or in the database
tuneboard merge runs/lora --out merged/lora --model ./base
tuneboard merge mine --out merged/mine-4bit --quantize 4bit"""

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("candidate", metavar="CANDIDATE", help="name of a candidate, or the folder of an adapter")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the merged model goes")
    parser.add_argument("--model", metavar="BASE", help="base model, where the adapter does not say or it has moved")
    parser.add_argument("--quantize", choices=["4bit", "8bit"], help="quantize the merged weights")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Merge, and say how near the result is to the adapter and how to evaluate it."""
    from tuneboard.cli.process import prepare_libraries, terminable

    found = find_candidate(args.candidate, args.db)
    prepare_libraries(args.debug)
    from tuneboard.tuning.merging import MergeRequest, merge

    command = shlex.join(["tuneboard", *sys.argv[1:]])
    request = MergeRequest(found.place, args.out, args.model or found.base, args.quantize, command)
    with terminable():
        merged = merge(request, lambda line: None if args.quiet else say(line))
    evaluation = _evaluation(args, found.place, merged)
    if args.json:
        print(json_text(_content(args, merged, evaluation.pasted), indent=2))
    else:
        print(f"the merged model lies in {merged.folder}\n\n{evaluation.advice}")
    return 0


def _evaluation(args: argparse.Namespace, adapter: Path, merged: Merged) -> Evaluation:
    """Return the command that scores the merged model, under a name that is not the adapter's."""
    from tuneboard.cli.evaluating import Trained, base_name, evaluations, free_name
    from tuneboard.tuning.folders import candidate_in

    taken = {base_name(merged.base, args.db), adapter.name, Path(args.candidate).name}
    name = free_name(args.out.name, candidate_in(args.out, "", merged.base), args.db, taken)
    args.include_path = []
    (evaluation,) = evaluations([Trained(name, args.out, merged.base, merged.kind)], None, args)
    return evaluation


def _content(args: argparse.Namespace, merged: Merged, command: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "folder": str(merged.folder),
        "base": merged.base.id,
        "kind": merged.kind,
        "difference": merged.difference,
        "quantization": args.quantize,
        "quantized_difference": merged.quantized_difference,
        "evaluate": command,
    }

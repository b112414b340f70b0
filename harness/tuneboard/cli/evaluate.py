"""``tuneboard evaluate``: candidates x suite, side by side, into the database."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.cli.asking import add_tasks, asked_suite
from tuneboard.cli.options import name_and_value, positive_int
from tuneboard.cli.process import prepare_libraries, terminable
from tuneboard.cli.served import ENGINE as SERVER
from tuneboard.cli.served import add_server_options, check_server_options, served_candidates, server_factory
from tuneboard.cli.vllm_options import add_vllm, vllm_settings
from tuneboard.engines.choosing import ENGINES, default_engine
from tuneboard.errors import UnknownName, UsageError
from tuneboard.generation_settings import SETTINGS

if TYPE_CHECKING:
    from tuneboard.engines.kinds import Kind
    from tuneboard.engines.vllm_settings import VllmSettings
    from tuneboard.evaluate import EvaluateRequest, Evaluation, Hooks
    from tuneboard.records import Candidate, Cost
    from tuneboard.report.progress import Progress

#: Requests that ``--check-engine`` asks where no number is given.
_CHECKED = 32

NAME = "evaluate"
HELP = "evaluate a base model and its candidates side by side"
EXAMPLES = """
tuneboard evaluate --model meta-llama/Llama-3.2-1B --adapter mine=runs/lora --suite quick
tuneboard evaluate --model ./base --adapter a=./lora-a --adapter b=./lora-b --suite core --mirror ./mirror
tuneboard evaluate --model ./base --candidate full=./finetuned --tasks hellaswag,gsm8k --limit 200
tuneboard evaluate --model ./chat --tasks gsm8k --apply-chat-template --gen-kwargs max_gen_toks=512
tuneboard evaluate --model ./base --adapter a=./lora-a --tasks gsm8k --repeat 3      then compare shows the noise
tuneboard evaluate --model ./base --tasks my_task --include-path ./my-tasks --json
tuneboard evaluate --model ./base --adapter a=./lora-a --task-file my.yaml       ten lines on a JSONL, CSV or Parquet
tuneboard evaluate --engine openai --url http://localhost:8000/v1 --model base --adapter a=a --tasks gsm8k
(in the table: ± half of the 95 % interval; in brackets, the difference to the base; ↓ lower is better; - no result;
 = reused, ! failed, x invalid; exit codes: 0 all sound, 2 a result failed or is invalid, or an error)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    what = parser.add_argument_group("candidates")
    what.add_argument("--model", required=True, metavar="M", help="base model: folder or hub id")
    what.add_argument("--revision", metavar="REV", help="commit, tag or branch of a hub model")
    what.add_argument("--base-name", default="base", metavar="NAME", help="name of the base (default base)")
    add_named(what, "--adapter", "PEFT adapter on the base; may be given many times")
    add_named(what, "--candidate", "full checkpoint beside the base; may be given many times")
    add_tasks(parser)
    prompts = parser.add_argument_group("prompts and generation")
    prompts.add_argument("--apply-chat-template", action="store_true", help="wrap prompts in the model's chat template")
    prompts.add_argument("--system-instruction", metavar="TEXT", help="put before every prompt")
    prompts.add_argument("--fewshot-as-one-turn", action="store_true", help="all examples in one chat turn")
    prompts.add_argument("--gen-kwargs", metavar="K=V,...", help="laid over the tasks' generation settings")
    _add_engine_options(parser)
    add_server_options(parser)
    trust = parser.add_argument_group("trust")
    trust.add_argument("--trust-remote-code", action="store_true", help="let code that comes with a model run")
    trust.add_argument("--allow-pickle", action="store_true", help="accept pickled weights, which can run code")
    trust.add_argument("--unsafe-code", action="store_true", help="run generated code without isolation")
    parser.add_argument(
        "--efficiency",
        action="store_true",
        help="also answer some requests of each candidate one at a time, and keep latency, memory and energy",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--engine",
        choices=ENGINES,
        help="default: vllm where it is installed and there is a GPU, else transformers; openai asks a server",
    )
    engine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto)")
    engine.add_argument(
        "--dtype", default="auto", help="auto, float32, bfloat16, float16, float64 (default auto: as stored)"
    )
    engine.add_argument(
        "--quantization",
        choices=["4bit", "8bit", "fp8"],
        help="load the weights quantized (8bit: transformers; fp8: vllm)",
    )
    engine.add_argument("--max-length", type=positive_int, metavar="N", help="context length in tokens")
    add_vllm(engine)
    engine.add_argument(
        "--check-engine",
        type=positive_int,
        nargs="?",
        const=_CHECKED,
        metavar="N",
        help=f"ask N requests ({_CHECKED}) of transformers too, and of the engine twice; keep how far they are apart",
    )


def add_named(group: Any, option: str, text: str) -> None:
    """Add an option that takes ``NAME=PATH`` and may be repeated."""
    group.add_argument(option, type=name_and_value, action="append", default=[], metavar="NAME=PATH", help=text)


def run(args: argparse.Namespace) -> int:
    """Evaluate and report; exit code 2 if any cell failed or is invalid."""
    with terminable():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    prepare_libraries(args.debug)
    args.engine = args.engine or default_engine()
    check_server_options(args)
    suite = asked_suite(args)
    candidates = _candidates(args)
    from tuneboard.evaluate import EvaluateRequest, PromptSettings, evaluate
    from tuneboard.report.progress import Progress
    from tuneboard.tuning.cards import score_cards

    request = EvaluateRequest(
        candidates=candidates,
        suite=suite,
        db=args.db,
        engine=args.engine,
        include_paths=tuple(args.include_path),
        task_files=tuple(args.task_file),
        mirror=args.mirror,
        limit=args.limit,
        num_fewshot=args.num_fewshot,
        seed=args.seed,
        gen_kwargs=_gen_kwargs(args.gen_kwargs or ""),
        max_length=args.max_length,
        prompts=PromptSettings(args.apply_chat_template, args.system_instruction, not args.fewshot_as_one_turn),
        unsafe_code=args.unsafe_code,
        command=shlex.join(["tuneboard", *sys.argv[1:]]),
    )
    if args.unsafe_code:
        from tuneboard.sandbox import allow_unsafe

        allow_unsafe(True)
    done = []
    for repeat in range(args.repeat):
        with Progress(quiet=args.quiet) as progress:
            hooks = _hooks(args, progress)
            check = args.check_engine if repeat == 0 else None
            try:
                done.append(evaluate(replace(request, repeat=repeat, check_engine=check), hooks))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(_kept(progress, args.db)) from None
            for name in score_cards(done[-1].results) if repeat == 0 else ():
                progress.note(f"the card of {name} cannot be written; its scores are in {args.db}")
    costs = _costs(request, args) if args.efficiency else {}
    _report(done, costs, args)
    return 0 if all(one.sound for one in done) else 2


def _costs(request: EvaluateRequest, args: argparse.Namespace) -> Mapping[str, Cost]:
    """Measure each candidate by itself."""
    from tuneboard.evaluate import measure_costs
    from tuneboard.report.progress import Progress

    with Progress(quiet=args.quiet) as progress:
        return measure_costs(request, _hooks(args, progress))


def _hooks(args: argparse.Namespace, progress: Progress) -> Hooks:
    from tuneboard.engines.kinds import OTHER_KINDS
    from tuneboard.evaluate import Hooks

    others = {kind: _engine_factory_of(kind, args) for kind in OTHER_KINDS}
    return Hooks(_engine_factory(args), progress, others, _reference(args))


def _kept(progress: Progress, db: Path) -> str:
    """Say what an interrupted evaluation leaves, and how it goes on."""
    if not progress.begun:
        return "nothing new was answered yet; the same command starts where this one did"
    return f"{progress.totals()} are kept in {db} and the journals beside it; the same command goes on from there"


def _report(done: Sequence[Evaluation], costs: Mapping[str, Cost], args: argparse.Namespace) -> None:
    from tuneboard.report.efficiency import efficiency_facts, efficiency_text
    from tuneboard.report.fidelity import check_text
    from tuneboard.report.numbers import json_text
    from tuneboard.report.results import evaluate_json, format_results

    if args.json:
        repeats = []
        for one in done:
            content = evaluate_json(one.run, str(args.db), one.seconds, one.engine, one.results)
            repeats.append(content | {"timing": dict(one.timing)})
        # The first is the result; with --repeat, the others stand beside it.
        more = {"repeats": repeats[1:]} if repeats[1:] else {}
        measured = {"efficiency": efficiency_facts(costs)} if costs else {}
        print(json_text(repeats[0] | more | measured, indent=2))
        return
    for one in done:
        print(format_results(one.results, args.base_name, one.headlines))
        if checked := check_text(one.engine):
            print(f"\n{checked}")
        print(f"\nrun {one.run}, {one.seconds:.1f} s; every sample is in {args.db}")
    if len(done) > 1:
        print(f"evaluated {len(done)} times; tuneboard compare shows how far a candidate disagrees with itself")
    if costs:
        print(f"\n{efficiency_text(costs)}")


def _engine_factory(args: argparse.Namespace) -> Any:
    if args.engine == SERVER:
        return server_factory(args)
    return _engine_factory_of("causal", args, vllm_settings(args) if args.engine == "vllm" else None)


def _reference(args: argparse.Namespace) -> Any:
    """Return what loads the engine that others are checked against; None where the weights are behind a server."""
    if args.engine == SERVER:
        return None
    return _engine_factory_of("causal", argparse.Namespace(**(vars(args) | {"engine": "transformers"})))


def _engine_factory_of(kind: Kind, args: argparse.Namespace, vllm: VllmSettings | None = None) -> Any:
    def load(ref: Any, notice: Any) -> Any:
        from tuneboard.engines.kinds import load_engine
        from tuneboard.engines.loading import LoadOptions

        options = LoadOptions(args.device, args.trust_remote_code, args.allow_pickle, args.max_length)
        return load_engine(kind, ref, options, notice, vllm)

    return load


def _candidates(args: argparse.Namespace) -> tuple[Candidate, ...]:
    from tuneboard.candidates import resolve_adapter, resolve_model, unique_names
    from tuneboard.records import Candidate, ModelRef

    def model(name: str, revision: str | None = None) -> ModelRef:
        ref = ModelRef(name, revision, args.dtype, args.quantization)
        return resolve_model(ref, args.allow_pickle)

    if args.revision is not None and Path(args.model).expanduser().is_dir():
        raise UsageError(f"--revision {args.revision} is for a model on the hub, and {args.model} is a folder")
    unique_names([args.base_name, *(name for name, _ in args.adapter + args.candidate)])
    if args.engine == SERVER:
        return served_candidates(args)
    base = model(args.model, args.revision)
    adapters = [Candidate(name, base, resolve_adapter(path, args.allow_pickle)) for name, path in args.adapter]
    checkpoints = [Candidate(name, model(path)) for name, path in args.candidate]
    return (Candidate(args.base_name, base), *adapters, *checkpoints)


def _gen_kwargs(text: str) -> dict[str, Any]:
    """Read ``max_gen_toks=64,temperature=0.7,until=["A:", "Q:"]`` or a JSON object."""
    given = _json_object(text) if text.lstrip().startswith("{") else _pairs(text)
    for name, value in given.items():
        if name not in SETTINGS:
            raise UnknownName("generation setting", name, SETTINGS, f"known: {', '.join(SETTINGS)}")
        expected, fits = SETTINGS[name]
        if not fits(value):
            raise UsageError(f"--gen-kwargs {name}={value!r} given, expected {expected}")
    return given


def _json_object(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise UsageError(f"--gen-kwargs is not JSON ({error}); expected {{...}} or key=value,key=value") from error


def _pairs(text: str) -> dict[str, Any]:
    """Read ``key=value,...``; a value is JSON where it can be, and then may hold commas."""
    out: dict[str, Any] = {}
    rest = text.strip(" ,")
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals or not key.strip() or "," in key:
            raise UsageError(f"--gen-kwargs '{text}' given, expected key=value,key=value such as max_gen_toks=256")
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            value, end = None, 0
        if end == 0 or rest[end:].strip()[:1] not in ("", ","):
            word = rest.partition(",")[0]
            value, end = {"True": True, "False": False, "None": None}.get(word.strip(), word.strip()), len(word)
        out[key.strip()] = value
        rest = rest[end:].strip(" ,")
    return out

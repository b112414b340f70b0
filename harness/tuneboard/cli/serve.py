"""``tuneboard serve``: vLLM's OpenAI-compatible server with a base and adapters as model names."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.cli.finding import find_candidate
from tuneboard.cli.options import positive_int
from tuneboard.cli.streams import say
from tuneboard.cli.vllm_options import add_vllm, vllm_settings
from tuneboard.errors import AdapterError, MissingExtra, ModelError, UsageError

if TYPE_CHECKING:
    from tuneboard.engines.vllm_adapters import Placement
    from tuneboard.records import ModelRef

NAME = "serve"
HELP = "serve candidates by vLLM's OpenAI-compatible server"
EXAMPLES = """\
tuneboard serve mine other            candidates of the database or in adapters/trained/, with the base of both
tuneboard serve runs/lora-a --base-name base --port 8080
tuneboard serve merged/mine --address 0.0.0.0
tuneboard serve mine --print          the command alone, to run elsewhere"""

#: What the engine is given and a server decides otherwise: requests bring seeds and lengths of their own, the model's
#: own sampling defaults hold for whoever talks to it, and tuneboard need not be installed where it runs.
_NOT_SERVED = (
    "model",
    "max_model_len",
    "seed",
    "generation_config",
    "load_format",
    "disable_log_stats",
    "worker_extension_cls",
)

#: Environment variables of the engine that a server needs as well.
_SET = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_V2_MODEL_RUNNER")


@dataclass(slots=True)
class Plan:
    """What one server serves."""

    base: ModelRef
    base_name: str
    adapters: dict[str, Path] = field(default_factory=dict)
    placements: list[Placement] = field(default_factory=list)
    """Of the adapters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument(
        "candidates", nargs="+", metavar="CANDIDATE", help="name of a candidate, or the folder of an adapter or a model"
    )
    parser.add_argument("--model", metavar="BASE", help="base model, where an adapter does not say or it has moved")
    parser.add_argument("--base-name", metavar="NAME", help="the base's name on the server (default: as evaluated)")
    parser.add_argument(
        "--address", default="127.0.0.1", metavar="HOST", help="address to listen at (default 127.0.0.1)"
    )
    parser.add_argument("--port", type=positive_int, default=8000, metavar="P", help="port to listen at (default 8000)")
    parser.add_argument("--print", action="store_true", help="print vLLM's command line and do not run it")
    engine = parser.add_argument_group("engine")
    engine.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default auto: as stored)")
    engine.add_argument("--max-length", type=positive_int, metavar="N", help="context length in tokens")
    add_vllm(engine)


def run(args: argparse.Namespace) -> int:
    """Become vLLM's server, or print its command line."""
    plan = make_plan(args)
    words, environment = command_of(plan, args)
    if args.print:
        print(" ".join([*(f"{name}={value}" for name, value in environment.items()), shlex.join(["vllm", *words])]))
        return 0
    if find_spec("vllm") is None:
        raise MissingExtra("vllm", "vllm")
    if not args.quiet:
        say(_advice(plan, args))
    # vLLM takes this process over, so that signals reach it and its end is this command's.
    program = [sys.executable, "-m", *_program(words)]
    os.execve(sys.executable, program, {**os.environ, **environment})


def _program(words: Sequence[str]) -> list[str]:
    """Return the module that serves, and its arguments; vLLM's command wants a package of its own name."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return ["vllm.entrypoints.openai.api_server", "--model", *words[1:]]
    return ["vllm.entrypoints.cli.main", *words]


def make_plan(args: argparse.Namespace) -> Plan:
    """Find the candidates and their one base.

    Raises:
        UnknownName: There is no such candidate.
        UsageError: They do not stand on one base, or two have one name.
        AdapterError: vLLM cannot serve an adapter.
        ModelError: The base cannot be found, or is no causal LM.
    """
    from tuneboard.candidates import resolve_model
    from tuneboard.records import ModelRef
    from tuneboard.tuning.folders import base_of, is_adapter

    bases: list[tuple[str, ModelRef]] = []
    adapters: dict[str, Path] = {}
    whole: dict[str, str] = {}
    for given in args.candidates:
        found, name = find_candidate(given, args.db), Path(given).name
        if name in adapters or name in whole.values():
            raise UsageError(f"two candidates would be served as '{name}'; rename one: tuneboard rename, or its folder")
        if is_adapter(found.place):
            adapters[name] = found.place
            bases.append((name, base_of(found.place, args.model or found.base)))
        else:
            ref = resolve_model(ModelRef(str(found.place)))
            whole[ref.sha256] = name
            bases.append((name, ref))
    first_name, base = bases[0]
    for name, other in bases[1:]:
        if other.sha256 != base.sha256:
            raise UsageError(
                f"one server serves one base: '{first_name}' stands on {base.id}, '{name}' on {other.id}; serve them "
                "one after the other, or at two ports"
            )
    plan = Plan(base, args.base_name or whole.get(base.sha256) or _base_name(base, args), adapters)
    if plan.base_name in adapters:
        raise UsageError(f"base and adapter would both be served as '{plan.base_name}'; add --base-name NAME")
    plan.placements = [_placement(name, folder, base) for name, folder in adapters.items()]
    _refuse_other_kinds(base)
    return plan


def command_of(plan: Plan, args: argparse.Namespace) -> tuple[list[str], Mapping[str, str]]:
    """Return the words after ``vllm`` that serve a plan, and what its environment needs."""
    from dataclasses import replace

    from tuneboard.engines.choosing import has_gpu
    from tuneboard.engines.vllm_settings import engine_arguments, environment, lora_needs

    on_cpu = not has_gpu()
    settings = vllm_settings(args)
    if on_cpu and plan.adapters:
        # A server cannot keep requests of the base in batches of their own, so that one slot has to stay free.
        settings = replace(settings, max_loras=max(settings.max_loras or 0, len(plan.adapters) + 1))
    layers = sorted({layer for one in plan.placements for layer in one.layers})
    needs = lora_needs([one.rank for one in plan.placements], layers, settings, on_cpu)
    ref = plan.base if args.dtype == "auto" else replace(plan.base, dtype=args.dtype)
    given = engine_arguments(ref, args.max_length or 0, settings, needs, on_cpu)
    words = ["serve", plan.base.id, "--served-model-name", plan.base_name]
    words += ["--host", args.address, "--port", str(args.port)]
    words += ["--max-model-len", str(args.max_length)] if args.max_length else []
    words += ["--data-parallel-size", str(settings.data_parallel)] if settings.data_parallel > 1 else []
    for name, value in given.items():
        if name not in _NOT_SERVED and value is not None and value is not False:
            words += _option(name, value)
    if plan.adapters:
        words += ["--lora-modules", *(f"{name}={folder.resolve()}" for name, folder in plan.adapters.items())]
    chosen = environment(args.max_length or 0, sys.maxsize, settings, on_cpu)
    return words, {name: chosen[name] for name in _SET if name in chosen and name not in os.environ}


def _option(name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if value is True:
        return [option]
    return [option, *(map(str, value) if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)])]


def _base_name(base: ModelRef, args: argparse.Namespace) -> str:
    from tuneboard.cli.evaluating import base_name

    return base_name(base, args.db)


def _placement(name: str, folder: Path, base: ModelRef) -> Placement:
    """Return what vLLM has to know of an adapter that it serves; raises with the way out for others."""
    from tuneboard.candidates import resolve_adapter
    from tuneboard.engines.vllm_adapters import place_files

    found = place_files(resolve_adapter(str(folder)))
    if found.route == "merged":
        merge = shlex.join(["tuneboard", "merge", str(folder), "--out", f"merged/{name}", "--model", base.id])
        raise AdapterError(f"vLLM does not serve '{name}': {found.reason}; merge it and serve merged/{name}: {merge}")
    if found.route != "served":
        raise AdapterError(f"vLLM does not serve '{name}': {found.reason}; it runs in the transformers engine only")
    return found


def _refuse_other_kinds(base: ModelRef) -> None:
    from tuneboard.engines.kinds import candidate_kind
    from tuneboard.records import Candidate

    kind = candidate_kind(Candidate("", base))
    if kind != "causal":
        raise ModelError(f"{base.id} is a model of kind '{kind}'; tuneboard serves causal LMs")


def _advice(plan: Plan, args: argparse.Namespace) -> str:
    url = f"http://{args.address}:{args.port}/v1"
    words = ["tuneboard", "evaluate", "--engine", "openai", "--url", url, "--model", plan.base_name]
    words += ["--tokenizer", plan.base.id]
    words += [part for name in plan.adapters for part in ("--adapter", f"{name}={name}")]
    names = ", ".join([plan.base_name, *plan.adapters])
    return f"starting vLLM with {names} at {url}; to evaluate over it: {shlex.join(words)} --tasks ..."

"""Models behind a server, for ``tuneboard evaluate --engine openai``: options, candidates and the engine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tuneboard.cli.options import positive_float, positive_int
from tuneboard.cli.streams import say
from tuneboard.errors import UsageError

if TYPE_CHECKING:
    from tuneboard.engines.json_server import HttpOptions
    from tuneboard.engines.protocol import Notice
    from tuneboard.records import Candidate, ModelRef

ENGINE = "openai"
#: Options that are for weights, with the value that means that they were not given.
_OF_WEIGHTS = {"device": "auto", "dtype": "auto", "quantization": None, "revision": None}
#: Options that are for servers, likewise.
_OF_SERVERS = {"url": None, "tokenizer": None, "concurrency": None, "request_timeout": None}


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a server and say how to ask it."""
    server = parser.add_argument_group(
        "a server (--engine openai)",
        "--model M, --adapter NAME=M and --candidate NAME=M then name models on it; its key stands in the environment: "
        "TUNEBOARD_API_KEY or OPENAI_API_KEY",
    )
    server.add_argument("--url", metavar="URL", help="an OpenAI-compatible server, such as http://localhost:8000/v1")
    server.add_argument(
        "--tokenizer", metavar="T", help="the model's tokenizer, folder or hub id: prompts are cut as elsewhere"
    )
    server.add_argument("--concurrency", type=positive_int, metavar="N", help="requests at a time (default 16)")
    server.add_argument(
        "--request-timeout", type=positive_float, metavar="S", help="seconds to wait for an answer (default 300)"
    )


def check_server_options(args: argparse.Namespace) -> None:
    """Refuse options that the chosen engine does not know.

    Raises:
        UsageError: With the option.
    """
    served = args.engine == ENGINE
    for name, ungiven in (_OF_WEIGHTS if served else _OF_SERVERS).items():
        if getattr(args, name) != ungiven:
            option = "--" + name.replace("_", "-")
            hint = "the server has loaded its models already" if served else f"it goes with --engine {ENGINE}"
            raise UsageError(f"{option} is not for --engine {args.engine}: {hint}; leave it out")
    if served and args.url is None:
        raise UsageError(f"--engine {ENGINE} needs the server: add --url URL such as http://localhost:8000/v1")


def served_candidates(args: argparse.Namespace) -> tuple[Candidate, ...]:
    """Return the base and its candidates, which are names of models on the server.

    Raises:
        UsageError: The URL is none, or carries what could be a secret.
        UnknownName: The server has no model of that name.
        EngineError: The server cannot be asked.
    """
    from tuneboard.engines.openai import look_up
    from tuneboard.engines.served import served_adapter, served_model, server_url
    from tuneboard.records import Candidate

    def note(line: str) -> None:
        if not args.quiet:
            say(line)

    url = server_url(args.url)
    names = [args.model, *(name for _, name in args.adapter + args.candidate)]
    reports = dict(zip(names, look_up(url, names, _http(args), note), strict=True))
    base = served_model(url, args.model, reports[args.model])
    own = [Candidate(mine, base, served_adapter(url, name, reports[name])) for mine, name in args.adapter]
    own += [Candidate(mine, served_model(url, name, reports[name])) for mine, name in args.candidate]
    note("weights behind a server have no hash: URL, name and what the server reports stand for them in the database")
    return (Candidate(args.base_name, base), *own)


def server_factory(args: argparse.Namespace) -> Any:
    """Return what makes the engine that asks the server."""

    def load(ref: ModelRef, notice: Notice) -> Any:
        from tuneboard.engines.openai import OpenAIEngine, ServerOptions

        options = ServerOptions(_http(args), args.tokenizer, args.max_length, args.trust_remote_code)
        return OpenAIEngine(ref, options, notice)

    return load


def _http(args: argparse.Namespace) -> HttpOptions:
    from tuneboard.engines.json_server import HttpOptions

    given = {"concurrency": args.concurrency, "timeout_s": args.request_timeout}
    return HttpOptions(**{name: value for name, value in given.items() if value is not None})

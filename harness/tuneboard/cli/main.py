"""The ``tuneboard`` command: runs the module of a command; an error becomes one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol, cast

from tuneboard.cli.options import Parser, add_common
from tuneboard.cli.streams import prepare_streams, release_streams, say
from tuneboard.errors import EXIT_USAGE, TuneboardError, UnknownName, UsageError

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

#: Command to its module and its line in ``tuneboard --help``; they stand here so that ``--help`` imports no command.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "demo": ("tuneboard.cli.demo", "everything at once, on a machine that has nothing"),
        "evaluate": ("tuneboard.cli.evaluate", "evaluate a base model and its candidates side by side"),
        "tune": ("tuneboard.cli.tune", "make a candidate: fine-tune a base model by a recipe"),
        "merge": ("tuneboard.cli.merge", "write a candidate's merged weights as a model of its own"),
        "serve": ("tuneboard.cli.serve", "serve candidates by vLLM's OpenAI-compatible server"),
        "compare": ("tuneboard.cli.compare", "what changed from a base to its candidates, sample by sample"),
        "gate": ("tuneboard.cli.gate", "judge a candidate by a policy, for people and CI"),
        "baseline": ("tuneboard.cli.baseline", "committed reference results that gates compare with"),
        "import": (
            "tuneboard.cli.import_",
            "take in results that lm-evaluation-harness wrote, to compare and gate them",
        ),
        "show": ("tuneboard.cli.show", "look at runs, models, trainings, tasks, recipes and results"),
        "export": ("tuneboard.cli.export", "write results or samples as CSV, Parquet or JSON"),
        "rename": ("tuneboard.cli.rename", "give a candidate in the database another name"),
        "leaderboard": (
            "tuneboard.cli.leaderboard",
            "the site: which candidate is best, against its base, and what changed",
        ),
        "publish": (
            "tuneboard.cli.publish",
            "write a snapshot of the database for a public site, and show it there",
        ),
        "doctor": ("tuneboard.cli.doctor", "what this machine can run, and what is missing"),
    }
)

_EXAMPLES = """\
examples:
  tuneboard demo
  tuneboard evaluate --model meta-llama/Llama-3.2-1B --adapter mine=runs/lora --suite quick
  tuneboard tune recipe.yaml --evaluate quick
  tuneboard show runs
  tuneboard doctor

'tuneboard COMMAND --help' explains a command with examples of its own.
Exit codes: 0 done, 2 an error that the message explains, 130 interrupted; of gate also 1 regression, 3 inconclusive."""


class Command(Protocol):
    """What the module of a command offers."""

    NAME: str
    HELP: str
    """One line, the same as in ``COMMANDS``."""
    EXAMPLES: str
    """Commands that can be pasted, one a line, shown under the options."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit code: the command's own, 2 for an error that the user can act on, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        # A command that keeps its work says so in the exception.
        say(f"tuneboard: interrupted; {interrupt}" if str(interrupt) else "tuneboard: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`).
        return EXIT_BROKEN_PIPE
    except (TuneboardError, OSError) as error:
        if "--debug" in arguments:
            with suppress(OSError, ValueError):
                traceback.print_exc()
        say(f"tuneboard: error: {_one_line(error)}")
        return EXIT_USAGE
    finally:
        release_streams()


def command_module(name: str) -> Command:
    """Import the module of a command; raises ``UnknownName`` with near matches."""
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS, "see: tuneboard --help")
    return cast(Command, importlib.import_module(COMMANDS[name][0]))


def command_parser(name: str) -> Parser:
    """Return the parser of a command, with the common options."""
    command = command_module(name)
    parser = Parser(
        prog=f"tuneboard {name}",
        description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
        epilog=f"examples:\n{_indented(command.EXAMPLES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    add_common(parser)
    return parser


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else None
    if first is None:
        say(_help_text())
        return EXIT_USAGE
    if first in ("-h", "--help") or arguments == ["help"]:
        print(_help_text())
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"tuneboard {version('tuneboard')}")
        return 0
    if first.startswith("-"):
        raise UsageError(f"'{first}' stands before the command; write options after it: tuneboard COMMAND {first} ...")
    rest = arguments[1:]
    if first == "help":
        first, rest = rest[0], ["--help"]
    try:
        args = _parse(command_parser(first), rest)
    except SystemExit:
        # argparse has printed the help that was asked for; its errors come as UsageError.
        return 0
    return command_module(first).run(args)


def _parse(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    # Before argparse, which would first complain that something else is missing.
    known = set(_options(parser))
    before_end = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for name in (text.partition("=")[0] for text in before_end if text.startswith("--")):
        if name not in known:
            raise UnknownName("option", name, known, f"see: {parser.prog} --help")
    return parser.parse_args(arguments)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of its own sub-commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _options(inner)


def _help_text() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return (
        "usage: tuneboard COMMAND [options]\n\n"
        "What did this fine-tune change? Evaluates a base model and its candidates side by side in one engine,\n"
        "and keeps every sample in a DuckDB file.\n\n"
        "commands:\n" + "\n".join(lines) + f"\n\n{_EXAMPLES}"
    )


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line.strip() else "" for line in text.strip("\n").splitlines())


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__

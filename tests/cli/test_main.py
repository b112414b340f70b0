import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli import main as cli
from tuneboard.cli import options
from tuneboard.errors import DataError


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuneboard", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **settings)  # type: ignore[call-overload]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A command of the test's own, called ``try``."""
    module = SimpleNamespace(
        NAME="try",
        HELP="try something",
        EXAMPLES="tuneboard try --limit 3",
        add_arguments=lambda parser: parser.add_argument("--limit", type=options.positive_int),
        run=lambda args: 0,
    )
    monkeypatch.setattr(cli, "COMMANDS", {"try": ("a.module", "try something")})
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)
    return module


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_module_says_what_the_table_says(name: str) -> None:
    module = cli.command_module(name)
    assert (name, cli.COMMANDS[name][1]) == (module.NAME, module.HELP)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_examples_of_a_command_are_valid_command_lines(name: str) -> None:
    import shlex

    examples = [line for line in cli.command_module(name).EXAMPLES.splitlines() if line.startswith("tuneboard ")]
    assert examples
    for example in examples:
        # What follows two spaces explains the example; `| less`, `> file` and the like belong to the shell.
        text = example.partition("   ")[0].partition(" | ")[0].partition(" > ")[0]
        _, command, *arguments = shlex.split(text, comments=True)
        if command == name and "DIR" not in text:
            try:
                cli.command_parser(name).parse_args([one for one in arguments if one != "..."])
            except Exception as error:
                # Folders in examples need not be there.
                assert "no folder" in str(error), f"{example}: {error}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    text = cli.command_parser(name).format_help()
    for option in ("--db", "--mirror", "--seed", "--quiet", "--debug"):
        assert option in text


def test_help_lists_every_command_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)


def test_help_of_a_command_teaches_by_example(command: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["try", "--help"]) == 0
    by_option = capsys.readouterr().out
    assert cli.main(["help", "try"]) == 0
    assert capsys.readouterr().out == by_option
    assert by_option.endswith("examples:\n  tuneboard try --limit 3\n")
    assert "Try something." in by_option


def test_no_command_shows_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: tuneboard COMMAND")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tri"], "unknown command 'tri'; did you mean try?"),
        (["try", "--limitt", "3"], "unknown option '--limitt'; did you mean --limit?"),
        (["try", "--lim", "3"], "unknown option '--lim'; did you mean --limit?"),
        (["try", "--limit", "-1"], "'-1' given, expected a whole number of at least 1"),
        (["try", "--limit", "0"], "'0' given, expected a whole number of at least 1"),
        (["try", "--limit", "many"], "'many' given, expected a whole number of at least 1"),
        (["try", "--seed=-1"], "'-1' given, expected a whole number of at least 0"),
        (["try", "--mirror", "not/there"], "there is no folder 'not/there'"),
        (["try", "surplus"], "unrecognized arguments: surplus"),
        (["--db", "x", "try"], "write options after it"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    command: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tuneboard: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def raising(error: BaseException) -> object:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("no\n  such split"), "tuneboard: error: no such split\n"),
        (OSError(28, "No space left on device", "a.duckdb"), "tuneboard: error: No space left on device: a.duckdb\n"),
        (PermissionError(13, "Permission denied"), "tuneboard: error: Permission denied\n"),
    ],
)
def test_an_error_that_the_user_can_act_on_is_one_line(
    command: SimpleNamespace, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    command.run = raising(error)
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback_too(command: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    command.run = raising(DataError("no such split"))
    assert cli.main(["try", "--debug"]) == 2
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("tuneboard: error: no such split\n")


def test_a_defect_of_ours_is_not_dressed_up(command: SimpleNamespace) -> None:
    command.run = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


def test_an_interrupt_is_one_line_and_130(command: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    command.run = raising(KeyboardInterrupt())
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "tuneboard: interrupted\n"


def test_the_exit_code_is_that_of_the_command(command: SimpleNamespace) -> None:
    command.run = lambda args: 3
    assert cli.main(["try"]) == 3


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        command = [sys.executable, "-m", "tuneboard", "--help"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_mirror_may_come_from_the_environment(
    command: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[argparse.Namespace] = []
    command.run = lambda args: seen.append(args) or 0
    monkeypatch.setenv("TUNEBOARD_MIRROR", str(tmp_path))
    assert cli.main(["try"]) == 0
    monkeypatch.delenv("TUNEBOARD_MIRROR")
    assert cli.main(["try"]) == 0
    assert [one.mirror for one in seen] == [tmp_path, None]
    assert (seen[0].db, seen[0].seed) == (Path("results/tuneboard.duckdb"), 1234)


def test_python_m_tuneboard_is_the_command() -> None:
    assert run("--version").stdout == run("--version", cwd="/").stdout != ""
    assert run("no-such-command").returncode == 2


@pytest.mark.alone
def test_help_answers_in_under_300_ms() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert run("--help").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[2] < 0.3


def test_one_signal_is_enough_to_stop(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time, types\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background gets it ignored\n"
        "from tuneboard.cli import main as cli\n"
        "module = types.SimpleNamespace(NAME='try', HELP='try', EXAMPLES='', add_arguments=lambda parser: None)\n"
        "def run(args):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "module.run = run\n"
        "cli.COMMANDS = {'try': ('a.module', 'try')}\n"
        "cli.importlib.import_module = lambda name: module\n"
        "sys.exit(cli.main(['try']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "tuneboard: interrupted\n")


@pytest.mark.parametrize(
    ("read", "good", "value"),
    [
        (options.positive_float, "0.5", 0.5),
        (options.non_negative_int, "0", 0),
        (options.name_and_value, "mine=runs/a=b", ("mine", "runs/a=b")),
    ],
)
def test_value_types_read_what_they_should(read: object, good: str, value: object) -> None:
    assert read(good) == value  # type: ignore[operator]


@pytest.mark.parametrize(
    ("read", "bad"),
    [
        (options.positive_float, "0"),
        (options.positive_float, "nan"),
        (options.positive_float, "inf"),
        (options.positive_float, "x"),
        (options.non_negative_int, "1.5"),
        (options.name_and_value, "mine"),
        (options.name_and_value, "=path"),
        (options.name_and_value, "mine="),
        (options.key_and_value, "data.limit"),
    ],
)
def test_value_types_refuse_what_they_should(read: object, bad: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{bad}' given, expected"):
        read(bad)  # type: ignore[operator]


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("--nonsense", 2)])
def test_a_process_that_ends_at_once_runs_its_exit_handlers_and_keeps_its_code(argument: str, code: int) -> None:
    program = (
        f"import atexit, sys; from tuneboard.__main__ import run; sys.argv = ['tuneboard', {argument!r}]\n"
        "class Torn:\n    def __del__(self): print('torn', end='', flush=True)\ntorn = Torn()\n"
        "atexit.register(print, 'handled', end='')\nrun()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout[-7:]) == (code, "handled")
    assert "torn" not in done.stdout, "nothing is taken apart"

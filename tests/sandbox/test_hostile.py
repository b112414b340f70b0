"""Programs that attack the machine, the harness or their own score; every one must be contained and told apart."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tuneboard.sandbox import Limits, Outcome, run_program, run_programs

LIMITS = Limits(cpu_s=1, wall_s=3, memory_mib=512, file_mib=4, processes=8, output_kib=16)
ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-harness"


@dataclass(frozen=True)
class Attack:
    source: str
    status: str
    """Regular expression, and so is"""
    reason: str


ATTACKS = {
    # Exhausting the machine
    "fork bomb": Attack(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", "timed_out", ""
    ),
    "fork bomb that gives up": Attack(
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(60)", "failed", "BlockingIOError"
    ),
    "thread bomb": Attack(
        """
        import threading, time
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        """,
        "failed",
        "can't start new thread",
    ),
    "memory bomb": Attack("hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 24))", "crashed", "512 MiB"),
    "memory bomb in one piece": Attack("x = bytearray(1 << 40)", "crashed", "512 MiB of memory"),
    "memory bomb that catches": Attack(
        """
        hoard = []
        while True:
            try:
                hoard.append(bytearray(1 << 20))
            except MemoryError:
                pass
        """,
        "timed_out",
        "CPU|still running",
    ),
    "endless output": Attack("while True:\n    print('x' * 4096)", "timed_out", ""),
    "endless errors": Attack("import os\nwhile True:\n    os.write(2, b'x' * 4096)", "timed_out", ""),
    "huge file": Attack(
        "with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(1 << 20))",
        "failed",
        "File too large|No space left",
    ),
    "many files": Attack(
        "for i in range(1000):\n    with open(f'{i}', 'wb') as file:\n        file.write(bytes(1 << 19))",
        "failed",
        "No space left",
    ),
    "sparse file": Attack(
        "import os\nos.truncate(os.open('big', os.O_CREAT | os.O_RDWR), 1 << 40)", "failed", "File too large"
    ),
    "open files": Attack(
        "files = []\nwhile True:\n    files.append(open('/dev/null'))", "failed", "Too many open files"
    ),
    "infinite recursion": Attack("def f():\n    return f()\nf()", "failed", "RecursionError"),
    "recursion without a limit": Attack(
        "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    return f()\nf()",
        "crashed|timed_out",
        "",
    ),
    "raising its own limits": Attack(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "failed", "ValueError|PermissionError"
    ),
    "sleeping": Attack("import time\ntime.sleep(1000)", "timed_out", "still running after 3 s"),
    "stopping itself": Attack("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "timed_out", "still running"),
    "busy loop": Attack("while True:\n    pass", "timed_out", "CPU|still running"),
    "ignoring every signal": Attack(
        """
        import signal
        for number in signal.valid_signals():
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            pass
        """,
        "timed_out",
        "CPU|still running",
    ),
    "reading standard input": Attack("input()", "failed", "EOFError"),
    # Reaching the harness and other processes
    "killing the parent": Attack("import os\nos.kill(<pid>, 9)", "failed", "ProcessLookupError"),
    "killing everything": Attack("import os\nos.kill(-1, 9)", "failed", "ProcessLookupError"),
    "killing its group": Attack("import os\nos.killpg(0, 9)", "crashed", "SIGKILL"),
    "signals to process 1": Attack(
        """
        import os, signal
        for number in signal.valid_signals():
            os.kill(1, number)
        raise RuntimeError("still under control")
        """,
        "failed",
        "still under control",
    ),
    "daemon": Attack(
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        os.wait()
        raise RuntimeError("daemon started")
        """,
        "failed",
        "daemon started",
    ),
    "attaching to process 1": Attack(
        """
        import ctypes
        if ctypes.CDLL(None).ptrace(16, 1, 0, 0) != 0:
            raise PermissionError("refused")
        """,
        "failed",
        "refused",
    ),
    # Reading and writing what is the caller's
    "reading a file": Attack("open('<secret>').read()", "failed", "FileNotFoundError"),
    "reading through a link": Attack(
        "import os\nos.symlink('<secret>', 'link')\nopen('link').read()", "failed", "FileNotFoundError"
    ),
    "reading through the tree": Attack("open('/tmp/../..' + '<secret>').read()", "failed", "FileNotFoundError"),
    "reading the package": Attack("import os\nos.listdir('<package>')", "failed", "FileNotFoundError"),
    "reading passwords": Attack("open('/etc/shadow').read()", "failed", "FileNotFoundError"),
    "reading secrets of the environment": Attack(
        "import os\nassert '<value>' in str(dict(os.environ)), 'nothing found'", "failed", "nothing found"
    ),
    "reading the parent's environment": Attack("open('/proc/<pid>/environ').read()", "failed", "FileNotFoundError"),
    "reading inherited files": Attack(
        """
        import os
        for number in range(64):
            try:
                os.set_blocking(number, False)
                os.lseek(number, 0, os.SEEK_SET)
                assert '<value>'.encode() not in os.read(number, 1 << 20), 'found'
            except OSError:
                pass
        raise RuntimeError("nothing found")
        """,
        "failed",
        "nothing found",
    ),
    "writing beside a file": Attack("open('<secret>' + '.new', 'w')", "failed", "FileNotFoundError"),
    "writing into the library": Attack(
        "import os\nopen(os.path.join(os.path.dirname(os.__file__), 'evil.py'), 'w')", "failed", "Read-only|Permission"
    ),
    "writing at the root": Attack("open('/evil', 'w')", "failed", "Read-only|Permission"),
    "making a device": Attack("import os\nos.mknod('disk', 0o60666, os.makedev(8, 0))", "failed", "PermissionError"),
    "changing the root": Attack("import os\nos.chroot('.')", "failed", "PermissionError"),
    "new namespaces": Attack(
        """
        import ctypes
        if ctypes.CDLL(None).unshare(0x10000000) != 0:
            raise PermissionError("refused")
        """,
        "failed",
        "refused",
    ),
    "becoming root": Attack("import os\nos.setuid(12345)", "failed", "PermissionError|Invalid argument"),
    "opening a socket": Attack("import socket\nsocket.socket()", "failed", "PermissionError"),
    "connecting": Attack(
        "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", "failed", "PermissionError|gaierror"
    ),
    "starting a shell": Attack("import subprocess\nsubprocess.check_call('id', shell=True)", "failed", "Error"),
    # Stealing a pass
    "os._exit(0)": Attack("import os\nos._exit(0)", "crashed", "exit code 0 before its end"),
    "sys.exit(0)": Attack("import sys\nsys.exit(0)", "failed", "SystemExit"),
    "raising SystemExit": Attack("raise SystemExit", "failed", "SystemExit"),
    "leaving by a thread": Attack(
        "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(9)",
        "crashed",
        "code 0",
    ),
    "replacing AssertionError": Attack(
        """
        import builtins
        builtins.AssertionError = type("Fine", (Exception,), {})
        assert 1 == 2
        """,
        "failed",
        "line 3: assert",
    ),
    "switching assert off": Attack("__debug__ = False\nassert 1 == 2", "failed", "SyntaxError"),
    "replacing every exception": Attack(
        """
        import builtins
        for name in [name for name, value in vars(builtins).items() if value in BaseException.__subclasses__()]:
            setattr(builtins, name, None)
        builtins.BaseException = builtins.AssertionError = builtins.MemoryError = None
        assert 1 == 2
        """,
        "failed",
        "AssertionError",
    ),
    "replacing the ways out": Attack(
        """
        import json, os, sys
        os.write = os.read = os._exit = sys.exit = json.dumps = lambda *args: 0
        sys.excepthook = print
        assert 1 == 2
        """,
        "failed",
        "AssertionError",
    ),
    "printing a verdict": Attack(
        "print('passed')\nprint('{\"verdict\": \"passed\"}')\nassert False", "failed", "AssertionError"
    ),
    "writing a verdict everywhere": Attack(
        """
        import os
        for number in range(3, 64):
            try:
                os.write(number, b'{"verdict": "passed", "reason": "", "code": 0}\\npassed 0123456789abcdef')
            except OSError:
                pass
        os._exit(0)
        """,
        "failed",
        "",
    ),
    "replacing check": Attack(
        "def check(candidate):\n    pass\ndef check(candidate):\n    assert candidate() == 1\ncheck(lambda: 2)",
        "failed",
        "line 4: assert",
    ),
    "an exception that hides": Attack(
        """
        import os
        class Hidden(BaseException):
            def __str__(self):
                os._exit(0)
        raise Hidden
        """,
        "crashed",
        "exit code 0",
    ),
    "crashing the interpreter": Attack("import ctypes\nctypes.string_at(0)", "crashed", "SIGSEGV"),
    "aborting": Attack("import os\nos.abort()", "crashed", "SIGABRT"),
}


# What the script inside holds, and what the kernel could take for an end
FORGERIES = {
    "handing back what can be read": Attack(
        """
        import os
        for source in range(3, 64):
            try:
                os.set_blocking(source, False)
                token = os.read(source, 64)
            except OSError:
                continue
            for target in range(3, 64):
                try:
                    os.write(target, b"passed " + token)
                except OSError:
                    pass
        os._exit(0)
        """,
        "crashed",
        "exit code 0 before its end",
    ),
    "announcing an end and leaving": Attack(
        """
        import os
        for number in range(3, 64):
            try:
                os.write(number, b"\\n")
            except OSError:
                pass
        os._exit(0)
        """,
        "crashed",
        "exit code 0 before its end",
    ),
    "announcing an end and being killed": Attack(
        """
        import os
        for number in range(3, 64):
            try:
                os.write(number, b"\\n")
            except OSError:
                pass
        os.kill(os.getpid(), 9)
        """,
        "crashed",
        "SIGKILL",
    ),
    "closing every descriptor": Attack("import os\nos.closerange(0, 64)\nassert 1 == 2", "crashed", "exit code 0"),
    "doing by hand what the frames below do": Attack(
        """
        import os, sys
        frame = sys._getframe()
        while frame := frame.f_back:
            found = {**frame.f_globals, **frame.f_locals}
            try:
                found["write"](found["verdict"], b"passed " + found["read"](found["token"], 64))
            except (KeyError, OSError):
                pass
            try:
                found["announce"](found["write"], found["verdict"])
            except (KeyError, OSError):
                pass
        os._exit(0)
        """,
        "crashed",
        "exit code 0 before its end",
    ),
    "changing the variables of the frames below": Attack(
        """
        import __main__, sys
        for name in list(vars(__main__)):
            if not name.startswith("__"):
                setattr(__main__, name, None)
        frame = sys._getframe()
        while frame := frame.f_back:
            for name in list(frame.f_locals):
                frame.f_locals[name] = None
        assert 1 == 2
        """,
        "failed|timed_out|crashed",
        "",
    ),
    "calling what the garbage collector knows": Attack(
        """
        import gc, os, types
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType) and each.__name__ == "announce":
                for number in range(3, 64):
                    each(os.write, number)
        os._exit(0)
        """,
        "crashed",
        "exit code 0 before its end",
    ),
    "reading what the kernel tells of a process": Attack(
        "import os\nos.listdir('/proc/self/fd')\nopen('/proc/self/mem', 'r+b')\nos._exit(0)",
        "failed|crashed",
        "FileNotFoundError|exit code 0",
    ),
    "a handler at exit": Attack(
        "import atexit, os, sys\natexit.register(os._exit, 0)\nsys.unraisablehook = print\nassert 0 == 1",
        "failed",
        "AssertionError",
    ),
    "ending its thread": Attack("import _thread\n_thread.exit()", "failed", "SystemExit"),
    "ending in another process": Attack("import os\nif os.fork():\n    os._exit(0)", "crashed", "exit code 0"),
    "another program in its place": Attack(
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1)'])",
        "failed",
        "PermissionError",
    ),
}
ATTACKS |= FORGERIES


@dataclass(frozen=True)
class Aftermath:
    outcomes: dict[str, Outcome]
    left: list[psutil.Process]
    folder: Path


@pytest.fixture(scope="module", params=["caller", "ordinary user"])
def aftermath(request, method, mark, living, tmp_path_factory) -> Aftermath:
    """What became of all attacks, run side by side by one user and method."""
    folder = tmp_path_factory.mktemp("caller")
    secret = folder / "secret.txt"
    secret.write_text(SECRET)
    values = {"<pid>": str(os.getpid()), "<secret>": str(secret), "<package>": str(ROOT / "harness"), "<value>": SECRET}
    sources = [_fill(textwrap.dedent(attack.source).strip(), values) for attack in ATTACKS.values()]
    patch = pytest.MonkeyPatch()
    patch.setenv("TUNEBOARD_TEST_SECRET", SECRET)
    if request.param == "caller":
        outcomes = run_programs(sources, LIMITS, workers=6, method=method)
    else:
        outcomes = run_as_nobody(request.getfixturevalue("as_nobody"), sources, method, mark)
    patch.undo()
    time.sleep(0.2)
    return Aftermath(dict(zip(ATTACKS, outcomes, strict=True)), living(mark), folder)


def _fill(source: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        source = source.replace(name, value)
    return source


def run_as_nobody(command: tuple[str, ...], sources: list[str], method: str, mark: str) -> list[Outcome]:
    """Run programs with a harness that is an ordinary user's."""
    job = {"sources": sources, "method": method, "limits": dataclasses.asdict(LIMITS), "mark": mark}
    script = """
        import dataclasses, json, sys
        from tuneboard.sandbox import Limits, process, run_programs
        job = json.load(sys.stdin)
        text = process._script() + "\\n" + job["mark"] + "\\n"
        process._script = lambda: text
        outcomes = run_programs(job["sources"], Limits(**job["limits"]), workers=6, method=job["method"])
        json.dump([dataclasses.asdict(each) for each in outcomes], sys.stdout)
    """
    done = subprocess.run(
        (*command, textwrap.dedent(script)),
        input=json.dumps(job),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "harness"), "TUNEBOARD_TEST_SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(**each) for each in json.loads(done.stdout)]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained_and_told_apart(aftermath: Aftermath, name: str) -> None:
    outcome, attack = aftermath.outcomes[name], ATTACKS[name]

    assert re.fullmatch(attack.status, outcome.status), outcome
    assert re.search(attack.reason, outcome.reason), outcome
    assert len(outcome.output) <= LIMITS.output_kib << 10
    assert outcome.seconds < LIMITS.wall_s + 3


def test_the_machine_is_unharmed_afterwards(aftermath: Aftermath) -> None:
    assert aftermath.left == []
    assert [path.name for path in aftermath.folder.iterdir()] == ["secret.txt"]
    assert not Path("/evil").exists()
    assert not Path(os.__file__).with_name("evil.py").exists()


@pytest.mark.parametrize("name", FORGERIES)
def test_a_pass_cannot_be_forged_without_isolation_either(name: str) -> None:
    attack = FORGERIES[name]
    outcome = run_program(textwrap.dedent(attack.source).strip(), LIMITS, method="none")

    assert re.fullmatch(attack.status, outcome.status), outcome
    assert re.search(attack.reason, outcome.reason), outcome

"""Which isolation works on this machine, and the command line that enters it."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard.sandbox.syscalls import numbers

Method = Literal["bubblewrap", "unshare", "none"]

#: What installs or allows isolation; part of every refusal.
REMEDY = (
    "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap) and allow user "
    "namespaces (sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0; in a "
    "container: --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
)
#: Libraries and time zones that a Python program may need; what is missing is left out.
_SYSTEM = (
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/nix/store",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ENVIRONMENT = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    # A program that depends on the order of a set must score the same tomorrow.
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The thread that runs the program would else put 64 MiB of address space aside for itself.
    "MALLOC_ARENA_MAX": "1",
}
_runs = itertools.count()


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps generated code apart on this machine."""

    method: Literal["bubblewrap", "unshare"] | None
    """None where nothing works."""
    reason: str
    """What was found; where nothing works, why, and what to install."""

    @property
    def available(self) -> bool:
        """Whether generated code can be isolated."""
        return self.method is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """How one run enters its sandbox."""

    command: tuple[str, ...]
    """Command line up to the interpreter's ``-c``."""
    environment: dict[str, str]
    job: dict[str, Any]
    """What the script inside has still to do: build the root, become another user."""


def entry(method: Method, file_mib: int) -> Entry:
    """Return how to enter ``method``, with ``file_mib`` MiB of working space."""
    # Neither site nor user packages nor the working directory; -I would drop PYTHONHASHSEED too.
    python = (_interpreter(), "-s", "-S", "-P", "-B", "-c")
    environment = dict(_ENVIRONMENT)
    site = _site_packages()
    if method == "none":
        return Entry(python, environment, {"isolated": False, "layout": None, "uid": None, "site": site})
    privileged, uid = _privileges()
    # Whatever fills the memory of the machine, these processes are the first that the kernel ends.
    first = ("choom", "-n", "1000", "--") if shutil.which("choom") else ()
    job: dict[str, Any] = {"isolated": True, "layout": None, "uid": uid, "site": site}
    if method == "bubblewrap":
        return Entry((*first, *_bubblewrap(privileged, file_mib), *python), environment, job)
    known = numbers()
    job["layout"] = {
        "binds": [(path, path, path in _DEVICES) for path in (*_visible(), *_DEVICES)],
        "links": [*_links(), ("/dev/shm", "/tmp")],
        "bytes": file_mib << 20,
        # 0x7FFFFFFF is no system call: refused where the machine is not known.
        "pivot_root": known.pivot_root if known else 0x7FFFFFFF,
    }
    user = () if privileged else ("--user", "--map-root-user")
    spaces = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=KILL")
    return Entry((*first, "unshare", *user, *spaces, *python), environment, job)


def _bubblewrap(privileged: bool, file_mib: int) -> list[str]:
    command = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # Root keeps just enough to become another user; the script inside gives that up too.
    command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if privileged else ["--unshare-user"]
    command += ["--die-with-parent", "--as-pid-1", "--hostname", "sandbox"]
    # First of all, so that an interpreter or packages below /tmp are mounted over it.
    command += ["--perms", "1777", "--size", str(file_mib << 20), "--tmpfs", "/tmp"]
    # Left to bubblewrap, folders on the way to a mount may be closed to everybody but root.
    for folder in sorted({str(parent) for path in (*_visible(), *_DEVICES) for parent in Path(path).parents[:-1]}):
        command += ["--perms", "0755", "--dir", folder]
    for path in _visible():
        command += ["--ro-bind", path, path]
    for path in _DEVICES:
        command += ["--dev-bind", path, path]
    for link, target in (*_links(), ("/dev/shm", "/tmp")):
        command += ["--symlink", target, link]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp", "--"]


def _privileges() -> tuple[bool, int | None]:
    """Return whether we act as root, and the unused user that a program then becomes.

    The kernel exempts root from the limit on processes, also inside a user namespace, so a fork bomb must not be
    root's. Each run gets a number of its own from the upper half of those that exist here, else parallel runs would
    share one limit.
    """
    if os.geteuid() != 0:
        return False, None
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    first, _, count = max(ranges, key=lambda each: each[2])
    if count < 1000:
        return False, None
    return True, first + count - 2 - (os.getpid() * 64 + next(_runs)) % (count // 2)


def _interpreter() -> str:
    """Return the real interpreter, also where we run in a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _site_packages() -> list[str]:
    """Return where installed packages lie: HumanEval+ tests need NumPy."""
    return [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]


@functools.cache
def _visible() -> tuple[str, ...]:
    """Return the files and folders that a program sees, read-only, parents first."""
    paths = sysconfig.get_paths()
    own = (f"{sys.base_prefix}/lib", paths["stdlib"], paths["platstdlib"], _interpreter(), *_site_packages())
    return tuple(_outermost(path for path in (*_SYSTEM, *own) if os.path.exists(path) and not os.path.islink(path)))


def _outermost(paths: Iterable[str]) -> list[str]:
    """Drop what lies below another path of the list."""
    kept: list[str] = []
    for path in sorted({os.path.abspath(path) for path in paths}, key=len):
        if not any(path.startswith(parent + "/") for parent in kept):
            kept.append(path)
    return kept


def _links() -> list[tuple[str, str]]:
    """Return the symbolic links at the root that programs need: ``/lib`` is one to ``/usr/lib`` on most systems."""
    return [(path, os.readlink(path)) for path in ("/lib", "/lib32", "/lib64") if os.path.islink(path)]

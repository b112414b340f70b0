"""The script at the bottom of the sandbox: it shuts the last doors, runs one program and reports how it ended.

It is handed to a bare interpreter as text (``python -c``), so it imports the standard library only and nothing of
tuneboard. The job arrives as JSON on standard input; the report leaves on a pipe that the program never holds: this
process is process 1 of its namespace, and the program runs in a forked child that closes the pipe first.

The child must say that it came to its end by reading a random token from a pipe and handing it back. The token is
written after the fork, so no variable, frame or object of the child holds it while the program runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import platform
import resource
import select
import signal
import struct
import sys
import types
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
REASON_LENGTH = 200

# linux/mount.h, linux/prctl.h, linux/seccomp.h, linux/audit.h
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MNT_DETACH = 2, 4, 0x1000, 0x4000, 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE, SYS_MOUNT_SETATTR = -100, 0x8000, 442
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 24, 38, 22, 2
CAPABILITY_VERSION_3 = 0x20080522
CLONE_NEW_ANY = 0x7E020000
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, EACCES, ENOSYS = 1, 13, 38

#: System calls that the filter treats specially, by machine (asm/unistd.h).
NUMBERS: dict[str, dict[str, Any]] = {
    "x86_64": {
        "audit": 0xC000003E,
        "pivot_root": 155,
        "socket": 41,
        "clone": 56,
        # ptrace, mount, umount2, add_key, request_key, keyctl, unshare, perf_event_open, setns, process_vm_readv,
        # process_vm_writev, bpf, userfaultfd
        "denied": (101, 165, 166, 248, 249, 250, 272, 298, 308, 310, 311, 321, 323),
    },
    "aarch64": {
        "audit": 0xC00000B7,
        "pivot_root": 41,
        "socket": 198,
        "clone": 220,
        "denied": (117, 40, 39, 217, 218, 219, 97, 241, 268, 270, 271, 280, 282),
    },
}
#: Same number everywhere: io_uring_setup, open_tree, move_mount, fsopen, pidfd_getfd, mount_setattr.
DENIED_ANYWHERE = (425, 428, 429, 430, 438, 442)
CLONE3 = 435


def check(result: int, what: str) -> None:
    """Raise ``OSError`` for a C call that returned -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount as ``mount(2)`` does."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    check(LIBC.mount(*arguments), f"mount {source} on {target}")


def seal(path: str, attributes: int, recursive: bool = True) -> None:
    """Set mount attributes (read-only and so on), with all mounts below; needs Linux 5.12."""
    record = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    result = LIBC.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, record, len(record))
    check(result, f"make {path} read-only")


def build_root(layout: dict[str, Any]) -> None:
    """Leave the machine's file system for an empty one that holds only what ``layout`` names."""
    mount("tmpfs", "/tmp", "tmpfs", 0, "size=1m,nr_inodes=4k,mode=755")
    os.mkdir("/tmp/old")
    os.chdir("/tmp")
    # The old root moves below the new one, so that sources under the old /tmp can still be named.
    check(LIBC.syscall(NUMBERS[platform.machine()]["pivot_root"], b".", b"old"), "pivot_root")
    os.chdir("/")
    os.mkdir("/tmp")
    options = f"size={layout['bytes']},nr_inodes=4k,mode=1777"
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)
    for source, target, device in layout["binds"]:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir("/old" + source):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount("/old" + source, target, "", MS_BIND | MS_REC)
        if not device:
            seal(target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    for link, target in layout["links"]:
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(target, link)
    check(LIBC.umount2(b"/old", MNT_DETACH), "umount /old")
    os.rmdir("/old")
    seal("/", MOUNT_ATTR_RDONLY, recursive=False)
    os.chdir("/tmp")
    LIBC.sethostname(b"sandbox", 7)


def drop_privileges(uid: int | None) -> None:
    """Become user ``uid`` (None: stay) and lose every capability, for good."""
    number = 0
    while LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    check(LIBC.capset(struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24)), "drop capabilities")
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def filter_program(numbers: dict[str, Any]) -> bytes:
    """Assemble the system-call filter (classic BPF): no sockets, no new namespaces, no reaching into processes."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    steps = [
        step(load, 4),  # architecture
        step(equal, numbers["audit"], 1, 0),
        step(answer, KILL),
        step(load, 0),  # number of the call
        step(at_least, 0x40000000, 0, 1),  # the x32 calls of x86_64
        step(answer, REFUSE | ENOSYS),
    ]
    for number in (*numbers["denied"], *DENIED_ANYWHERE):
        steps += [step(equal, number, 0, 1), step(answer, REFUSE | EPERM)]
    steps += [
        step(equal, numbers["socket"], 0, 1),
        step(answer, REFUSE | EACCES),
        # Its flags lie in memory where a filter cannot look; the C library then falls back to clone.
        step(equal, CLONE3, 0, 1),
        step(answer, REFUSE | ENOSYS),
        step(equal, numbers["clone"], 0, 3),
        step(load, 16),  # flags
        step(any_bit, CLONE_NEW_ANY, 0, 1),
        step(answer, REFUSE | EPERM),
        step(answer, ALLOW),
    ]
    return b"".join(steps)


def filter_calls() -> None:
    """Install the filter; on other machines than x86_64 and aarch64 the namespaces alone must do."""
    numbers = NUMBERS.get(platform.machine())
    if numbers is None:
        return
    text = ctypes.create_string_buffer(filter_program(numbers))
    record = struct.pack("HP", (len(text) - 1) // 8, ctypes.addressof(text))
    check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, record, 0, 0), "seccomp")


def limit(limits: dict[str, Any], isolated: bool) -> None:
    """Set the resource limits of this process and all that it starts."""
    cpu_s = math.ceil(limits["cpu_s"])
    bounds = {
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),
        resource.RLIMIT_AS: (limits["memory_mib"] << 20,) * 2,
        resource.RLIMIT_FSIZE: (limits["file_mib"] << 20,) * 2,
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    if isolated:
        # One more for process 1. Outside a namespace the kernel would count all processes of the user.
        bounds[resource.RLIMIT_NPROC] = (limits["processes"] + 1,) * 2
    for kind, bound in bounds.items():
        resource.setrlimit(kind, bound)


def describe(error: BaseException, source: str) -> str:
    """Say what was raised and at which line of the program, shortly."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = source.splitlines()[trace.tb_lineno - 1 : trace.tb_lineno]
            place = f" (line {trace.tb_lineno}: {line[0].strip() if line else ''})"
        trace = trace.tb_next
    place = place if len(place) < REASON_LENGTH // 2 else place[: REASON_LENGTH // 2 - 4] + "...)"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.partition("\n")[0][: REASON_LENGTH - len(place)] + place


def run(source: str, token: int, verdict: int) -> None:
    """Run the program in this process and send the verdict; never returns."""
    # Bound before the program can replace them.
    write, read, leave, shorten = os.write, os.read, os._exit, describe
    out_of_memory, anything = MemoryError, BaseException
    try:
        module = types.ModuleType("program")
        sys.modules["program"] = module
        exec(compile(source, "<program>", "exec", dont_inherit=True, optimize=0), module.__dict__)
        message = b"passed " + read(token, 64)
    except out_of_memory:
        message = b"memory "
    except anything as error:
        try:
            message = b"failed " + shorten(error, source).encode("utf-8", "replace")
        except anything:
            message = b"failed with an exception that cannot be described"
    try:
        write(verdict, message)
        sys.stdout.flush()
    except anything:
        # A process that the program forked may come here too, after the verdict was taken.
        pass
    leave(0)


def start(job: dict[str, Any], token: tuple[int, int], verdict: tuple[int, int]) -> int:
    """Fork the child that runs the program; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        for end in (token[1], verdict[0]):
            os.close(end)
        if job["isolated"]:
            # Else it could signal the process group, whose other members stand outside the namespace.
            os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.path.extend(job["site"])
        sys.argv = ["program"]
        limit(job["limits"], job["isolated"])
        filter_calls()
        os.write(job["report"], b'{"ready": true}\n')
        os.close(job["report"])
        run(job["source"], token[0], verdict[1])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def follow(child: int, report: int, seconds: float) -> dict[str, Any]:
    """Wait for the child, at most ``seconds`` and only as long as somebody reads the report."""
    watch = select.poll()
    watch.register(os.pidfd_open(child), select.POLLIN)
    watch.register(report, 0)
    watch.poll(seconds * 1000)
    os.kill(child, signal.SIGKILL)  # Does nothing to one that has ended: it is not reaped yet.
    _, status, usage = os.wait4(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "cpu": usage.ru_utime + usage.ru_stime}


def main() -> None:
    """Run the job on standard input."""
    with open(0, "rb", closefd=False) as stream:
        job = json.load(stream)
    report = job["report"]
    # A process 1 ignores signals of its own namespace that it has no handler for; Python has one for SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if job["layout"]:
        build_root(job["layout"])
    if job["isolated"]:
        drop_privileges(job["uid"])
    else:
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    token, verdict = os.pipe(), os.pipe()
    child = start(job, token, verdict)
    os.close(verdict[1])
    secret = os.urandom(16).hex().encode()
    os.write(token[1], secret)
    # The harness stops the clock from outside; this is for the case that the harness itself has died.
    result = follow(child, report, job["limits"]["wall_s"] + 5)
    os.set_blocking(verdict[0], False)
    message = b""
    with contextlib.suppress(BlockingIOError):
        message = os.read(verdict[0], 4096)
    if message.startswith(b"passed") and message != b"passed " + secret:
        message = b"failed the program forged its verdict"
    kind, _, reason = message.partition(b" ")
    result.update(verdict=kind.decode("utf-8", "replace"), reason=reason.decode("utf-8", "replace"))
    os.write(report, json.dumps(result).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()

"""The script at the bottom of the sandbox: it shuts the last doors, runs one program and reports how it ended.

It is handed to a bare interpreter as text (``python -c``), so it imports the standard library only and nothing of
tuneboard. The job arrives as JSON on standard input; the report leaves on a pipe that the program never holds: this
process is process 1 of its namespace, and the program runs in a forked child that closes the pipe first.

No word of the child makes its program pass, so that there is none to steal. The program runs in a thread that returns
if it came to its end; however else it ends, the whole child ends with it. What counts is what the kernel says of the
child from outside: that the thread is gone and the process still lives.
"""

from __future__ import annotations

import _thread
import ctypes
import json
import math
import os
import resource
import select
import signal
import struct
import sys
import time
import types
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
REASON_LENGTH = 200
#: Stack of the thread that runs the program: what a main thread has by default, on every machine.
STACK_BYTES = 8 << 20

# linux/mount.h, linux/prctl.h, linux/seccomp.h
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MNT_DETACH = 2, 4, 0x1000, 0x4000, 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE, SYS_MOUNT_SETATTR = -100, 0x8000, 442
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 24, 38, 22, 2
CAPABILITY_VERSION_3 = 0x20080522


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
    check(LIBC.syscall(layout["pivot_root"], b".", b"old"), "pivot_root")
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


def filter_calls(program: bytes) -> None:
    """Install a filter of system calls for this process and all that it starts; an empty one is none."""
    if not program:
        return
    text = ctypes.create_string_buffer(program)
    record = struct.pack("HP", len(program) // 8, ctypes.addressof(text))
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
        # Two more: process 1 and the thread that waits. Outside a namespace the kernel would count all of the user.
        bounds[resource.RLIMIT_NPROC] = (limits["processes"] + 2,) * 2
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


def run(source: str, verdict: int) -> object:
    """Run the program; returns only if it came to its end, and else takes the process along."""
    # Bound before the program can replace them. Where it can still replace a local variable, nothing returns either.
    write, leave, shorten, raised, out_of_memory = os.write, os._exit, describe, sys.exception, MemoryError
    execute: Any = exec
    finish: Any = announce
    message = b"failed with an exception that cannot be described"
    try:
        write(verdict, struct.pack("I", _thread.get_native_id()))
        module = types.ModuleType("program")
        sys.modules["program"] = module
        code = compile(source, "<program>", "exec", dont_inherit=True, optimize=0)
        return execute(code, module.__dict__), finish(write, verdict)
    except:  # noqa: E722 - whatever it is
        try:
            error: Any = raised()
            is_memory = isinstance(error, out_of_memory)
            message = b"memory" if is_memory else b"failed " + shorten(error, source).encode("utf-8", "replace")
        except:  # noqa: E722
            pass
        error = None
    while True:
        try:
            try:
                write(verdict, message)
            finally:
                leave(0)
        except:  # noqa: E722
            pass


def announce(write: Any, verdict: int) -> None:
    """Say that the program came to its end, which makes process 1 look whether it did."""
    try:
        try:
            write(verdict, b"\n")
        finally:
            sys.stdout.flush()
    except:  # noqa: E722 - it may have closed both; a closed pipe says the same
        pass


def start(job: dict[str, Any], verdict: tuple[int, int]) -> int:
    """Fork the child that runs the program; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.close(verdict[0])
        if job["isolated"]:
            # Else it could signal the process group, whose other members stand outside the namespace.
            os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.path.extend(job["site"])
        sys.argv = ["program"]
        limit(job["limits"], job["isolated"])
        filter_calls(bytes.fromhex(job["filter"]))
        os.write(job["report"], b'{"ready": true}\n')
        os.close(job["report"])
        _thread.stack_size(STACK_BYTES)
        _thread.start_new_thread(run, (job["source"], verdict[1]))
        # Nothing that the program does wakes this thread; it keeps the process alive when the other one has ended.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            signal.pause()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def is_gone(thread: int) -> bool:
    """Return whether there is no such thread."""
    try:
        os.getpriority(os.PRIO_PROCESS, thread)
    except ProcessLookupError:
        return True
    return False


def lives(process: int) -> bool:
    """Return whether a process lives, by stopping it: one that is dying cannot be stopped."""
    os.kill(process, signal.SIGSTOP)
    found = os.waitid(os.P_PID, process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return found is not None and found.si_code == os.CLD_STOPPED


def follow(child: int, verdict: int, report: int, seconds: float) -> dict[str, Any]:
    """Wait for the program's end, at most ``seconds`` and only as long as somebody reads the report."""
    deadline = time.monotonic() + seconds
    end = os.pidfd_open(child)
    watch = select.poll()
    for file, event in ((end, select.POLLIN), (verdict, select.POLLIN), (report, 0)):
        watch.register(file, event)
    name = os.read(verdict, 4)
    thread = struct.unpack("I", name)[0] if name else child
    message, told, passed = b"", False, False
    while (left := deadline - time.monotonic()) > 0:
        # The end of a thread wakes nobody. It comes soon after it was announced.
        ready = dict(watch.poll(1 if told else left * 1000))
        if verdict in ready:
            chunk = os.read(verdict, 4096)
            message, told = (message + chunk)[:4096], True
            if not chunk:
                watch.unregister(verdict)
        if passed := told and is_gone(thread) and lives(child):
            break
        if end in ready or report in ready:
            break
    os.kill(child, signal.SIGKILL)  # Does nothing to one that has ended: it is not reaped yet.
    _, status, usage = os.wait4(child, 0)
    kind, _, reason = message.strip(b"\n").decode("utf-8", "replace").partition(" ")
    if passed:
        kind, reason = "passed", ""
    elif kind not in ("", "failed", "memory"):
        kind, reason = "failed", "the program forged its verdict"
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"code": os.waitstatus_to_exitcode(status), "cpu": cpu_s, "verdict": kind, "reason": reason}


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
    verdict = os.pipe()
    child = start(job, verdict)
    os.close(verdict[1])
    # The harness stops the clock from outside; this is for the case that the harness itself has died.
    result = follow(child, verdict[0], report, job["limits"]["wall_s"] + 5)
    os.write(report, json.dumps(result).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()

"""The system calls that programs in the sandbox are refused, as a filter that the kernel runs before each of them."""

from __future__ import annotations

import functools
import platform
import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbers:
    """What system calls are called on one kind of machine (asm/unistd.h)."""

    audit: int
    """The machine itself (linux/audit.h)."""
    pivot_root: int
    socket: int
    clone: int
    denied: tuple[int, ...]


# Denied: ptrace, mount, umount2, add_key, request_key, keyctl, unshare, perf_event_open, setns, process_vm_readv,
# process_vm_writev, bpf, userfaultfd, execve, execveat.
_NUMBERS = {
    "x86_64": Numbers(
        0xC000003E, 155, 41, 56, (101, 165, 166, 248, 249, 250, 272, 298, 308, 310, 311, 321, 323, 59, 322)
    ),
    "aarch64": Numbers(
        0xC00000B7, 41, 198, 220, (117, 40, 39, 217, 218, 219, 97, 241, 268, 270, 271, 280, 282, 221, 281)
    ),
}
#: Same number everywhere: io_uring_setup, open_tree, move_mount, fsopen, pidfd_getfd, mount_setattr.
_DENIED_ANYWHERE = (425, 428, 429, 430, 438, 442)
_CLONE3 = 435
# linux/sched.h: every flag that makes a namespace.
_CLONE_NEW_ANY = 0x7E020000
# linux/seccomp.h, asm-generic/errno-base.h, asm-generic/errno.h
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38


def numbers() -> Numbers | None:
    """Return the numbers of this machine; None on others than x86_64 and aarch64."""
    return _NUMBERS.get(platform.machine())


@functools.cache
def call_filter() -> bytes:
    """Assemble the filter (classic BPF): no sockets, no new namespaces, no other program, no reaching into processes.

    Returns:
        Steps of eight bytes each; none on a machine whose numbers are not known, where the namespaces alone must do.
    """
    known = numbers()
    return b"" if known is None else b"".join(_steps(known))


def _steps(known: Numbers) -> list[bytes]:
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    steps = [
        _step(load, 4),  # architecture
        _step(equal, known.audit, 1, 0),
        _step(answer, _KILL),
        _step(load, 0),  # number of the call
        _step(at_least, 0x40000000, 0, 1),  # the x32 calls of x86_64
        _step(answer, _REFUSE | _ENOSYS),
    ]
    for number in (*known.denied, *_DENIED_ANYWHERE):
        steps += [_step(equal, number, 0, 1), _step(answer, _REFUSE | _EPERM)]
    return [
        *steps,
        _step(equal, known.socket, 0, 1),
        _step(answer, _REFUSE | _EACCES),
        # Its flags lie in memory where a filter cannot look; the C library then falls back to clone.
        _step(equal, _CLONE3, 0, 1),
        _step(answer, _REFUSE | _ENOSYS),
        _step(equal, known.clone, 0, 3),
        _step(load, 16),  # flags
        _step(any_bit, _CLONE_NEW_ANY, 0, 1),
        _step(answer, _REFUSE | _EPERM),
        _step(answer, _ALLOW),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)

"""Runs a check as a user whom folder permissions hold, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable

#: Linux capabilities by which root reads and writes what it may not (capabilities(7)).
_OVERRULE = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION = 0x20080522


def obeying_permissions(check: Callable[[], None]) -> None:
    """Run ``check``; root does so in a fork that can no longer overrule permissions.

    Raises:
        AssertionError: It failed there; its traceback stands on stderr.
    """
    if os.geteuid() != 0:
        check()
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _give_up_overruling()
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "failed without the rights of root"


def _give_up_overruling() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, then high words
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for capability in _OVERRULE:
        sets[0] &= ~(1 << capability)
        sets[1] &= ~(1 << capability)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")

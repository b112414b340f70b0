"""A process in which float32 rounds alike on every x86 machine, for both sides.

The order in which a product's terms are added follows from the width of the processor's vectors and from the number of
threads. On either side it moves the sum of a hundred log-probabilities by up to 1.2e-4 in float32. What is equal here
on one machine is equal on the next.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from types import ModuleType
from typing import ParamSpec, TypeVar
from unittest.mock import patch

import torch

P, T = ParamSpec("P"), TypeVar("T")

#: One thread and vectors of 256 bits, for torch's own kernels, MKL's and oneDNN's.
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def pinned(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in that process; it, its arguments and what it returns are pickled."""
    return _process().submit(function, *args, **kwargs).result()


@cache
def _process() -> ProcessPoolExecutor:
    """Libraries read these settings once, when they first compute: so a process that starts with them.

    A new process runs the file of ``__main__`` again, and Streamlit's tests leave their page there: so an empty one.
    """
    pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
    has_avx2 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        with patch.dict(os.environ, _SETTINGS if has_avx2 else {"OMP_NUM_THREADS": "1"}):
            pool.submit(os.getpid).result()
    finally:
        sys.modules["__main__"] = main
    atexit.register(pool.shutdown, wait=False, cancel_futures=True)
    return pool

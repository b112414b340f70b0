"""What commands do to their process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_LOADED = """
import os
from threading import active_count
from tuneboard.cli.process import load_numpy
load_numpy()
import numpy
print(len(os.listdir("/proc/self/task")) - active_count(), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc, which is Linux's")
@pytest.mark.parametrize(("own", "threads"), [(None, 0), ("2", 1)])
def test_numpy_gets_no_threads_of_its_own_unless_the_user_says_so(own: str | None, threads: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    if own:
        environment["OPENBLAS_NUM_THREADS"] = own
    done = subprocess.run([sys.executable, "-c", _LOADED], env=environment, capture_output=True, text=True, timeout=60)

    assert done.stdout.split() == [str(threads if (os.cpu_count() or 1) > 1 else 0), str(own)], done.stderr

"""What commands do to their process: signals, libraries that talk too much, and threads that cost too much."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end the work as Ctrl-C does: what was computed is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare_libraries(debug: bool) -> None:
    """Keep libraries from writing over the progress display."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if debug:
        return
    import logging
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in ("lm_eval", "transformers", "datasets", "bitsandbytes", "peft", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def load_numpy() -> None:
    """Import numpy with one thread for its matrix products, whatever other libraries take.

    Those of a comparison are small: waiting in a circle for them, a second thread costs a third of a second.
    """
    own = "OPENBLAS_NUM_THREADS" not in os.environ
    if own:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        importlib.import_module("numpy")
    finally:
        if own:
            del os.environ["OPENBLAS_NUM_THREADS"]

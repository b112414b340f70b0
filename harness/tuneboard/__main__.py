"""``python -m tuneboard``, and what the ``tuneboard`` script starts."""

from __future__ import annotations

import atexit
import os
from typing import NoReturn

from tuneboard.cli.main import main
from tuneboard.cli.streams import release_streams


def run() -> NoReturn:
    """Run the process's command line, then end the process at once.

    What was registered with ``atexit`` does run: it removes temporary folders and ends child processes. Left out are
    waiting for threads, none of which outlives a command here, and Python's taking apart of every module and object,
    which takes over a second once torch and transformers are loaded and saves nothing.
    """
    code = main()
    atexit._run_exitfuncs()
    release_streams()
    os._exit(code)


if __name__ == "__main__":
    run()

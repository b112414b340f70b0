"""``python -m tuneboard``."""

from __future__ import annotations

import sys

from tuneboard.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

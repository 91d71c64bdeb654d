"""One way to print tables: as wide as the terminal, and wide enough to be read where there is none."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 160


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)

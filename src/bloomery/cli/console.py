"""One way to print tables: as wide as the terminal, and wide enough to be read where there is none."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPED_WIDTH = 160


class Screen(Console):
    """A run goes on when nobody reads what it prints any more: `bloomery run PLAN | head` stops no training."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Console:
    return Screen(width=None if sys.stdout.isatty() else PIPED_WIDTH)

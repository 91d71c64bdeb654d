"""A table in words with what is to be said below it: the page, its Markdown twin and the terminal show the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """A cell may have several lines. `tones`: one a row: pass, fail, inconclusive, missing, notable or empty.

    `remarks`: sentences."""

    title: str
    """Whose table it is: a stage, a loop."""
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tones: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

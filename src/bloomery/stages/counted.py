"""Which models have been counted twice on this machine, so that a process that starts need not count them again.

The second count (model.tally) watches a forward pass on the meta device, for which torch loads sympy and its compiler:
more than a second, and some 90 MB, in every process that prices a plan. What it finds is decided by the program, torch,
the settings and the vocabulary. An empty file named by the sha256 of these and of the first count says that both
agreed; it lies where model.native keeps its libraries. Never remembered: a model of a system that did not come with the
program, whose source is not known here. Where the folder cannot be used, the model is counted again.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from pathlib import Path

import torch

import bloomery
from bloomery.engine.discover import catalogue
from bloomery.measure import Tally
from bloomery.model.native import NotAvailable, kept_in
from bloomery.plan.canon import digest


def place(settings: str, system: str, vocab: int, tally: Tally) -> Path | None:
    """The file that says so of a model with these settings (as JSON) whose closed form is `tally`; None: there is no
    place for it."""
    if not catalogue.system(system).build.startswith(f"{bloomery.__name__}."):
        return None
    facts = [_program(), torch.__version__, settings, vocab, tally.to_json()]
    with contextlib.suppress(NotAvailable):
        return kept_in("counted") / digest(facts)
    return None


def remember(file: Path | None) -> None:
    """Say that both counts agreed."""
    if file is not None:
        with contextlib.suppress(OSError):
            file.touch()


@cache
def _program() -> str:
    """sha256 of all that came with it."""
    root = Path(bloomery.__file__).parent
    outer = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        outer.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return outer.hexdigest()

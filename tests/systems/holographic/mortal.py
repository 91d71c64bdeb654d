"""`bloomery` as a process that SIGKILL ends at one exact moment of a memory's day, whatever the machine's speed.

    python mortal.py LEDGER run PLAN ...                    lives, and writes [[deed, token, calls], ...] into LEDGER
    python mortal.py DEED TOKEN CALL run PLAN ...           dies in the CALL-th call of that deed

Deeds are `read` and `sleep` of a memory, of the piece that begins at TOKEN, and `save`, the first from TOKEN on. Calls
are those that sys.setprofile sees. Saves come every few pieces, by a clock that ticks once whenever it is asked. Every
table is a mapped file.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bloomery.cli import main
from bloomery.systems.holographic import mapped, waking
from bloomery.systems.holographic.attractor import Attractor
from bloomery.systems.holographic.theory_memory import TheoryMemory

Ledger = list[tuple[str, int, int]]


class Reaper:
    """Counts calls inside deeds; kills where it was told to."""

    def __init__(self, moment: tuple[str, int, int] | None) -> None:
        self.moment, self.ledger, self.at = moment, Ledger(), 0

    def watch(self, deed: str, token: int, act: Callable[[], Any]) -> Any:
        calls = 0
        last = None
        if self.moment is not None:
            wanted, begins, call = self.moment
            if deed == wanted and (token >= begins if deed == "save" else token == begins):
                last = call

        def count(frame: Any, event: str, _: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            return act()
        finally:
            sys.setprofile(None)
            self.ledger.append((deed, token, calls))

    def stand_beside(self, owner: Any, deed: str) -> None:
        real = getattr(owner, deed)
        setattr(owner, deed, lambda *given: self.watch(deed, self.at, lambda: real(*given)))

    def stand_by(self) -> None:
        mapped.MAPPED_FROM = 1
        for memory in (Attractor, TheoryMemory):
            self.stand_beside(memory, "read")
            self.stand_beside(memory, "sleep")
        piece, save = waking._Day.piece, waking._Day.save

        def pieced(day: Any, memory: Any, start: int) -> int:
            self.at = start
            return piece(day, memory, start)

        waking._Day.piece = pieced
        waking._Day.save = lambda day, memory, token: self.watch("save", token, lambda: save(day, memory, token))
        waking.time = SimpleNamespace(monotonic=itertools.count().__next__)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    first = sys.argv.index("run")
    told, sys.argv = sys.argv[1:first], ["bloomery", *sys.argv[first:]]
    reaper = Reaper(None if len(told) == 1 else (told[0], int(told[1]), int(told[2])))
    reaper.stand_by()
    try:
        main()
    finally:
        if reaper.moment is None:
            Path(told[0]).write_text(json.dumps(reaper.ledger))

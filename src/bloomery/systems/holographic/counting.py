"""Tables of several ladders under one byte budget: what a waking memory writes to.

Positions are counted in chunks, rung by rung: a key that is new on a rung is one more longer context for its key on the
rung below. Where a table has to grow and the budget does not allow it, all forget: what was read once, longest contexts
first, then what was read at most twice, four times, ... until KEPT of the budget is left. Unigrams are never forgotten.
Bytes are those of the tables as laid out; while one moves, its old place exists beside the new one. Refuses a budget
that the tables of one chunk do not fit into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from bloomery.errors import PlanError
from bloomery.systems.holographic.ladders import Ladder, contexts, longest, reach
from bloomery.systems.holographic.store import AMPLE, PLACE, ROOM, Table

LARGEST_CHUNK, SMALLEST_CHUNK = 1 << 16, 1 << 8
KEPT = 0.8
AMPLE_BELOW = 0.4
"""Of the budget: tables double up to there."""
MOST_RARE = 1 << 20


class Counting:
    def __init__(self, ladders: Sequence[Ladder], budget: int, folder: Path | None = None) -> None:
        """budget: in bytes. folder: of tables that are mapped (mapped.py); None: all are in memory."""
        self.ladders, self.budget = tuple(ladders), budget
        rungs = sum(len(ladder.rungs) for ladder in ladders)
        share = int(budget / rungs / PLACE.itemsize / ROOM / 4)
        self.chunk = min(LARGEST_CHUNK, share)
        if share < SMALLEST_CHUNK:
            least = SMALLEST_CHUNK * rungs * PLACE.itemsize * ROOM * 4
            raise PlanError("store.bytes", f"{budget} bytes for {rungs} tables", f"{least:.0f} bytes at least")
        self.tables = {ladder.name: [Table(folder) for _ in ladder.rungs] for ladder in ladders}
        self.readings = 0
        """Keys counted so far, on all rungs."""

    @property
    def history(self) -> int:
        """Tokens before a position that its keys depend on."""
        return max(ladder.reach for ladder in self.ladders)

    @property
    def bytes(self) -> int:
        return sum(table.bytes for tables in self.tables.values() for table in tables)

    @property
    def used(self) -> int:
        """Keys held."""
        return sum(table.used for tables in self.tables.values() for table in tables)

    @property
    def dropped(self) -> int:
        return sum(table.dropped for tables in self.tables.values() for table in tables)

    def count(
        self,
        names: Iterable[str],
        tokens: Int[np.ndarray, " n"],
        boundaries: NDArray[np.integer[Any]],
        first: int,
        alphabets: Sequence[Int[np.ndarray, " v"] | None],
    ) -> None:
        """Count positions from `first` on, for these ladders; what stands before is history."""
        chosen = [ladder for ladder in self.ladders if ladder.name in set(names)]
        for start in range(first, len(tokens), self.chunk):
            low, stop = max(0, start - self.history), min(len(tokens), start + self.chunk)
            inside = boundaries[(boundaries >= low) & (boundaries < stop)] - low
            own = reach(stop - low, inside)
            for ladder in chosen:
                self._chunk(ladder, tokens[low:stop], own, start - low, alphabets)

    def _chunk(
        self,
        ladder: Ladder,
        tokens: Int[np.ndarray, " n"],
        own: Int[np.ndarray, " n"],
        first: int,
        alphabets: Sequence[Int[np.ndarray, " v"] | None],
    ) -> None:
        hashes = contexts(ladder, tokens, alphabets)
        table = alphabets[ladder.target]
        targets = (tokens if table is None else table[tokens]).astype(np.uint64)[first:]
        own = own[first:]
        tables = self.tables[ladder.name]
        for number, (features, context) in enumerate(zip(ladder.rungs, hashes, strict=True)):
            needed = longest(features)
            self.reserve(tables[number], int((own >= needed).sum()))
            below = (tables[number - 1], hashes[number - 1][first:]) if number else None
            self.readings += tables[number].count(context[first:], targets, own, needed, below)

    def reserve(self, table: Table, more: int) -> None:
        """Room for so many more keys. Raises PlanError where the budget has none, ArtifactError where the disk has
        none."""
        ample = self.bytes <= AMPLE_BELOW * self.budget
        size = table.needs(more, AMPLE if ample else ROOM)
        if size == table.bytes:
            return
        if ample and self.bytes - table.bytes + size > self.budget:
            size = table.needs(more)
        if self.bytes - table.bytes + size > self.budget:
            self._tighten()
        if self.bytes - table.bytes + size > self.budget:
            self.forget(int(KEPT * self.budget) - (size - table.bytes))
            size = table.needs(more)
            if size == table.bytes:
                return
        if self.bytes - table.bytes + size > self.budget:
            raise PlanError("store.bytes", f"{self.budget} bytes are full", "more, or fewer timescales")
        table.resize(size)

    def _tighten(self) -> None:
        """Take back the places that were given amply."""
        for table in (one for tables in self.tables.values() for one in tables):
            if (size := table.needs(0, anew=True)) < table.bytes:
                table.resize(size)

    def forget(self, allowed: int) -> int:
        """Forget the rarest until the tables take no more bytes than allowed, or nothing can go; how many keys went."""
        order = sorted(
            (
                (longest(features), table)
                for ladder in self.ladders
                for features, table in zip(ladder.rungs, self.tables[ladder.name], strict=True)
                if features
            ),
            key=lambda one: -one[0],
        )
        gone, most = 0, 1
        while self.bytes > allowed and most <= MOST_RARE:
            for _, table in order:
                gone += table.forget(most)
                if self.bytes <= allowed:
                    break
            most *= 2
        return gone

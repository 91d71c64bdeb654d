"""A counting table that is written to without end and never grows beyond what it is given.

Open addressing (KenLM's probing tables, Heafield 2011): 16-byte places of key, times read, and adjusted count (how many
different longer contexts the key was first read in: Kneser and Ney's count), in a mapped file (mapped.py) where they
are many and a folder is given. Keys are those of ladders.py. `forget` drops what was read at most so often: the mass
stays in its context's REST record, and the counts of counts (which discounts are made of) remember it, so that
probabilities still sum to one. A context of which nothing is left is dropped whole. What was forgotten and comes back
counts as new once more: adjusted counts are then too high by that.

The C side (store.c) and numpy give the same counts; where a key lies may differ, so `blocks` are sorted and only they
are saved. With it no step copies a whole table to memory; numpy does. Refuses (by assertion) more keys than it has room
for: see `needs`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt64
from numpy.typing import NDArray

from bloomery.model import native
from bloomery.systems.holographic.ladders import CONTEXT, REST, Keys
from bloomery.systems.holographic.mapped import zeros

PLACE = np.dtype([("key", "<u8"), ("raw", "<u4"), ("adjusted", "<u4")])
FULL = 0.75
"""Of its places a table fills no more."""
ROOM = 1.6
"""Places for each key when a table is laid out anew."""
AMPLE = 2.6
"""The same where bytes are no object: a table that doubles is moved less often than one that grows by a fifth."""
SMALLEST = 64
BLOCK = 1 << 18
"""Keys that are sorted at once, about: tables are parted by the upper bits of their keys."""
COUNTS_OF_COUNTS = 4

SOURCE = Path(__file__).parent / "store.c"
_P, _U, _L = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
FUNCTIONS = {
    "store_count": (None, _P, _U, _P, _P, _P, _L, _P, _U, _P, _L, _P),
    "store_move": (None, _P, _U, _P, _U),
    "store_parted": (None, _P, _U, _L, _P, _L, _P),
    "store_find": (None, _P, _U, _P, _L, _P, _P),
    "store_ordered": (None, _P, _P, _L, _P, _P, _P),
    "store_common": (_L, _P, _P, _P, _L, _L, _U, _P, _P, _P, _P),
    "store_place": (None, _P, _U, _P, _L),
    "store_index": (None, _P, _U, _P, _P, _L, _P, _U, _P, _P, _P, _L),
    "store_step": (None, _P, _U, _P, _U, _P, _P, _P, _L, _L, _P, _P, _P),
}
_SPREAD = np.uint64(0x9FB21C651E98DF25)
_HALF = np.uint64(32)


def library() -> ctypes.CDLL | None:
    return native.load(SOURCE, FUNCTIONS)


class Items(NamedTuple):
    """What a table holds, by rising key; REST records have raw 0 and the forgotten mass as their adjusted count."""

    keys: UInt64[np.ndarray, " n"]
    raw: Int[np.ndarray, " n"]
    adjusted: Int[np.ndarray, " n"]

    @staticmethod
    def of(size: int) -> Items:
        """Places for so many."""
        return Items(*(np.empty(size, dtype=kind) for kind in (np.uint64, np.int64, np.int64)))


class Table:
    """One rung of a ladder."""

    def __init__(self, folder: Path | None = None, capacity: int = SMALLEST) -> None:
        """folder: of mapped files; None: in memory."""
        self.folder = folder
        self._places = self._laid_out(capacity)
        self.used = 0
        self.forgotten = np.zeros(COUNTS_OF_COUNTS, dtype=np.int64)
        """How many keys with an adjusted count of 1, 2, 3, 4 are gone."""
        self.dropped = 0
        """How many keys are gone."""

    def _laid_out(self, capacity: int) -> NDArray[np.void]:
        assert capacity < 1 << 32
        return zeros(self.folder, capacity, PLACE)

    @property
    def bytes(self) -> int:
        return self._places.nbytes

    def needs(self, more: int, room: float = ROOM, *, anew: bool = False) -> int:
        """Bytes that it has to have for so many more keys: those it has, if these are enough and it is not to move."""
        if not anew and self.used + more <= FULL * len(self._places):
            return self.bytes
        return PLACE.itemsize * max(SMALLEST, int((self.used + more) * room))

    def resize(self, size: int) -> None:
        """size: in bytes, as `needs` says."""
        old, capacity = self._places, size // PLACE.itemsize
        assert self.used < capacity
        self._places = self._laid_out(capacity)
        if (found := library()) is None:
            self._place(old[old["key"] != 0])
        else:
            found.store_move(old.ctypes.data, len(old), self._places.ctypes.data, capacity)

    def _place(self, items: NDArray[np.void]) -> None:
        """Put in different keys that are not there."""
        if (found := library()) is not None:
            found.store_place(self._places.ctypes.data, len(self._places), items.ctypes.data, len(items))
        else:
            self._places[self._claimed(np.ascontiguousarray(items["key"]))] = items

    def count(
        self,
        contexts: Keys,
        targets: UInt64[np.ndarray, " n"],
        reach: Int[np.ndarray, " n"],
        needed: int,
        below: tuple[Table, Keys] | None,
    ) -> int:
        """Count each (context, target) whose history reaches back far enough; how many those are. Each that was not
        there is a different longer context for its key in the table below, where that is (and its contexts there)."""
        if (found := library()) is not None:
            contexts, targets, reach = (np.ascontiguousarray(each) for each in (contexts, targets, reach))
            made = np.zeros(2, dtype=np.int64)
            under = None if below is None else np.ascontiguousarray(below[1])
            found.store_count(
                self._places.ctypes.data, len(self._places), contexts.ctypes.data, targets.ctypes.data,
                reach.ctypes.data, needed, None if below is None else below[0]._places.ctypes.data,
                0 if below is None else len(below[0]._places), None if under is None else under.ctypes.data,
                len(contexts), made.ctypes.data,
            )  # fmt: skip
            self.used += int(made[1])
            return int(made[0])
        there = reach >= needed
        keys = (contexts | targets)[there]
        fresh = self._add(keys)
        if below is not None:
            below[0]._bump((below[1] | targets)[there][fresh])
        return len(keys)

    def _add(self, keys: Keys) -> Int[np.ndarray, " m"]:
        """Count each; where those are that were not there."""
        different, first, times = np.unique(keys, return_index=True, return_counts=True)
        there = self._places["key"][self._sought(different)] == different
        self._places["raw"][self._claimed(different)] += times.astype(np.uint32)
        self.used += int((~there).sum())
        return first[~there]

    def _bump(self, keys: Keys) -> None:
        """A different longer context for each that is there."""
        wanted, times = np.unique(keys, return_counts=True)
        places = self._sought(wanted)
        there = self._places["key"][places] == wanted
        self._places["adjusted"][places[there]] += times[there].astype(np.uint32)

    def _sought(self, keys: Keys) -> Int[np.ndarray, " n"]:
        """Where each key is, or the empty place where it would be."""
        capacity = len(self._places)
        at = (((keys * _SPREAD) >> _HALF) * np.uint64(capacity) >> _HALF).astype(np.int64)
        left = np.arange(len(keys))
        while len(left):
            held = self._places["key"][at[left]]
            left = left[(held != 0) & (held != keys[left])]
            at[left] = (at[left] + 1) % capacity
        return at

    def _claimed(self, keys: Keys) -> Int[np.ndarray, " n"]:
        """Where each of different keys is, put there where it was not. Of two that want a place the last gets it."""
        at = np.empty(len(keys), dtype=np.int64)
        left = np.arange(len(keys))
        while len(left):
            places = self._sought(keys[left])
            self._places["key"][places] = keys[left]
            at[left] = places
            left = left[self._places["key"][places] != keys[left]]
        return at

    def look_up(self, keys: Keys) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Of each key the times read and the adjusted count, 0 where it is not there."""
        if (found := library()) is None:
            places = self._places[self._sought(keys)]
            return places["raw"].astype(np.int64), places["adjusted"].astype(np.int64)
        keys = np.ascontiguousarray(keys)
        raw, adjusted = np.empty(len(keys), dtype=np.int64), np.empty(len(keys), dtype=np.int64)
        found.store_find(
            self._places.ctypes.data, len(self._places), keys.ctypes.data, len(keys), raw.ctypes.data,
            adjusted.ctypes.data,
        )  # fmt: skip
        return raw, adjusted

    def items(self) -> Items:
        """All blocks in one."""
        found, at = Items.of(self.used), 0
        for block in self.blocks():
            for whole, part in zip(found, block, strict=True):
                whole[at : at + len(part)] = part
            at += len(block.keys)
        return found

    def blocks(self) -> Iterator[Items]:
        """What it holds, by rising key, piece by piece; no context is in two. There is always one."""
        held, edges = self._parted()
        for start, stop in pairwise(edges):
            yield _ordered(held[start:stop])

    def _parted(self) -> tuple[NDArray[np.void], list[int]]:
        """A copy of what it holds, where it would lie itself, and the edges of its blocks."""
        if (found := library()) is None:
            return self._places[self._places["key"] != 0], [0, self.used]
        bits = max(1, (self.used // BLOCK).bit_length())
        held, ends = zeros(self.folder, self.used, PLACE), np.zeros((1 << bits) + 1, dtype=np.int64)
        found.store_parted(
            self._places.ctypes.data, len(self._places), 64 - bits, ends.ctypes.data, len(ends), held.ctypes.data
        )
        return held, [0, *ends[:-1].tolist()]

    def put(self, blocks: Iterable[Items], size: int) -> None:
        """The table that had these, in so many bytes."""
        self._places, self.used = self._laid_out(size // PLACE.itemsize), 0
        for items in blocks:
            self.used += len(items.keys)
            assert self.used < len(self._places)
            self._place(_held(items))

    def forget(self, most: int) -> int:
        """Drop what was read at most so often; how many that are. The table is laid out anew, as small as it may be."""
        held, edges = self._parted()
        size = gone = 0
        for start, stop in pairwise(edges):
            items = _ordered(held[start:stop])
            kept, dropped = without_rare(items, most)
            if dropped:
                own = counts(items)[(items.raw > 0) & (items.raw <= most)]
                self.forgotten += counts_of_counts(own)
            gone += dropped
            held[size : size + len(kept.keys)] = _held(kept)  # never more than there were
            size += len(kept.keys)
        if gone:
            self.dropped += gone
            self._places = self._laid_out(0)  # lets go of its room
            self._places, self.used = self._laid_out(max(SMALLEST, int(size * ROOM))), size
            self._place(held[:size])
        return gone


def _ordered(held: NDArray[np.void]) -> Items:
    keys = held["key"].copy()
    order = np.argsort(keys)
    if (found := library()) is None:
        held = held[order]
        return Items(held["key"].copy(), held["raw"].astype(np.int64), held["adjusted"].astype(np.int64))
    items = Items.of(len(order))
    found.store_ordered(held.ctypes.data, order.ctypes.data, len(order), *(one.ctypes.data for one in items))
    return items


def _held(items: Items) -> NDArray[np.void]:
    held = np.empty(len(items.keys), dtype=PLACE)
    held["key"], held["raw"], held["adjusted"] = items
    return held


def counts_of_counts(own: Int[np.ndarray, " n"]) -> Int[np.ndarray, " 4"]:
    """How many are 1, 2, 3, 4."""
    return np.bincount(np.minimum(own, COUNTS_OF_COUNTS + 1), minlength=COUNTS_OF_COUNTS + 2)[1:-1]


def counts(items: Items) -> Int[np.ndarray, " n"]:
    """What Kneser and Ney count: the adjusted count, the times read where nothing longer was."""
    return np.where(items.adjusted > 0, items.adjusted, items.raw)


def without_rare(items: Items, most: int) -> tuple[Items, int]:
    """Without the keys that were read at most so often, their mass in their contexts' REST; and how many they are."""
    if (found := library()) is not None:
        kept, gone = Items.of(len(items.keys)), np.zeros(1, dtype=np.int64)
        size = found.store_common(
            *(one.ctypes.data for one in items), len(items.keys), most, REST, *(one.ctypes.data for one in kept),
            gone.ctypes.data,
        )  # fmt: skip
        return (Items(*(one[:size].copy() for one in kept)), int(gone[0])) if gone[0] else (items, 0)
    lost = items.raw <= most  # and what was lost before
    dropped = int((lost & (items.raw > 0)).sum())
    if not dropped:
        return items, 0
    context, stay = items.keys & CONTEXT, ~lost
    begins = np.concatenate(([True], context[1:] != context[:-1]))
    number = np.cumsum(begins) - 1
    size = int(number[-1]) + 1
    mass = np.bincount(number[lost], weights=counts(items)[lost], minlength=size).astype(np.int64)
    stays = np.bincount(number[stay], minlength=size)
    left = (stays > 0) & (mass > 0)
    ends = np.cumsum(stays)[left]  # no key of a context is above its REST
    return Items(
        np.insert(items.keys[stay], ends, context[begins][left] | np.uint64(REST)),
        np.insert(items.raw[stay], ends, 0),
        np.insert(items.adjusted[stay], ends, mass[left]),
    ), dropped

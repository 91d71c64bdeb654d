"""A counting table that is written to without end and never grows beyond what it is given.

Open addressing (KenLM's probing tables, Heafield 2011): 16-byte places of key, times read, and adjusted count (how many
different longer contexts the key was first read in: Kneser and Ney's count), in a memory-mapped file where a folder is
given. Keys are those of ladders.py. `forget` drops what was read at most so often: the mass stays in its context's REST
record, and the counts of counts (which discounts are made of) remember it, so that probabilities still sum to one. A
context of which nothing is left is dropped whole. What was forgotten and comes back counts as new once more: adjusted
counts are then too high by that.

The C side (store.c) and numpy give the same counts; where a key lies may differ, so `items` are sorted and only they
are saved. Refuses (by assertion) more keys than it has room for: see `needs`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt64
from numpy.typing import NDArray

from bloomery.model import native
from bloomery.systems.holographic.ladders import CONTEXT, REST, Keys

PLACE = np.dtype([("key", "<u8"), ("raw", "<u4"), ("adjusted", "<u4")])
FULL = 0.75
"""Of its places a table fills no more."""
ROOM = 1.6
"""Places for each key when a table is laid out anew."""
AMPLE = 2.6
"""The same where bytes are no object: a table that doubles is moved less often than one that grows by a fifth."""
SMALLEST = 64
COUNTS_OF_COUNTS = 4
WIDE = 255

SOURCE = Path(__file__).parent / "store.c"
_P, _U, _L = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
FUNCTIONS = {
    "store_count": (None, _P, _U, _P, _P, _P, _L, _P, _U, _P, _L, _P),
    "store_move": (None, _P, _U, _P, _U),
    "store_held": (None, _P, _U, _P, _P),
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

    def __init__(self, file: Path | None = None, capacity: int = SMALLEST) -> None:
        """file: where its places lie, made anew whenever they move; None: in memory."""
        self._file = file
        self._places = self._laid_out(capacity)
        self.used = 0
        self.forgotten = np.zeros(COUNTS_OF_COUNTS, dtype=np.int64)
        """How many keys with an adjusted count of 1, 2, 3, 4 are gone."""
        self.dropped = 0
        """How many keys are gone."""

    def _laid_out(self, capacity: int) -> NDArray[np.void]:
        assert capacity < 1 << 32
        if self._file is None:
            return np.zeros(capacity, dtype=PLACE)
        new = self._file.with_suffix(".new")
        places = np.memmap(new, dtype=PLACE, mode="w+", shape=(capacity,))
        new.replace(self._file)
        return places

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
        if (found := library()) is None:
            self._fill(old[old["key"] != 0], capacity)
            return
        assert self.used < capacity
        self._places = self._laid_out(capacity)
        found.store_move(old.ctypes.data, len(old), self._places.ctypes.data, capacity)

    def _fill(self, items: NDArray[np.void], capacity: int) -> None:
        assert len(items) < capacity
        self._places = self._laid_out(capacity)
        self.used = len(items)
        if (found := library()) is not None:
            items = np.ascontiguousarray(items)
            found.store_place(self._places.ctypes.data, capacity, items.ctypes.data, len(items))
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

    def items(self) -> Items:
        if (found := library()) is None:
            held = self._places[self._places["key"] != 0]
            held = held[np.argsort(held["key"])]
            return Items(held["key"].copy(), held["raw"].astype(np.int64), held["adjusted"].astype(np.int64))
        held, keys = np.empty(self.used, dtype=PLACE), np.empty(self.used, dtype=np.uint64)
        found.store_held(self._places.ctypes.data, len(self._places), held.ctypes.data, keys.ctypes.data)
        order, items = np.argsort(keys), Items.of(self.used)
        found.store_ordered(held.ctypes.data, order.ctypes.data, len(order), *(one.ctypes.data for one in items))
        return items

    def put(self, items: Items, size: int) -> None:
        """The table that had these items, in so many bytes."""
        held = np.empty(len(items.keys), dtype=PLACE)
        held["key"], held["raw"], held["adjusted"] = items
        self._fill(held, size // PLACE.itemsize)

    def forget(self, most: int) -> int:
        """Drop what was read at most so often; how many that are. The table is laid out anew, as small as it may be."""
        items = self.items()
        kept, dropped = without_rare(items, most)
        if not dropped:
            return 0
        own = counts(items)[(items.raw > 0) & (items.raw <= most)]
        self.forgotten += np.bincount(np.minimum(own, COUNTS_OF_COUNTS + 1), minlength=COUNTS_OF_COUNTS + 2)[1:-1]
        self.dropped += dropped
        self.put(kept, PLACE.itemsize * max(SMALLEST, int(len(kept.keys) * ROOM)))
        return dropped


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


def narrowed(name: str, values: Int[np.ndarray, " n"]) -> dict[str, NDArray[Any]]:
    """Counts as one byte each; those of 255 and more apart, with their places. Nothing is lost."""
    large = np.flatnonzero(values >= WIDE)
    return {
        name: np.minimum(values, WIDE).astype(np.uint8),
        f"{name}_at": large.astype(np.int64),
        f"{name}_large": values[large].astype(np.uint32),
    }


def widened(name: str, arrays: Mapping[str, NDArray[Any]]) -> Int[np.ndarray, " n"]:
    """What `narrowed` was given. Raises KeyError or IndexError for what it did not make."""
    values = arrays[name].astype(np.int64)
    values[arrays[f"{name}_at"]] = arrays[f"{name}_large"]
    return values

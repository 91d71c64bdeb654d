"""Frozen tables of one ladder, with modified Kneser-Ney back-off: what a context pulls towards, rung by rung.

    p(w | rung) = max(a(h w) - D(a), 0) / A(h)  +  gamma(h) p(w | rung below),   a: adjusted counts, A: their sum

with what was forgotten in A and in gamma (Chen and Goodman 1999; the same numbers as evaluate.ngram where the rungs are
the orders 1 to n and nothing was forgotten). Below the first rung all targets are alike. A context that is not there
passes on what is below it; one that is leaves gamma for what has no entry: so every rung sums to one. Entries are
sorted keys, sought by halving; in C (store.c) by an index beside them, made when a table is first asked for many
targets, 26 bytes an entry and 38 a context: two places a look-up, fetched ahead. Both find the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64
from numpy.typing import NDArray

from bloomery.evaluate.ngram_counts import Discounts, discounts_from
from bloomery.systems.holographic.ladders import CONTEXT, REST, Keys, Ladder, longest
from bloomery.systems.holographic.store import ROOM, Items, counts, counts_of_counts, library, without_rare

Reals = NDArray[np.float64]
ENTRY = np.dtype([("key", "<u8"), ("share", "<f8")])
CONTEXT_PLACE = np.dtype([("key", "<u8"), ("left", "<f8"), ("total", "<i8")])


class Frozen(NamedTuple):
    """What is stored of a rung."""

    keys: UInt64[np.ndarray, " n"]
    counts: Int[np.ndarray, " n"]
    """Adjusted; of REST records the mass that was forgotten."""
    discounts: Discounts


def freeze(blocks: Iterable[Items], forgotten: Int[np.ndarray, " 4"], cutoff: int) -> Frozen:
    """Without what was read at most `cutoff` times; its mass and the counts of counts stay. blocks: of a Table."""
    times = forgotten.copy()
    kept: list[Items] = []
    for items in blocks:
        times += counts_of_counts(counts(items)[items.raw > 0])
        kept.append(without_rare(items, cutoff)[0])
    keys = np.concatenate([one.keys for one in kept])
    return Frozen(keys, np.concatenate([counts(one) for one in kept]), discounts_from(*times.tolist()))


class Step(NamedTuple):
    """What a rung says at positions: p = share + gamma * what is below; total: A(h), 0 where h is not there."""

    share: Float[np.ndarray, " n"]
    gamma: Float[np.ndarray, " n"]
    total: Int[np.ndarray, " n"]


class Rung:
    def __init__(self, stored: Frozen) -> None:
        self.stored = stored
        rest = (stored.keys & np.uint64(REST)) == REST
        self.keys = stored.keys[~rest]
        context = self.keys & CONTEXT
        begins = np.flatnonzero(
            np.concatenate((np.ones(min(1, len(context)), dtype=bool), context[1:] != context[:-1]))
        )
        self.contexts = context[begins]
        self.starts = np.append(begins, len(context)).astype(np.int64)
        own = stored.counts[~rest]
        left = np.zeros(len(begins))
        left[np.searchsorted(self.contexts, stored.keys[rest] & CONTEXT)] = stored.counts[rest]
        each = np.array((0.0, *stored.discounts))[np.minimum(own, 3)]
        sums = np.add.reduceat(np.column_stack((own, each)), begins) if len(begins) else np.zeros((0, 2))
        totals = sums[:, 0] + left
        self.totals = totals.astype(np.int64)
        self.gamma = (sums[:, 1] + left) / np.maximum(totals, 1)
        self.alpha = (own - each) / np.repeat(totals, np.diff(self.starts))
        self._index: tuple[NDArray[np.void], NDArray[np.void]] | None = None

    def _indexed(self, by: ctypes.CDLL) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Places of entries and of contexts, some of them empty."""
        if self._index is None:
            entries = np.zeros(int(len(self.keys) * ROOM) + 1, dtype=ENTRY)
            contexts = np.zeros(int(len(self.contexts) * ROOM) + 1, dtype=CONTEXT_PLACE)
            by.store_index(
                entries.ctypes.data, len(entries), self.keys.ctypes.data, self.alpha.ctypes.data, len(self.keys),
                contexts.ctypes.data, len(contexts), self.contexts.ctypes.data, self.gamma.ctypes.data,
                self.totals.ctypes.data, len(self.contexts),
            )  # fmt: skip
            self._index = entries, contexts
        return self._index

    def step(
        self,
        contexts: UInt64[np.ndarray, " n"],
        targets: Int[np.ndarray, " n"],
        reach: Int[np.ndarray, " n"],
        needed: int,
        by: ctypes.CDLL | None,
    ) -> Step:
        """Where the history is shorter than needed it knows nothing. by: the C side, if there is one."""
        size = len(contexts)
        if not len(self.contexts):
            nothing = np.zeros(size)
            return Step(nothing, nothing + 1, nothing.astype(np.int64))
        if by is not None:
            step = Step(np.empty(size), np.empty(size), np.empty(size, dtype=np.int64))
            entries, known = self._indexed(by)
            by.store_step(
                entries.ctypes.data, len(entries), known.ctypes.data, len(known), contexts.ctypes.data,
                targets.ctypes.data, reach.ctypes.data, needed, size, *(one.ctypes.data for one in step),
            )  # fmt: skip
            return step
        at, entry = _found(self.contexts, contexts), _found(self.keys, contexts | targets.astype(np.uint64))
        there = (at >= 0) & (reach >= needed)
        share = np.where(there & (entry >= 0), self.alpha[entry], 0.0)
        return Step(share, np.where(there, self.gamma[at], 1.0), np.where(there, self.totals[at], 0))

    def place(self, context: np.uint64) -> int:
        """Of one context, or -1."""
        at = int(np.searchsorted(self.contexts, context))
        return at if at < len(self.contexts) and self.contexts[at] == context else -1

    def onto(self, out: Reals, at: int) -> None:
        """Make of `out` [v], what is below, what the context at this place says."""
        start, stop = self.starts[at], self.starts[at + 1]
        out *= self.gamma[at]
        out[(self.keys[start:stop] & np.uint64(REST)).astype(np.int64)] += self.alpha[start:stop]


def _found(among: Keys, wanted: Keys) -> Int[np.ndarray, " n"]:
    at = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    return np.where(among[at] == wanted, at, -1)


class Attractors:
    """The rungs of one ladder, as a distribution over its target alphabet."""

    def __init__(self, ladder: Ladder, stored: Sequence[Frozen], size: int) -> None:
        """size: of the target alphabet."""
        assert len(stored) == len(ladder.rungs)
        self.ladder, self.size = ladder, size
        self.rungs = tuple(Rung(one) for one in stored)

    def steps(
        self,
        contexts: Sequence[UInt64[np.ndarray, " n"]],
        targets: Int[np.ndarray, " n"],
        reach: Int[np.ndarray, " n"],
    ) -> Iterator[Step]:
        """Of each rung; one that needs more history than there is knows nothing."""
        by = library()
        targets, reach = (np.ascontiguousarray(one, dtype=np.int64) for one in (targets, reach))
        for rung, features, hashes in zip(self.rungs, self.ladder.rungs, contexts, strict=True):
            yield rung.step(np.ascontiguousarray(hashes), targets, reach, longest(features), by)

    def probabilities(
        self,
        contexts: Sequence[UInt64[np.ndarray, " n"]],
        targets: Int[np.ndarray, " n"],
        reach: Int[np.ndarray, " n"],
    ) -> Reals:
        """[n]: of each target."""
        out = np.full(len(targets), 1 / self.size)
        for step in self.steps(contexts, targets, reach):
            out = step.share + step.gamma * out
        return out

    def after(self, places: Sequence[int]) -> Reals:
        """[size]: of all targets; places: of the context on each rung, or -1."""
        out = np.full(self.size, 1 / self.size)
        for rung, at in zip(self.rungs, places, strict=True):
            if at >= 0:
                rung.onto(out, at)
        return out

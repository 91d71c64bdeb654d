"""What a theory's memory looks up, by a key of 64 bits: exact counts, cells of episodes, satellites of superpositions.

    counted      how often each token followed a key: the exact dictionary, control of everything else
    cells        episodes by the cell of their context; each votes golden^-distance for its target
    satellites   one multivector a cell, the sum of context x target / golden over its pairs; read as Grace(C^-1 M),
                 and decoded as the token whose matrix is likest

A key is a hash of what identifies a context (`window_keys`: its tokens; `grid_keys`: its cell), and 64 bits of it are
kept: two contexts may share a key with a chance of pairs / 2^64. Votes sum to one in each
row that has any; a row without is one that the memory does not know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from numpy.typing import NDArray
from torch import Tensor

from bloomery.systems.holographic.algebra import GOLDEN, grace, product
from bloomery.systems.holographic.superposition import recalled

Keys = UInt64[np.ndarray, " n"]
MOST_VOTERS = 256
"""Of one cell, the newest: a context of one common token has as many as it was read."""
_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 1 << 64)


class Votes(NamedTuple):
    """One entry a vote: for which row, which token, and what it weighs."""

    rows: Int[np.ndarray, " m"]
    tokens: Int[np.ndarray, " m"]
    weights: Float[np.ndarray, " m"]

    @staticmethod
    def of(rows: NDArray[np.int64], tokens: NDArray[np.int64], weights: NDArray[np.float64], count: int) -> Votes:
        """Of `count` rows, so that the weights of each sum to one."""
        sums = np.bincount(rows, weights, minlength=count)
        return Votes(rows, tokens.astype(np.int64), weights / sums[rows])

    @staticmethod
    def none() -> Votes:
        nothing = np.zeros(0, dtype=np.int64)
        return Votes(nothing, nothing, np.zeros(0))

    def known(self, count: int) -> NDArray[np.bool_]:
        found = np.zeros(count, dtype=np.bool_)
        found[self.rows] = True
        return found

    def share(self, targets: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """What each row gives its target."""
        right = self.tokens == targets[self.rows]
        return np.bincount(self.rows[right], self.weights[right], minlength=len(targets))

    def best(self, count: int) -> Int[np.ndarray, " n"]:
        """The token of the largest share in each row, the lowest of equals; -1 where it has none."""
        order = np.lexsort((self.tokens, self.rows))
        rows, tokens = self.rows[order], self.tokens[order]
        starts = np.flatnonzero(np.r_[True, (np.diff(rows) != 0) | (np.diff(tokens) != 0)]) if len(rows) else order
        sums = np.add.reduceat(self.weights[order], starts) if len(rows) else np.zeros(0)
        found = np.full(count, -1, dtype=np.int64)
        ranked = np.lexsort((-tokens[starts], sums))  # the last written is the largest, and of equals the lowest
        found[rows[starts][ranked]] = tokens[starts][ranked]
        return found


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: every bit of a value moves every bit of its key."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def window_keys(tokens: Int[np.ndarray, " n"], length: int) -> Keys:
    """Of the last `length` tokens at each position, or of as many as there are."""
    with np.errstate(over="ignore"):
        count = len(tokens)
        powers = np.cumprod(np.r_[np.uint64(1), np.full(count, _BASE, dtype=np.uint64)], dtype=np.uint64)
        inverse = np.cumprod(np.r_[np.uint64(1), np.full(count, _INVERSE, dtype=np.uint64)], dtype=np.uint64)
        sums = np.cumsum((tokens.astype(np.uint64) + np.uint64(1)) * inverse[:count], dtype=np.uint64)
        before = np.zeros(count, dtype=np.uint64)
        before[length:] = sums[: max(0, count - length)]
        return mixed((sums - before) * powers[:count])


def grid_keys(grid: Int[np.ndarray, "n k"]) -> Keys:
    keys = np.zeros(len(grid), dtype=np.uint64)
    for column in grid.astype(np.int64).view(np.uint64).T:
        keys = mixed(keys + column + np.uint64(_BASE))
    return keys


def uniform(positions: Int[np.ndarray, " n"], seed: int) -> Float[np.ndarray, " n"]:
    """A number from 0 to 1 for each position of a stream, whoever asks and when."""
    with np.errstate(over="ignore"):
        drawn = mixed(mixed(positions.astype(np.uint64) + np.uint64(_BASE)) + np.uint64(seed) * np.uint64(_BASE))
    return (drawn >> np.uint64(11)) / float(1 << 53)


class Counted:
    """How often which token followed which key; sorted by both."""

    width = 16
    """Bytes an entry: a key, a token, a count."""

    def __init__(self) -> None:
        self.keys = np.zeros(0, dtype=np.uint64)
        self.tokens = np.zeros(0, dtype=np.int32)
        self.counts = np.zeros(0, dtype=np.int32)

    def add(self, keys: Keys, tokens: Int[np.ndarray, " n"]) -> None:
        keys = np.concatenate((self.keys, keys))
        tokens = np.concatenate((self.tokens, tokens.astype(np.int32)))
        counts = np.concatenate((self.counts, np.ones(len(keys) - len(self.keys), dtype=np.int32)))
        order = np.lexsort((tokens, keys))
        keys, tokens = keys[order], tokens[order]
        starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]) | (tokens[1:] != tokens[:-1])][: len(keys)])
        self.keys, self.tokens = keys[starts], tokens[starts]
        self.counts = np.add.reduceat(counts[order], starts).astype(np.int32) if len(starts) else counts

    def forget(self, most: int) -> int:
        """Keep the commonest `most`, of equals the first; how many went."""
        gone = len(self.keys) - most
        if gone <= 0:
            return 0
        kept = np.sort(np.argsort(-self.counts, kind="stable")[:most])
        self.keys, self.tokens, self.counts = self.keys[kept], self.tokens[kept], self.counts[kept]
        return gone

    def votes(self, keys: Keys) -> Votes:
        rows, places = _ranges(self.keys, keys)
        return Votes.of(rows, self.tokens[places].astype(np.int64), self.counts[places].astype(float), len(keys))

    def of(
        self, keys: Keys, targets: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Of each key: how often its target followed, how often anything, and how many different tokens."""
        rows, places = _ranges(self.keys, keys)
        counts, right = self.counts[places].astype(float), self.tokens[places] == targets[rows]
        size = len(keys)
        own = np.bincount(rows[right], counts[right], minlength=size)
        return own, np.bincount(rows, counts, minlength=size), np.bincount(rows, minlength=size).astype(float)


class Cells:
    """Episodes, sorted by the key of their cell, the older first."""

    def __init__(self, numbers: int) -> None:
        self.keys = np.zeros(0, dtype=np.uint64)
        self.states = np.zeros((0, numbers), dtype=np.float32)
        self.targets = np.zeros(0, dtype=np.int32)
        self.width = 8 + 4 * numbers + 4

    def add(self, keys: Keys, states: Float[np.ndarray, "n k"], targets: Int[np.ndarray, " n"]) -> None:
        keys = np.concatenate((self.keys, keys))
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order]
        self.states = np.concatenate((self.states, states.astype(np.float32)))[order]
        self.targets = np.concatenate((self.targets, targets.astype(np.int32)))[order]

    def keep(self, which: NDArray[np.int64]) -> None:
        self.keys, self.states, self.targets = self.keys[which], self.states[which], self.targets[which]

    def votes(self, keys: Keys, states: Float[np.ndarray, "n k"]) -> Votes:
        rows, places = _ranges(self.keys, keys, MOST_VOTERS)
        away = np.linalg.norm(self.states[places].astype(float) - states[rows], axis=-1)
        return Votes.of(rows, self.targets[places].astype(np.int64), GOLDEN**-away, len(keys))


def likest(read: Float[Tensor, "b n"], tokens: Float[Tensor, "v n"]) -> Int[Tensor, " b"]:
    """The token whose matrix has the largest cosine to what was read, once both have been through Grace."""
    one, two = torch.nn.functional.normalize(read, dim=-1), torch.nn.functional.normalize(grace(tokens), dim=-1)
    return (one @ two.mT).argmax(-1)


class Satellites:
    """A superposition for each cell that anything was bound in."""

    def __init__(self, numbers: int) -> None:
        self.keys = np.zeros(0, dtype=np.uint64)
        self.sums = np.zeros((0, numbers))
        self.width = 8 + 8 * numbers

    def add(self, keys: Keys, contexts: Float[np.ndarray, "n k"], targets: Float[np.ndarray, "n k"], most: int) -> None:
        """targets: their matrices. Beyond `most` satellites, what would open another one is left out."""
        opened = np.setdiff1d(keys, self.keys)[: max(0, most - len(self.keys))]
        taken = np.isin(keys, self.keys) | np.isin(keys, opened)
        keys, contexts, targets = keys[taken], contexts[taken], targets[taken]
        bound = product(torch.from_numpy(contexts), torch.from_numpy(targets)).numpy() / GOLDEN
        everything = np.concatenate((self.keys, keys))
        self.keys, place = np.unique(everything, return_inverse=True)
        sums = np.zeros((len(self.keys), bound.shape[1]))
        np.add.at(sums, place, np.concatenate((self.sums, bound)))
        self.sums = sums

    def votes(self, keys: Keys, contexts: Float[np.ndarray, "n k"], tokens: Float[np.ndarray, "v k"]) -> Votes:
        rows, places = _ranges(self.keys, keys)
        found = np.zeros(len(rows), dtype=np.int64)
        for start in range(0, len(rows), 256):
            part = slice(start, start + 256)
            held = torch.from_numpy(self.sums[places[part]])
            each = torch.from_numpy(contexts[rows[part]])
            read = torch.stack([recalled(one, at[None])[0] for one, at in zip(held, each, strict=True)])
            found[part] = likest(read, torch.from_numpy(tokens)).numpy()
        return Votes(rows, found, np.ones(len(rows)))


def _ranges(known: Keys, wanted: Keys, most: int | None = None) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """(row, place) of all entries of `known`, which is sorted, that a wanted key has, of each the last `most`."""
    starts, stops = np.searchsorted(known, wanted, "left"), np.searchsorted(known, wanted, "right")
    if most is not None:
        starts = np.maximum(starts, stops - most)
    sizes = stops - starts
    rows = np.repeat(np.arange(len(wanted)), sizes)
    ends = np.cumsum(sizes)
    return rows, np.arange(len(rows)) - np.repeat(ends - sizes, sizes) + np.repeat(starts, sizes)

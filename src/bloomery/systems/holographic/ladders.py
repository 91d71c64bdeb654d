"""Contexts at several timescales as 64-bit keys: what every table of the attractor variant is looked up by.

A ladder predicts one alphabet (tokens, or the classes of a clustering) from contexts that get longer rung by rung. A
context is a tuple of (lag, alphabet): ((1, 0), (2, 0)) is the two tokens before, ((1, 3),) the class, in the third
clustering, of the token before. Each rung's features contain those of the rung below, so a rung refines it:

    hash = fold of (hash xor (symbol + 1)) * ODD, xor its upper half;   key = 44 upper bits of hash | 20 bits of target

44 bits tell 10^7 contexts of a rung apart but for about 3 pairs. A history reaches back to the token before its
document's first (end_of_document) and no further: a rung that needs more has no key there. Refuses vocabularies of
2^20 - 1 tokens and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Feature = tuple[int, int]
"""(lag in tokens from one on, alphabet: 0 is the tokens, k the k-th clustering)."""

TARGET_BITS = 20
REST = (1 << TARGET_BITS) - 1
"""In the place of a target: what was forgotten of a context."""
CONTEXT = np.uint64(0xFFFF_FFFF_FFFF_FFFF ^ REST)
_START, _ODD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(32)
_LEAST = np.uint64(1 << TARGET_BITS)
"""No key is zero: tables mark empty places by it."""


@dataclass(frozen=True, slots=True)
class Ladder:
    name: str
    rungs: tuple[tuple[Feature, ...], ...]
    """From the shortest context on; the first is usually (), everything."""
    target: int = 0
    """The alphabet that is predicted."""

    def __post_init__(self) -> None:
        assert all(set(low) < set(high) for low, high in zip(self.rungs, self.rungs[1:], strict=False)), self

    @property
    def reach(self) -> int:
        """Tokens of history that the longest rung needs."""
        return max(longest(rung) for rung in self.rungs)

    @property
    def alphabets(self) -> set[int]:
        return {self.target, *(alphabet for rung in self.rungs for _, alphabet in rung)}


def longest(rung: Sequence[Feature]) -> int:
    return max((lag for lag, _ in rung), default=0)


def words(orders: Sequence[int]) -> Ladder:
    """The tokens before, for n-grams of these orders."""
    return Ladder("words", tuple(tuple((lag, 0) for lag in range(1, order)) for order in sorted(orders)))


def contexts(
    ladder: Ladder, tokens: Int[np.ndarray, " n"], alphabets: Sequence[Int[np.ndarray, " v"] | None]
) -> list[UInt64[np.ndarray, " n"]]:
    """For each rung: the hash of the context before every position; without meaning where the history is too short.

    alphabets: the symbol of each token; None for the tokens themselves.
    """
    symbols: dict[int, Keys] = {}
    found: list[Keys] = []
    below: tuple[Feature, ...] = ()
    hashes = np.full(len(tokens), _START)
    for rung in ladder.rungs:
        begun = rung[: len(below)] == below
        hashes = hashes.copy() if begun else np.full(len(tokens), _START)
        for lag, alphabet in rung[len(below) :] if begun else rung:
            if alphabet not in symbols:
                table = alphabets[alphabet]
                symbols[alphabet] = (tokens if table is None else table[tokens]).astype(np.uint64) + np.uint64(1)
            part = hashes[lag:]
            part ^= symbols[alphabet][: max(0, len(tokens) - lag)]
            part *= _ODD
            part ^= part >> _HALF
        found.append(np.maximum(hashes & CONTEXT, _LEAST))
        below = rung
    return found


def reach(length: int, boundaries: NDArray[np.integer[Any]]) -> Int[np.ndarray, " n"]:
    """How many tokens of history each of `length` positions has. boundaries: where documents begin, sorted."""
    origin = np.zeros(length, dtype=np.int64)
    inside = boundaries[(boundaries > 0) & (boundaries < length)]
    origin[inside] = inside - 1
    return np.arange(length) - np.maximum.accumulate(origin)

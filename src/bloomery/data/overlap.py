"""Contamination: how many n-grams of evaluation items also stand in the training text, item by item and in all.

An n-gram is n words in a row, a word being `\\w+` of the case-folded text (13, as in Brown et al. 2020, appendix C), or
n token ids in a row, never across the end of a document. Each is hashed to 64 bits,

    h(i) = sum_k  g(x[i + k]) M^(n-1-k)  mod 2^64,   M odd,   g(x): 64 bits of BLAKE2b, or splitmix64 of a token id,

so that chance makes one of A evaluation and one of B training n-grams alike with probability A B / 2^64: one in 20,000
for a million and a billion. Training text is streamed; only hashes of the evaluation items are kept. An item with fewer
than n words has no n-gram and says nothing. Refuses an n below one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bloomery.data.tokenizer import Tokenizer
from bloomery.data.tokens import TokenFile

Hashes = NDArray[np.uint64]
WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15 | 1)
TOKENS_AT_ONCE = 1 << 20
FIRST_BITS = 24
"""Of a hash: most n-grams of the training text are ruled out by a table of 16 MiB, before anything is searched."""
WORDS_REMEMBERED = 1 << 20
"""Hashes of words are kept for so many different ones, then forgotten."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of each evaluation item: how many n-grams it has, and how many of them stand in the training text."""

    grams: tuple[int, ...]
    found: tuple[int, ...]

    @property
    def judged(self) -> tuple[int, ...]:
        """Places of the items that have an n-gram at all."""
        return tuple(place for place, count in enumerate(self.grams) if count)


class Words:
    """Text to one hash a word. Remembers words, so that each is hashed once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> Hashes:
        words = WORD.findall(text.casefold())
        if len(self._known) > WORDS_REMEMBERED:
            self._known.clear()
        for word in words:
            if word not in self._known:
                self._known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.fromiter((self._known[word] for word in words), dtype=np.uint64, count=len(words))


def token_hashes(ids: NDArray[np.integer]) -> Hashes:
    """One hash a token id: splitmix64 (Steele et al. 2014)."""
    x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def grams(hashes: Hashes, n: int) -> Hashes:
    """The hash of every n in a row; none where there are fewer."""
    assert n >= 1
    count = len(hashes) - n + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    out = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        out = out * MULTIPLIER + hashes[place : place + count]
    return out


def overlap(items: Sequence[Hashes], training: Iterable[Hashes], n: int) -> Overlap:
    """items, training: pieces of text as hashes of words or tokens; no n-gram reaches over the end of a piece."""
    each = [grams(item, n) for item in items]
    counts = [len(one) for one in each]
    wanted, place = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *each]), return_inverse=True)
    seen = np.zeros(len(wanted), dtype=np.bool_)
    if len(wanted):
        perhaps = np.zeros(1 << FIRST_BITS, dtype=np.bool_)
        perhaps[wanted >> np.uint64(64 - FIRST_BITS)] = True
        for piece in training:
            there = grams(piece, n)
            there = there[perhaps[there >> np.uint64(64 - FIRST_BITS)]]
            at = np.minimum(np.searchsorted(wanted, there), len(wanted) - 1)
            seen[at[wanted[at] == there]] = True
    bounds = np.cumsum([0, *counts])
    hits = np.concatenate(([0], np.cumsum(seen[place])))
    return Overlap(tuple(counts), tuple(int(hits[end] - hits[start]) for start, end in pairwise(bounds)))


def documents_as_words(file: TokenFile, tokenizer: Tokenizer, words: Words) -> Iterator[Hashes]:
    for index in range(file.documents):
        yield words(tokenizer.decode(file.document(index)))


def documents_as_tokens(file: TokenFile) -> Iterator[Hashes]:
    """One a document, without its end."""
    for index in range(file.documents):
        yield token_hashes(file.document(index)[:-1])


def stream_of_tokens(file: TokenFile, n: int) -> Iterator[Hashes]:
    """The whole file, some at a time, each beginning with the last n - 1 of the one before. An end of document is a
    token that no item has, so no n-gram over it is ever found."""
    for start in range(0, len(file), TOKENS_AT_ONCE):
        yield token_hashes(file.tokens[max(0, start - n + 1) : start + TOKENS_AT_ONCE])

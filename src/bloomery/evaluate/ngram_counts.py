"""What n-gram models are made of: the counts of every n-gram of a text, and of the tokens that stand before it.

An order is a sorted array of keys `context * vocab + token`, where `context` is the place of the first n - 1 tokens in
the order below. `raw` says how often the n-gram was read; `adjusted` how many different tokens stood before it (Kneser
and Ney 1995), or its own count where none did (a row's beginning). Counting sorts: one sort of 64-bit words for each
order, in which key and position are packed together wherever both fit. Refuses token ids beyond the
vocabulary. Above order two all tokens are held at once; pairs are counted by the part and added up, and take the memory
of the distinct ones.

`without_rare` leaves out what was read at most `cutoffs` times, as KenLM's --prune: thresholds are on raw counts and do
not fall from one order to the next, so an n-gram that is kept finds its context kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.data.mix import Batch
from bloomery.errors import DataError

Integers = NDArray[np.int64]
Discounts = tuple[float, float, float]

PAIRS_AT_ONCE = 1 << 20
"""Tokens, at least, whose pairs are counted before they join those of the parts before."""
FALLBACK_DISCOUNTS: Discounts = (0.5, 1.0, 1.5)
"""Where counts of counts say nothing, as for a handful of tokens (the values of KenLM)."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The n-grams of one order from two on."""

    keys: Integers
    raw: Integers
    adjusted: Integers
    """Of the highest order that was counted: the raw counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    vocab: int
    raw: Integers
    """[v]: how often each token was read."""
    adjusted: Integers
    levels: tuple[Level, ...]
    """Orders from two on; one that no row is long enough for is left out."""

    @staticmethod
    def of(
        rows: Iterable[Batch | NDArray[Any]],
        *,
        order: int,
        vocab: int,
        end_of_document: int | None = None,
        repeats: int = 1,
    ) -> Counts:
        """Count training batches, or arrays [n] or [b n] of token ids; a row's first token is history only.

        end_of_document: histories reach back to it and no further. repeats: how often the rows run through the same
        text; counts are divided by it, as a text read twice is no more evidence than one read once.
        """
        assert order >= 1
        assert repeats >= 1
        if order <= 2:
            return _up_to_pairs(rows, order, vocab, repeats)
        pieces = [piece for row in rows for piece in runs(row) if len(piece) > 1]
        if not pieces:
            raise _nothing()
        tokens, place = _laid_out(pieces, vocab)

        raw = -(-np.bincount(tokens[place > 0], minlength=vocab) // repeats)
        found: list[tuple[Integers, Integers]] = [(np.arange(vocab), raw)]
        adjusted: list[Integers] = []
        index = tokens
        for length in range(2, order + 1):
            whole = place >= length - 1
            if length > 2 and end_of_document is not None:
                whole[1:] &= tokens[:-1] != end_of_document
            whole[1:] &= index[:-1] >= 0
            ends = np.flatnonzero(whole)
            keys, first, inverse, times = group(index[ends - 1] * vocab + tokens[ends])
            below = found[-1][1]
            before = np.bincount(index[ends[first]], minlength=len(below))
            adjusted.append(np.where(before > 0, before, below))
            found.append((keys, -(-times // repeats)))
            index = np.full(len(tokens), -1, dtype=np.int64)
            index[ends] = inverse
        adjusted.append(found[-1][1])
        levels = tuple(Level(*one, more) for one, more in zip(found[1:], adjusted[1:], strict=True) if len(one[0]))
        return Counts(vocab, raw, adjusted[0], levels)

    @property
    def order(self) -> int:
        return 1 + len(self.levels)

    def up_to(self, order: int) -> Counts:
        """What counting no further than this order would have found."""
        if order >= self.order:
            return self
        kept = self.levels[: order - 1]
        top = tuple(Level(one.keys, one.raw, one.raw) for one in kept[-1:])
        return Counts(self.vocab, self.raw, self.adjusted if kept else self.raw, kept[:-1] + top)


def _up_to_pairs(rows: Iterable[Batch | NDArray[Any]], order: int, vocab: int, repeats: int) -> Counts:
    """`Counts.of` for order one or two. A part is at least half as long as the table, so that joining is rare."""
    raw, nothing = np.zeros(vocab, dtype=np.int64), np.zeros(0, dtype=np.int64)
    keys, times = nothing, nothing
    waiting: list[Integers] = []

    def join() -> None:
        nonlocal raw, keys, times
        tokens, place = _laid_out(waiting, vocab)
        waiting.clear()
        ends = np.flatnonzero(place > 0)
        raw += np.bincount(tokens[ends], minlength=vocab)
        if order == 2:
            fresh, often = np.unique(tokens[ends - 1] * vocab + tokens[ends], return_counts=True)
            keys, times = _summed(np.concatenate((keys, fresh)), np.concatenate((times, often)))

    length = 0
    for row in rows:
        for piece in runs(row):
            if len(piece) > 1:
                waiting.append(piece)
                length += len(piece)
            if length >= max(PAIRS_AT_ONCE, len(keys) // 2):
                join()
                length = 0
    if waiting:
        join()
    if not raw.any():
        raise _nothing()
    raw, times = -(-raw // repeats), -(-times // repeats)
    if not len(keys):
        return Counts(vocab, raw, raw, ())
    before = np.bincount(keys % vocab, minlength=vocab)
    return Counts(vocab, raw, np.where(before > 0, before, raw), (Level(keys, times, times),))


def _summed(keys: Integers, times: Integers) -> tuple[Integers, Integers]:
    """Each key once, in order, with the sum of its times."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(times[order], starts)


def _laid_out(pieces: Sequence[Integers], vocab: int) -> tuple[Integers, Integers]:
    """All tokens [n] one after the other, and the place of each in its piece [n]."""
    tokens = np.concatenate(pieces)
    if tokens.min() < 0 or tokens.max() >= vocab:
        raise DataError("ngram", f"token ids from {tokens.min()} to {tokens.max()}", f"0 to {vocab - 1}")
    lengths = np.array([len(piece) for piece in pieces])
    return tokens, np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _nothing() -> DataError:
    return DataError("ngram", "no tokens to count", "at least one row of two tokens")


def without_rare(counts: Counts, cutoffs: Sequence[int]) -> list[tuple[Integers, Integers, Integers]]:
    """(keys, adjusted counts, and of each context the adjusted counts left out), for the orders from two on.

    cutoffs: for each order from one on, the last holding for all above: an n-gram read at most so often is left out.
    """
    thresholds = [*cutoffs, *[cutoffs[-1] if cutoffs else 0] * counts.order][: counts.order]
    assert thresholds[0] == 0
    assert thresholds == sorted(thresholds)
    found = []
    contexts, place = counts.vocab, np.arange(counts.vocab)
    for level, threshold in zip(counts.levels, thresholds[1:], strict=True):
        kept = level.raw > threshold
        context, token = np.divmod(level.keys, counts.vocab)
        context = place[context]
        rare = ~kept & (context >= 0)
        left_out = np.bincount(context[rare], weights=level.adjusted[rare], minlength=contexts).astype(np.int64)
        found.append((context[kept] * counts.vocab + token[kept], level.adjusted[kept], left_out))
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        contexts = int(kept.sum())
    return found


def discounts_of(counts: Integers) -> Discounts:
    return discounts_from(*(int((counts == times).sum()) for times in (1, 2, 3, 4)))


def discounts_from(once: int, twice: int, thrice: int, four: int) -> Discounts:
    """D(1), D(2), D(3+) = i - (i + 1) Y n[i+1] / n[i] with Y = n1 / (n1 + 2 n2) (Chen and Goodman 1999, eq. 26).

    n[i]: how many counts are i.
    """
    if min(once, twice, thrice) == 0:
        return FALLBACK_DISCOUNTS
    share = once / (once + 2 * twice)
    found = (1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice)
    sound = all(0 < discount < times for times, discount in enumerate(found, start=1))
    return found if sound else FALLBACK_DISCOUNTS


def group(values: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """np.unique of numbers from zero on: values, where each stands, the place of each, how often.

    With value and position in one word, sorting needs no permutation beside it and is several times faster.
    """
    bits = len(values).bit_length()
    if not len(values) or int(values.max()).bit_length() + bits > 63:
        return np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    packed = np.sort(values << bits | np.arange(len(values)))
    order, ordered = packed & ((1 << bits) - 1), packed >> bits
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    times = np.diff(np.append(starts, len(values)))
    inverse = np.empty(len(values), dtype=np.int64)
    inverse[order] = np.repeat(np.arange(len(starts)), times)
    return ordered[starts], order[starts], inverse, times


def runs(rows: Batch | NDArray[Any]) -> Iterator[Integers]:
    """Runs of consecutive tokens: of a batch its first input and the targets after it, cut where segments change.

    Prompts are among them: a table has no other way to know what an answer follows.
    """
    if not isinstance(rows, Batch):
        yield from np.atleast_2d(np.asarray(rows)).astype(np.int64)
        return
    inputs, targets = rows.tokens.numpy(), rows.targets.numpy()
    segments = np.zeros(inputs.shape, dtype=np.int64) if rows.segments is None else rows.segments.numpy()
    for row, wanted, segment in zip(inputs, targets, segments, strict=True):
        cuts = 1 + np.flatnonzero(np.diff(segment) != 0)
        for start, stop in zip((0, *cuts), (*cuts, len(row)), strict=True):
            if segment[start] >= 0:
                yield np.concatenate((row[start : start + 1], wanted[start:stop]))

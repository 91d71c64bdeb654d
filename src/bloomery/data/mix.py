"""Batches: a weighted mixture of token files, as a pure function of (construction, step).

Nothing is remembered from step to step, so resuming is asking for the next number, and candidate and control see the
same bytes. Row g of the run (g = step * batch + row) belongs to the part that Tijdeman's algorithm assigns (The
chairman assignment problem, 1980): after any number of rows, every part's share is right to within one row. A part's
own rows are visited epoch after epoch, each in an order of its own: a keyed permutation, a Feistel network with cycle
walking (Black and Rogaway 2002), which needs no table.

Shares that do not sum to one within 1e-6, parts of different tokenizers and corpora shorter than a row are refused.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from bloomery.data.pack import DocumentRows, Rows, StreamRows
from bloomery.data.split import check_shares
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError

LONGEST_PERIOD = 10_000
"""Shares are kept exactly where their common denominator is at most this, else rounded to its multiples."""

_MASK64 = 2**64 - 1


@dataclass(slots=True)
class Batch:
    """targets[i, j] is the token after tokens[i, j]; where mask is False it is padding or stands in a prompt, and is
    not learned from.

    segments: positions of different numbers belong to different documents, those of -1 are padding; None in packing
    "stream". mask is None where every target is learned from.
    origins: for each row, its token file and its number there; later epochs read it again, in packing "stream" shifted.
    """

    tokens: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"] | None = None
    segments: Int[Tensor, "b t"] | None = None
    origins: tuple[tuple[str, int], ...] | None = None


class Batches:
    """batch_at(step) for any step >= 0, in any order and process. `first_step` goes on after a run of that length."""

    def __init__(
        self,
        parts: Sequence[tuple[TokenFile, float]],
        *,
        batch: int,
        context: int,
        seed: int,
        packing: Literal["stream", "documents"] = "stream",
        first_step: int = 0,
    ) -> None:
        """parts: [(token file, share of the rows)]. batch: rows a step. context: positions a row.

        Raises DataError for shares that do not sum to one, parts of different tokenizers, or one that is too short.
        """
        assert min(batch, context) >= 1
        assert first_step >= 0
        check_shares(((f"{file.path.parent.name}:{file.path.stem}", share) for file, share in parts), "data")
        first = parts[0][0]
        for file, _ in parts:
            if file.tokenizer_digest != first.tokenizer_digest:
                raise DataError(
                    str(file.path), "another tokenizer than " + str(first.path), "parts prepared with one tokenizer"
                )
        self.batch, self.context, self.seed, self.first_step = batch, context, seed, first_step
        self.packing = packing
        self.vocab = first.vocab
        self._rows: list[Rows] = [
            StreamRows(file, context) if packing == "stream" else DocumentRows(file, context) for file, _ in parts
        ]
        self._paths = [str(file.path) for file, _ in parts]
        self._end = first.end_of_document
        self._masked = packing == "documents" or any(file.prompts.any() for file, _ in parts)
        self._assignment = Assignment([share for _, share in parts])

    @property
    def tokens_per_step(self) -> int:
        """Positions of a batch; in packing "documents" some are padding."""
        return self.batch * self.context

    def epochs_after(self, steps: int) -> tuple[float, ...]:
        """How often each part has been read through after `steps` steps, those before `first_step` included."""
        rows = (self.first_step + steps) * self.batch
        return tuple(self._assignment.before(part, rows) / each.count for part, each in enumerate(self._rows))

    def batch_at(self, step: int) -> Batch:
        """The batch of a step, counted from `first_step`. int64, on the CPU."""
        assert step >= 0
        shape = (self.batch, self.context)
        tokens = np.full(shape, self._end, dtype=np.int64)
        targets = np.full(shape, self._end, dtype=np.int64)
        documents = self.packing == "documents"
        mask = np.zeros(shape, dtype=np.bool_) if self._masked else None
        segments = np.zeros(shape, dtype=np.int64) if documents else None
        origins: list[tuple[str, int]] = []
        first = (self.first_step + step) * self.batch
        for row in range(self.batch):
            part, ordinal = self._assignment.at(first + row)
            rows = self._rows[part]
            epoch, position = divmod(ordinal, rows.count)
            key = _mix(_mix(self.seed & _MASK64, part), epoch)
            index = permute(position, rows.count, key)
            found = rows.read(index, _mix(key, 1) % rows.shifts)
            origins.append((self._paths[part], index))
            length = len(found.targets)
            tokens[row, :length] = found.inputs
            targets[row, :length] = found.targets
            if mask is not None:
                mask[row, :length] = True if found.learned is None else found.learned
            if segments is not None:
                for start in found.breaks:
                    segments[row, start:] += 1
                segments[row, length:] = -1
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            None if mask is None else torch.from_numpy(mask),
            None if segments is None else torch.from_numpy(segments),
            tuple(origins),
        )


class Assignment:
    """Which part each row belongs to: a table of one period, whose counts are exact, repeated for ever.

    After any n rows part k has had between n*w - 1 and n*w + 1 of them.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._counts = whole_shares(shares)
        self._period = sum(self._counts)
        self._table = chairman(self._counts)
        self._before = [
            list(accumulate((taken == part for taken in self._table), initial=0)) for part in range(len(shares))
        ]

    def at(self, row: int) -> tuple[int, int]:
        """(part, how many rows that part has had before this one)."""
        part = self._table[row % self._period]
        return part, self.before(part, row)

    def before(self, part: int, row: int) -> int:
        """Rows of the part among the first `row`."""
        periods, rest = divmod(row, self._period)
        return periods * self._counts[part] + self._before[part][rest]


def whole_shares(shares: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of the shares, by largest remainder where no small ones are exact."""
    exact = [Fraction(share).limit_denominator(LONGEST_PERIOD) for share in shares]
    period = math.lcm(*(share.denominator for share in exact))
    if sum(exact) != 1 or period > LONGEST_PERIOD:
        period = LONGEST_PERIOD
        exact = [Fraction(share) / sum(map(Fraction, shares)) for share in shares]
    counts = [max(1, math.floor(share * period)) for share in exact]
    remainders = [float(share * period - count) for share, count in zip(exact, counts, strict=True)]
    for part in sorted(range(len(counts)), key=lambda k: (-remainders[k], k))[: max(0, period - sum(counts))]:
        counts[part] += 1
    return counts


def chairman(counts: Sequence[int]) -> list[int]:
    """Tijdeman's assignment of one period: sum(counts) numbers, part k occurring counts[k] times.

    In row n, among the parts that may take it without running ahead by more than a = 1 - 1/(2K - 2) rows, the one whose
    own deadline is nearest: the smallest (a - deficit) / share, the deficit being n * share - rows so far.
    """
    period, parts = sum(counts), len(counts)
    if parts == 1:
        return [0] * period
    twice = 2 * parts - 2  # all in whole numbers: times twice * period
    taken = [0] * parts
    table: list[int] = []
    for row in range(period):
        deficits = [twice * ((row + 1) * counts[k] - taken[k] * period) for k in range(parts)]
        able = [k for k in range(parts) if deficits[k] >= period]
        chosen = min(able, key=lambda k: (Fraction((twice - 1) * period - deficits[k], counts[k]), k))
        table.append(chosen)
        taken[chosen] += 1
    return table


def _mix(key: int, value: int) -> int:
    """A 64-bit hash of two numbers: splitmix64 (Steele, Lea and Flood 2014)."""
    z = (key + (value + 1) * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def permute(index: int, count: int, key: int) -> int:
    """Where a keyed permutation of range(count) sends `index`: six Feistel rounds, walked until below `count`.

    The two halves differ by at most one bit, so that fewer than two walks are expected.
    """
    assert 0 <= index < count
    bits = (count - 1).bit_length()
    right_bits = bits // 2
    high, low = (1 << (bits - right_bits)) - 1, (1 << right_bits) - 1
    keys = _round_keys(key)
    while True:
        left, right = index >> right_bits, index & low
        for one, other in keys:
            left ^= _scramble(right ^ one) & high
            right ^= _scramble(left ^ other) & low
        index = (left << right_bits) | right
        if index < count:
            return index


@functools.lru_cache(maxsize=256)
def _round_keys(key: int) -> tuple[tuple[int, int], ...]:
    return tuple((_mix(key, turn), _mix(key, turn + 1)) for turn in (0, 2, 4))


def _scramble(value: int) -> int:
    """28 bits of a 64-bit value, by two multiplications: the round function."""
    value = value * 0x9E3779B97F4A7C15 & _MASK64
    return ((value ^ value >> 29) * 0xBF58476D1CE4E5B9 & _MASK64) >> 36

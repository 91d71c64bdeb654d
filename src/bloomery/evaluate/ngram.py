"""Interpolated n-gram tables of order 1 to 5: the rival that every trained model has to beat.

Modified Kneser-Ney smoothing (Chen and Goodman 1999, section 3): with a(h w) the count of w after h, or below the
top order the number of different tokens seen before (h w),

    p(w | h) = max(a(h w) - D(a), 0) / sum_v a(h v)  +  gamma(h) p(w | h without its first token),

ending in the uniform distribution; D(1), D(2), D(3 and more) come from the counts of counts of the order, not from
held-out data. An n-gram that nothing stood before (a row's beginning) keeps its own count. Stored sparsely: the n-grams
of an order are sorted keys `context * vocab + token`, where `context` is the place of the first n - 1 tokens in the
order below. Refuses token ids beyond the vocabulary and damaged files.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.mix import Batch
from bloomery.errors import ArtifactError, DataError
from bloomery.measure import Group, Tally

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

FILE = "ngram.npz"
HIGHEST_ORDER = 5
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Where counts of counts say nothing, as for a handful of tokens (the values of KenLM)."""


class NGram:
    """A count table as a scorer: `logprobs` for any prefix, `document_logprobs` for targets alone."""

    def __init__(self, vocab: int, unigrams: Integers, levels: Sequence[tuple[Integers, Integers]]) -> None:
        """unigrams [v]: adjusted counts. levels: (sorted keys, adjusted counts) of the orders from two on; an order
        that no row is long enough for is left out."""
        self._unigrams = unigrams
        self._levels = tuple((keys, counts) for keys, counts in levels if len(keys))
        self.vocab, self.order = vocab, 1 + len(self._levels)
        alpha, gamma = _interpolation(np.zeros(vocab, dtype=np.int64), unigrams, 1)
        self._probability = alpha + gamma[0] / vocab
        self._alpha: list[Reals] = []
        self._gamma: list[Reals] = []
        contexts = vocab
        for keys, counts in self._levels:
            alpha, gamma = _interpolation(keys // vocab, counts, contexts)
            self._alpha.append(alpha)
            self._gamma.append(gamma)
            contexts = len(keys)

    @staticmethod
    def fit(
        rows: Iterable[Batch | NDArray[Any]],
        *,
        order: int,
        vocab: int,
        end_of_document: int | None = None,
        repeats: int = 1,
    ) -> NGram:
        """Count training batches, or arrays [n] or [b n] of token ids; a row's first token is history only.

        end_of_document: histories reach back to it and no further. repeats: how often the rows run through the same
        text; counts are divided by it, as a text read twice is no more evidence than one read once.
        """
        assert 1 <= order <= HIGHEST_ORDER
        assert repeats >= 1
        pieces = [piece for row in rows for piece in _pieces(row) if len(piece) > 1]
        if not pieces:
            raise DataError("ngram", "no tokens to count", "at least one row of two tokens")
        tokens = np.concatenate(pieces)
        if tokens.min() < 0 or tokens.max() >= vocab:
            raise DataError("ngram", f"token ids from {tokens.min()} to {tokens.max()}", f"0 to {vocab - 1}")
        lengths = np.array([len(piece) for piece in pieces])
        place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)

        raw = np.bincount(tokens[place > 0], minlength=vocab)
        unigrams = -(-raw // repeats)
        levels: list[tuple[Integers, Integers]] = []
        index = tokens
        for length in range(2, order + 1):
            whole = place >= length - 1
            if length > 2 and end_of_document is not None:
                whole[1:] &= tokens[:-1] != end_of_document
            whole[1:] &= index[:-1] >= 0
            ends = np.flatnonzero(whole)
            keys, first, inverse, raw = np.unique(
                index[ends - 1] * vocab + tokens[ends], return_index=True, return_inverse=True, return_counts=True
            )
            below = levels[-1][1] if levels else unigrams
            before = np.bincount(index[ends[first]], minlength=len(below))
            adjusted = np.where(before > 0, before, below)
            if levels:
                levels[-1] = (levels[-1][0], adjusted)
            else:
                unigrams = adjusted
            levels.append((keys, -(-raw // repeats)))
            index = np.full(len(tokens), -1, dtype=np.int64)
            index[ends] = inverse
        return NGram(vocab, unigrams, levels)

    def _contexts(self, tokens: Integers) -> list[Integers]:
        """For each history length from one on: its place in the table at every position, -1 where it was never seen."""
        found = [tokens]
        for keys, _ in self._levels[:-1]:
            before = np.concatenate(([-1], found[-1][:-1]))
            found.append(self._find(keys, before, tokens))
        return found

    def _find(self, keys: Integers, contexts: Integers, tokens: Integers) -> Integers:
        """The place of (context, token) among `keys`, or -1."""
        wanted = contexts * self.vocab + tokens
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((contexts >= 0) & (keys[at] == wanted), at, -1)

    def document_logprobs(self, tokens: Integers) -> Reals:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        targets = tokens[1:]
        probability = self._probability[targets]
        levels = zip(self._contexts(tokens), self._levels, self._alpha, self._gamma, strict=False)
        for ends, (keys, _), alpha, gamma in levels:
            context = ends[:-1]
            at = self._find(keys, context, targets)
            own = np.where(at >= 0, alpha[at], 0.0)
            probability = np.where(context >= 0, own + gamma[context] * probability, probability)
        return np.log(probability)

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        rows = tokens.cpu().numpy().astype(np.int64)
        out = np.empty((*rows.shape, self.vocab))
        out[:] = self._probability
        for number, row in enumerate(rows):
            levels = zip(self._contexts(row), self._levels, self._alpha, self._gamma, strict=False)
            for ends, (keys, _), alpha, gamma in levels:
                for position, context in enumerate(ends):
                    if context >= 0:
                        start, stop = np.searchsorted(keys, (context * self.vocab, (context + 1) * self.vocab))
                        out[number, position] *= gamma[context]
                        out[number, position, keys[start:stop] - context * self.vocab] += alpha[start:stop]
        return torch.from_numpy(np.log(out)).to(tokens.device)

    def tally(self) -> Tally:
        """Numbers and bytes as stored: 64-bit keys and 32-bit counts. Looking up multiplies nothing to speak of."""
        entries = sum(len(keys) for keys, _ in self._levels)
        stored = self.vocab + 2 * entries
        return Tally({"table": Group(stored, stored, bits=(32 * self.vocab + 96 * entries) / stored)})

    def save(self, folder: Path) -> None:
        """Write `ngram.npz` into the folder; whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {"vocab": np.array(self.vocab), "counts_1": self._unigrams.astype(np.int32)}
        for order, (keys, counts) in enumerate(self._levels, start=2):
            arrays |= {f"keys_{order}": keys, f"counts_{order}": counts.astype(np.int32)}
        temporary = folder / f".{FILE}.{os.getpid()}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
            os.replace(temporary, folder / FILE)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ArtifactError(str(folder), f"cannot be written: {error.strerror or error}") from error

    @staticmethod
    def load(folder: Path) -> NGram:
        """Raises ArtifactError where the file is missing or damaged."""
        path = folder / FILE
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                order = sum(name.startswith("counts_") for name in stored)
                arrays = {name: stored[name].astype(np.int64) for name in stored}
            vocab, unigrams = int(arrays["vocab"]), arrays["counts_1"]
            levels = [(arrays[f"keys_{n}"], arrays[f"counts_{n}"]) for n in range(2, order + 1)]
        except FileNotFoundError:
            raise ArtifactError(str(path), "does not exist", "a saved n-gram table", "fit it again") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactError(str(path), f"damaged ({error})", hint="fit it again") from None
        sizes = [vocab, *(len(keys) for keys, _ in levels)]
        sound = len(unigrams) == vocab and all(
            len(keys) == len(counts) and (np.diff(keys) > 0).all() and _within(keys, below * vocab)
            for (keys, counts), below in zip(levels, sizes, strict=False)
        )
        if not sound:
            raise ArtifactError(str(path), "damaged (its tables do not fit together)", hint="fit it again")
        return NGram(vocab, unigrams, levels)


def _within(keys: Integers, bound: int) -> bool:
    return len(keys) == 0 or (keys[0] >= 0 and keys[-1] < bound)


def _interpolation(contexts: Integers, counts: Integers, n_contexts: int) -> tuple[Reals, Reals]:
    """alpha: the discounted share of each entry in its context. gamma: what each context leaves to the order below."""
    discounts = np.array((0.0, *discounts_of(counts)))[np.minimum(counts, 3)]
    totals = np.bincount(contexts, weights=counts, minlength=n_contexts)
    taken = np.bincount(contexts, weights=discounts, minlength=n_contexts)
    alpha = (counts - discounts) / np.maximum(totals[contexts], 1)
    gamma = np.where(totals > 0, taken / np.maximum(totals, 1), 1.0)
    return alpha, gamma


def discounts_of(counts: Integers) -> tuple[float, float, float]:
    """D(1), D(2), D(3+) = i - (i + 1) Y n[i+1] / n[i] with Y = n1 / (n1 + 2 n2) (Chen and Goodman 1999, eq. 26)."""
    once, twice, thrice, four = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if min(once, twice, thrice) == 0:
        return FALLBACK_DISCOUNTS
    share = once / (once + 2 * twice)
    found = (1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice)
    sound = all(0 < discount < times for times, discount in enumerate(found, start=1))
    return found if sound else FALLBACK_DISCOUNTS


def _pieces(rows: Batch | NDArray[Any]) -> Iterator[Integers]:
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

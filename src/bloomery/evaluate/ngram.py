"""Interpolated n-gram tables of order 1 to 7: the rival that every trained model has to beat.

Modified Kneser-Ney smoothing (Chen and Goodman 1999, section 3): with a(h w) the count of w after h, or below the
top order the number of different tokens seen before (h w),

    p(w | h) = max(a(h w) - D(a), 0) / sum_v a(h v)  +  gamma(h) p(w | h without its first token),

ending in the uniform distribution; D(1), D(2), D(3 and more) come from the counts of counts of the order, not from
held-out data. An n-gram that nothing stood before (a row's beginning) keeps its own count. With cutoffs, n-grams read
too rarely are left out (`ngram_counts.without_rare`) after discounts and sums are taken, and gamma(h) is all that the
others leave of one: the probabilities sum to one whatever is left out. Stored sparsely: the n-grams of an order are
sorted keys `context * vocab + token`, where `context` is the place of the first n - 1 tokens in the order below.
Refuses token ids beyond the vocabulary and damaged files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.mix import Batch
from bloomery.errors import ArtifactError
from bloomery.evaluate.ngram_counts import Counts, Discounts, Integers, discounts_of, without_rare
from bloomery.evaluate.ngram_files import FILE, read_arrays, write_arrays
from bloomery.measure import Group, Tally

Reals = NDArray[np.float64]

HIGHEST_ORDER = 7


class NGram:
    """A count table as a scorer: `logprobs` for any prefix, `document_logprobs` for targets alone."""

    def __init__(
        self,
        vocab: int,
        unigrams: Integers,
        levels: Sequence[tuple[Integers, Integers]],
        *,
        left_out: Sequence[Integers | None] | None = None,
        discounts: Sequence[Discounts] | None = None,
    ) -> None:
        """unigrams [v]: adjusted counts. levels: (sorted keys, adjusted counts) of the orders from two on; an order
        that no row is long enough for is left out. left_out: for each level and context, the counts that cutoffs took
        away. discounts: of each order, where the counts that are left do not tell them."""
        there = [number for number, (keys, _) in enumerate(levels) if len(keys)]
        self._unigrams = unigrams
        self._levels = tuple(levels[number] for number in there)
        self._left_out = tuple(left_out[number] if left_out else None for number in there)
        self._discounts = None if discounts is None else tuple(discounts[: 1 + len(there)])
        self.vocab, self.order = vocab, 1 + len(self._levels)
        taken = self._discounts or [discounts_of(counts) for counts in (unigrams, *(two for _, two in self._levels))]
        alpha, gamma = _interpolation(np.zeros(vocab, dtype=np.int64), unigrams, 1, taken[0], None)
        self._probability = alpha + gamma[0] / vocab
        self._alpha: list[Reals] = []
        self._gamma: list[Reals] = []
        contexts = vocab
        for (keys, counts), rare, discount in zip(self._levels, self._left_out, taken[1:], strict=True):
            alpha, gamma = _interpolation(keys // vocab, counts, contexts, discount, rare)
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
        cutoffs: Sequence[int] = (),
    ) -> NGram:
        """The table of these rows: see `Counts.of`. cutoffs: see `without_rare`; none, nothing is left out."""
        assert 1 <= order <= HIGHEST_ORDER
        counts = Counts.of(rows, order=order, vocab=vocab, end_of_document=end_of_document, repeats=repeats)
        return NGram.of(counts, cutoffs)

    @staticmethod
    def of(counts: Counts, cutoffs: Sequence[int] = ()) -> NGram:
        """The table of what was counted."""
        whole = [(level.keys, level.adjusted) for level in counts.levels]
        if not any(cutoffs[: counts.order]):
            return NGram(counts.vocab, counts.adjusted, whole)
        kept = without_rare(counts, cutoffs)
        discounts = [discounts_of(counts.adjusted), *(discounts_of(adjusted) for _, adjusted in whole)]
        levels = [(keys, adjusted) for keys, adjusted, _ in kept]
        left_out = [rare if rare.any() else None for keys, _, rare in kept if len(keys)]
        if all(rare is None for rare in left_out):
            return NGram(counts.vocab, counts.adjusted, levels)
        return NGram(counts.vocab, counts.adjusted, levels, left_out=left_out, discounts=discounts)

    def _places(self, tokens: Integers) -> list[Integers]:
        """For each length from one on: the place of the n-gram that ends at every position, -1 where it is not there.

        That of the highest order is no history of anything, but says at once where each target stands."""
        found = [tokens]
        for keys, _ in self._levels:
            before = np.concatenate(([-1], found[-1][:-1]))
            found.append(self._find(keys, before, tokens))
        return found

    def _find(self, keys: Integers, contexts: Integers, tokens: Integers) -> Integers:
        """The place of (context, token) among `keys`, or -1. Looked up in order, which keeps to what is in cache."""
        places = np.full(len(tokens), -1, dtype=np.int64)
        known = np.flatnonzero(contexts >= 0)
        wanted = contexts[known] * self.vocab + tokens[known]
        order = np.argsort(wanted)
        wanted = wanted[order]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        places[known[order]] = np.where(keys[at] == wanted, at, -1)
        return places

    def document_probabilities(self, tokens: Integers) -> Reals:
        """Probability [n] of each token after the first of tokens [n + 1], given those before it."""
        probability = self._probability[tokens[1:]]
        places = self._places(tokens)
        for contexts, own, alpha, gamma in zip(places, places[1:], self._alpha, self._gamma, strict=False):
            context, at = contexts[:-1], own[1:]
            share = np.where(at >= 0, alpha[at], 0.0)
            probability = np.where(context >= 0, share + gamma[context] * probability, probability)
        return probability

    def document_logprobs(self, tokens: Integers) -> Reals:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        return np.log(self.document_probabilities(tokens))

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        rows = tokens.cpu().numpy().astype(np.int64)
        out = np.empty((*rows.shape, self.vocab))
        for number, row in enumerate(rows):
            places = self._places(row)[: max(1, self.order - 1)]
            for position in range(len(row)):
                out[number, position] = self.after([int(one[position]) for one in places])
        return torch.from_numpy(np.log(out)).to(tokens.device)

    def after(self, contexts: Sequence[int]) -> Reals:
        """Probability [v] of every next token. contexts: the places of the histories, the shortest first, -1 where
        one is not there.

        The candidates of each order get their share, and all others what it leaves: one pass over the vocabulary an
        order, and no look-up for a token that no order knows."""
        out = self._probability.copy()
        for context, (keys, _), alpha, gamma in zip(contexts, self._levels, self._alpha, self._gamma, strict=False):
            if context >= 0:
                start, stop = np.searchsorted(keys, (context * self.vocab, (context + 1) * self.vocab))
                out *= gamma[context]
                out[keys[start:stop] - context * self.vocab] += alpha[start:stop]
        return out

    def stream(self) -> Stream:
        """A reader for one token after another."""
        return Stream(self)

    def place(self, order: int, context: int, token: int) -> int:
        """The place of (context, token) among the n-grams of an order from two on, or -1."""
        if context < 0:
            return -1
        keys, wanted = self._levels[order - 2][0], context * self.vocab + token
        at = int(np.searchsorted(keys, wanted))
        return at if at < len(keys) and keys[at] == wanted else -1

    def tally(self) -> Tally:
        """Numbers and bytes as stored: 64-bit keys and 32-bit counts; where counts were left out, as much again for
        each of their contexts. Looking up multiplies nothing to speak of."""
        entries = sum(len(keys) for keys, _ in self._levels)
        sums = sum(len(rare) for rare in self._left_out if rare is not None)
        discounts = 0 if self._discounts is None else 3 * len(self._discounts)
        stored = self.vocab + 2 * entries + sums + discounts
        bits = (32 * (self.vocab + sums) + 96 * entries + 64 * discounts) / stored
        return Tally({"table": Group(stored, stored, bits=bits)})

    @property
    def entries(self) -> int:
        """How many n-grams are stored, single tokens included."""
        return self.vocab + sum(len(keys) for keys, _ in self._levels)

    def save(self, folder: Path) -> None:
        """Write `ngram.npz` into the folder; whole or not at all."""
        write_arrays(folder, self.arrays())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is stored."""
        arrays: dict[str, NDArray[Any]] = {"vocab": np.array(self.vocab), "counts_1": self._unigrams.astype(np.int32)}
        for order, (keys, counts) in enumerate(self._levels, start=2):
            arrays |= {f"keys_{order}": keys, f"counts_{order}": counts.astype(np.int32)}
        for order, rare in enumerate(self._left_out, start=2):
            arrays |= {} if rare is None else {f"left_out_{order}": rare.astype(np.int32)}
        if self._discounts is not None:
            arrays["discounts"] = np.array(self._discounts)
        return arrays

    @staticmethod
    def load(folder: Path) -> NGram:
        """Raises ArtifactError where the file is missing or damaged."""
        return NGram.of_arrays(read_arrays(folder / FILE), folder / FILE)

    @staticmethod
    def of_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> NGram:
        """The table of `arrays`, read from `path`. Raises ArtifactError where they do not fit together."""
        order = sum(name.startswith("counts_") for name in arrays)
        try:
            vocab, unigrams = int(arrays["vocab"]), arrays["counts_1"].astype(np.int64)
            levels = [
                (arrays[f"keys_{n}"].astype(np.int64), arrays[f"counts_{n}"].astype(np.int64))
                for n in range(2, order + 1)
            ]
            left_out = [
                arrays[f"left_out_{n}"].astype(np.int64) if f"left_out_{n}" in arrays else None
                for n in range(2, order + 1)
            ]
            told = arrays.get("discounts")
            discounts = None if told is None else [(float(a), float(b), float(c)) for a, b, c in told]
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(str(path), f"damaged ({error})", hint="fit it again") from None
        if not _sound(vocab, unigrams, levels, left_out, discounts):
            raise ArtifactError(str(path), "damaged (its tables do not fit together)", hint="fit it again")
        return NGram(vocab, unigrams, levels, left_out=left_out, discounts=discounts)


class Stream:
    """Reads a text token by token, with the numbers of `NGram.logprobs` to the last bit."""

    def __init__(self, table: NGram) -> None:
        self._table = table
        self._contexts: list[int] = []

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        before = self._contexts[: max(0, self._table.order - 2)]
        self._contexts = [token, *(self._table.place(n, context, token) for n, context in enumerate(before, start=2))]

    def probabilities(self) -> Reals:
        """[v]: of every token that may come next."""
        return self._table.after(self._contexts[: self._table.order - 1])


def _sound(
    vocab: int,
    unigrams: Integers,
    levels: Sequence[tuple[Integers, Integers]],
    left_out: Sequence[Integers | None],
    discounts: Sequence[Discounts] | None,
) -> bool:
    sizes = [vocab, *(len(keys) for keys, _ in levels)]
    if len(unigrams) != vocab or (unigrams < 0).any():
        return False
    for (keys, counts), rare, contexts in zip(levels, left_out, sizes, strict=False):
        if len(keys) != len(counts) or (np.diff(keys) <= 0).any() or not _within(keys, contexts * vocab):
            return False
        if (counts <= 0).any() or (rare is not None and (len(rare) != contexts or (rare < 0).any())):
            return False
    if discounts is None:
        return all(rare is None for rare in left_out)
    return len(discounts) == len(sizes) and all(0 < one < n for each in discounts for n, one in enumerate(each, 1))


def _within(keys: Integers, bound: int) -> bool:
    return len(keys) == 0 or (keys[0] >= 0 and keys[-1] < bound)


def _interpolation(
    contexts: Integers, counts: Integers, n_contexts: int, discounts: Discounts, left_out: Integers | None
) -> tuple[Reals, Reals]:
    """alpha: the discounted share of each entry in its context. gamma: what each context leaves to the order below."""
    each = np.array((0.0, *discounts))[np.minimum(counts, 3)]
    rare = np.zeros(n_contexts) if left_out is None else left_out
    totals = np.bincount(contexts, weights=counts, minlength=n_contexts) + rare
    taken = np.bincount(contexts, weights=each, minlength=n_contexts) + rare
    alpha = (counts - each) / np.maximum(totals[contexts], 1)
    gamma = np.where(totals > 0, taken / np.maximum(totals, 1), 1.0)
    return alpha, gamma

"""Episodic caches beside an n-gram table: what a document has said already, it says again (Kuhn and De Mori 1990).

A cache of window w and order k predicts from the last w tokens read: how often each token followed the last k,

    c(t | h) = #(h t among the last w) / #(h among the last w),
    p(t) = a(0) p_table(t) + sum of a(w, k) c(t | last k tokens)  over the caches that know their history,

with weights a that sum to one. They depend on the longest history that each window knows (a bucket), and are found by
expectation-maximisation on documents that the table was not fitted on, with a few made-up observations that favour the
table where a bucket has hardly any. A cache that does not know its history has no weight, so every p sums to one. The
first token of a document is history only. Refuses damaged files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.ngram import NGram, Reals
from bloomery.evaluate.ngram_counts import Integers, group
from bloomery.evaluate.ngram_files import FILE, read_arrays, write_arrays
from bloomery.measure import Group, Tally

WINDOWS = (500, 5000)
LONGEST_HISTORY = 3
MADE_UP_TOKENS = 10.0
"""Observations of every bucket before any was made: half of them the table's, the rest shared by the caches."""
ROUNDS, CLOSE_ENOUGH = 200, 1e-5


class TableStream(Protocol):
    """Reads a text token by token."""

    def push(self, token: int) -> None: ...

    def probabilities(self) -> Reals: ...


class Table(Protocol):
    """What caches can stand beside: an n-gram table, or another count model."""

    vocab: int
    order: int

    def document_probabilities(self, tokens: Integers) -> Reals: ...

    def stream(self) -> TableStream: ...

    def tally(self) -> Tally: ...

    def arrays(self) -> dict[str, NDArray[Any]]: ...


class Cached:
    """A table with its caches, as a scorer. Rows and documents do not depend on each other."""

    def __init__(self, table: Table, windows: Sequence[int], longest: int, weights: Float[np.ndarray, "buckets c"]):
        """windows: in tokens. longest: histories of 0 to so many tokens. weights: of the table, then of each window's
        caches from no history to the longest; every row sums to one."""
        self.table, self.windows, self.longest, self.weights = table, tuple(windows), longest, weights
        self.vocab, self.order = table.vocab, table.order

    @staticmethod
    def fit(
        table: Table,
        documents: Iterable[Integers],
        *,
        windows: Sequence[int] = WINDOWS,
        longest: int = LONGEST_HISTORY,
    ) -> Cached:
        """documents: each [n + 1], end_of_document first, of a part that the table was not fitted on."""
        held_out = [document for document in documents if len(document) > 1]
        if not held_out:
            raise DataError("ngram", "no tokens to find the caches' weights on", "at least one document")
        shares, known = zip(*(shares_of(one, table.vocab, windows, longest) for one in held_out), strict=True)
        own = np.concatenate([table.document_probabilities(one) for one in held_out])
        parts = np.column_stack((own, np.concatenate(shares).reshape(len(own), -1)))
        buckets = _bucket(np.concatenate(known), longest)
        present = _presents(len(windows), longest)
        weights = np.stack([_weights(parts[buckets == number], one) for number, one in enumerate(present)])
        return Cached(table, windows, longest, weights)

    def document_logprobs(self, tokens: Integers) -> Reals:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        shares, known = shares_of(tokens, self.vocab, self.windows, self.longest)
        weights = self.weights[_bucket(known, self.longest)]
        probability = weights[:, 0] * self.table.document_probabilities(tokens)
        for number, share in enumerate(shares.reshape(len(shares), -1).T, start=1):
            probability = probability + weights[:, number] * share
        return np.log(probability)

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        out = np.empty((*tokens.shape, self.vocab))
        for number, row in enumerate(tokens.tolist()):
            stream = self.stream()
            for position, token in enumerate(row):
                stream.push(token)
                out[number, position] = stream.probabilities()
        return torch.from_numpy(np.log(out)).to(tokens.device)

    def stream(self) -> Stream:
        """A reader for one token after another."""
        return Stream(self)

    def tally(self) -> Tally:
        """The table's, the weights, and as buffers the tokens that the caches remember."""
        caches = Group(self.weights.size, self.weights.shape[1], buffers=max(self.windows), bits=64)
        return Tally({**self.table.tally().groups, "caches": caches})

    def save(self, folder: Path, name: str = FILE) -> None:
        """Write one file into the folder, table and caches; whole or not at all."""
        more: dict[str, NDArray[Any]] = {
            "cache_windows": np.array(self.windows),
            "cache_longest": np.array(self.longest),
            "cache_weights": self.weights,
        }
        write_arrays(folder, {**self.table.arrays(), **more}, name)


def open_table(folder: Path) -> NGram | Cached:
    """What was saved in the folder. Raises ArtifactError where it is missing or damaged."""
    path = folder / FILE
    arrays = read_arrays(path)
    table = NGram.of_arrays(arrays, path)
    return cached_from(table, arrays, path) or table


def cached_from(table: Table, arrays: Mapping[str, NDArray[Any]], path: Path) -> Cached | None:
    """The table with its caches, where its arrays, read from `path`, have some. Raises ArtifactError for damage."""
    found = [arrays.get(f"cache_{name}") for name in ("windows", "longest", "weights")]
    if all(one is None for one in found):
        return None
    try:
        windows, longest, weights = (
            [int(one) for one in arrays["cache_windows"]],
            int(arrays["cache_longest"]),
            found[2],
        )
        assert weights is not None
        caches = len(windows) * (longest + 1)
        sound = (
            weights.shape == ((longest + 2) ** len(windows), 1 + caches)
            and min(windows) > 0
            and bool((weights >= 0).all())
            and not weights[~_presents(len(windows), longest)].any()
            and np.allclose(weights.sum(-1), 1, atol=1e-12)
        )
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ArtifactError(str(path), f"damaged ({error!r})", hint="fit it again") from None
    if not sound:
        raise ArtifactError(str(path), "damaged (its caches do not fit together)", hint="fit it again")
    return Cached(table, windows, longest, weights)


class Stream:
    """Reads a text token by token, with the numbers of `Cached.document_logprobs`."""

    def __init__(self, model: Cached) -> None:
        self._model = model
        self._table: TableStream = model.table.stream()
        self._tokens: list[int] = []
        self._seen: list[list[dict[tuple[int, ...], Counter[int]]]] = [
            [defaultdict(Counter) for _ in range(model.longest + 1)] for _ in model.windows
        ]

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._tokens.append(token)
        self._table.push(token)
        newest = len(self._tokens) - 1
        for window, tables in zip(self._model.windows, self._seen, strict=True):
            for history, seen in enumerate(tables):
                if newest >= max(1, history):
                    seen[self._before(newest, history)][token] += 1
                oldest = newest - window
                if oldest >= max(1, history):
                    self._forget(seen, self._before(oldest, history), self._tokens[oldest])

    def _before(self, place: int, history: int) -> tuple[int, ...]:
        return tuple(self._tokens[place - history : place])

    @staticmethod
    def _forget(seen: dict[tuple[int, ...], Counter[int]], context: tuple[int, ...], token: int) -> None:
        seen[context][token] -= 1
        if not seen[context][token]:
            del seen[context][token]
        if not seen[context]:
            del seen[context]

    def probabilities(self) -> Reals:
        """[v]: of every token that may come next."""
        end, longest = len(self._tokens), self._model.longest
        found = [
            [seen.get(self._before(end, history)) if history <= end else None for history, seen in enumerate(tables)]
            for tables in self._seen
        ]
        depths = np.array([sum(one is not None for one in each) for each in found])
        weights = self._model.weights[_bucket(depths, longest)]
        out = weights[0] * self._table.probabilities()
        for weight, counts in zip(weights[1:], (one for each in found for one in each), strict=True):
            if counts is not None:
                out[list(counts)] += weight * (np.array(list(counts.values())) / counts.total())
        return out


def shares_of(
    tokens: Integers, vocab: int, windows: Sequence[int], longest: int
) -> tuple[Float[np.ndarray, "n w k"], Int[np.ndarray, "n w"]]:
    """What each cache gives each token after the first of tokens [n + 1], and how many of a window's caches know their
    history: those of the shortest, as whoever knows a history knows its end."""
    count = len(tokens) - 1
    shares = np.zeros((count, len(windows), longest + 1))
    known = np.zeros((count, len(windows)), dtype=np.int64)
    histories = np.zeros(count, dtype=np.int64)  # an id for the last k tokens before each target; -1: there are fewer
    grams = tokens  # and for the k + 1 tokens that end at each position
    for history in range(longest + 1):
        wholes = np.where(histories >= 0, grams[1:], -1)
        for number, window in enumerate(windows):
            times = _times_before(histories, window)
            shares[:, number, history] = _times_before(wholes, window) / np.maximum(times, 1)
            known[:, number] += times > 0
        histories = np.where(np.arange(count) >= history, grams[:-1], -1)
        longer = grams.copy()
        longer[1:] = grams[:-1] * vocab + tokens[1:]
        grams = group(longer)[2]
    return shares, known


def _times_before(ids: Integers, window: int) -> Integers:
    """How often each id stands among the `window` before it; -1 is nothing."""
    size = len(ids)
    ordered = np.sort((ids + 1) * size + np.arange(size))
    place = ordered % size
    first = np.searchsorted(ordered, ordered - np.minimum(place, window))
    times = np.empty(size, dtype=np.int64)
    times[place] = np.arange(size) - first
    return np.where(ids >= 0, times, 0)


def _bucket(depths: Int[np.ndarray, "... w"], longest: int) -> Any:
    """The number of a row of weights: which caches of each window know their history."""
    return np.ravel_multi_index(tuple(np.moveaxis(depths, -1, 0)), (longest + 2,) * depths.shape[-1])


def _presents(windows: int, longest: int) -> NDArray[np.bool_]:
    """[buckets, c]: who may have a weight, the table and the caches that know their history."""
    buckets = np.arange((longest + 2) ** windows)
    depths = np.stack(np.unravel_index(buckets, (longest + 2,) * windows), axis=-1)
    caches = np.arange(longest + 1) < depths[:, :, None]
    return np.column_stack((np.ones(len(buckets), dtype=np.bool_), caches.reshape(len(buckets), -1)))


def _weights(parts: Float[np.ndarray, "n c"], present: NDArray[np.bool_]) -> Float[np.ndarray, " c"]:
    """EM for the weights of a mixture of fixed distributions, with MADE_UP_TOKENS as the prior's."""
    caches = present.sum() - 1
    start = np.where(present, 0.5 / max(1, caches), 0.0)
    start[0] = 0.5 if caches else 1.0
    weights = start
    for _ in range(ROUNDS if caches and len(parts) else 0):
        shares = parts * weights
        shares /= shares.sum(-1, keepdims=True)
        newer = (shares.sum(0) + MADE_UP_TOKENS * start) / (len(parts) + MADE_UP_TOKENS)
        done = np.abs(newer - weights).max() < CLOSE_ENOUGH
        weights = newer
        if done:
            break
    return weights / weights.sum()

"""Episodic caches beside an n-gram table (caches.py), saved with it. Refuses damaged files.

A table knows its own short history, so documents are scored whole. Rows and documents do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import ArtifactError
from bloomery.evaluate.caches import LONGEST_HISTORY, WINDOWS, Caches, presents
from bloomery.evaluate.decoding import read_through
from bloomery.evaluate.ngram import NGram, Reals
from bloomery.evaluate.ngram_counts import Integers
from bloomery.evaluate.ngram_files import FILE, read_arrays, write_arrays
from bloomery.measure import Group, Tally
from bloomery.model.interface import Stream as Reader


class Table(Protocol):
    """What caches can stand beside: an n-gram table, or another count model."""

    vocab: int
    order: int

    def document_probabilities(self, tokens: Integers) -> Reals: ...

    def stream(self) -> Reader: ...

    def tally(self) -> Tally: ...

    def arrays(self) -> dict[str, NDArray[Any]]: ...


class Cached:
    """A table with its caches, as a scorer."""

    def __init__(self, table: Table, caches: Caches) -> None:
        self.table, self.caches = table, caches
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
        own = [table.document_probabilities(one) for one in held_out]
        return Cached(table, Caches.fit(own, held_out, table.vocab, windows, longest))

    def document_logprobs(self, tokens: Integers) -> Reals:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        return np.log(self.caches.mixed(self.table.document_probabilities(tokens), tokens, self.vocab))

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        return read_through(self, tokens)

    def stream(self) -> Stream:
        """A reader for one token after another."""
        return Stream(self)

    def tally(self) -> Tally:
        """The table's, the weights, and as buffers the tokens that the caches remember."""
        weights = self.caches.weights
        caches = Group(weights.size, weights.shape[1], buffers=max(self.caches.windows), bits=64)
        return Tally({**self.table.tally().groups, "caches": caches})

    def save(self, folder: Path, name: str = FILE) -> None:
        """Write one file into the folder, table and caches; whole or not at all."""
        more: dict[str, NDArray[Any]] = {
            "cache_windows": np.array(self.caches.windows),
            "cache_longest": np.array(self.caches.longest),
            "cache_weights": self.caches.weights,
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
            and not weights[~presents(len(windows), longest)].any()
            and np.allclose(weights.sum(-1), 1, atol=1e-12)
        )
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ArtifactError(str(path), f"damaged ({error!r})", hint="fit it again") from None
    if not sound:
        raise ArtifactError(str(path), "damaged (its caches do not fit together)", hint="fit it again")
    return Cached(table, Caches(tuple(windows), longest, weights))


class Stream:
    """Reads a text token by token, with the numbers of `Cached.document_logprobs`."""

    def __init__(self, model: Cached) -> None:
        self._table, self._caches = model.table.stream(), model.caches.reader()

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._table.push(token)
        self._caches.push(token)

    def probabilities(self) -> Reals:
        """[v]: of every token that may come next."""
        return self._caches.mixed(self._table.probabilities())

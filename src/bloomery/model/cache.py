"""What attention remembers: of sequences of one length (`Cache`), or of rows that come and go (`CacheRows`).
That is keys and values, or where the mixing is recurrent, sums over them.

A row keeps its place until it ends; then the last row moves into it, so that the rows of a step are always the first
ones, and a view is enough. Of keys and values, what a row does not fill is zero: attention gives it no weight, but zero
times a NaN that an earlier row left would be NaN.

Refuses a row without a free slot, and one that is too long (assertions: the caller counts).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Cache:
    """Keys and values of every layer [b m length d], and how many positions are filled: one number, or one a row."""

    layers: list[tuple[Tensor, Tensor]]
    filled: int | Tensor = 0
    recurrent: bool = False
    """The layers hold sums [b ...] that know no positions."""

    @property
    def longest(self) -> int:
        return int(self.filled.max()) if isinstance(self.filled, Tensor) else self.filled


class CacheRows:
    """interface.Rows for a model whose state is a Cache. `empty`: a cache of as many rows as there are slots."""

    def __init__(self, empty: Cache, length: int) -> None:
        keys = empty.layers[0][0]
        self.slots, self.length = keys.shape[0], length
        self._layers, self._recurrent = empty.layers, empty.recurrent
        self._filled = torch.zeros(self.slots, dtype=torch.long, device=keys.device)
        self._rows = 0

    def add(self, state: Cache) -> None:
        filled, row = state.longest, self._rows
        assert row < self.slots
        assert filled <= self.length
        for kept, given in zip(self._layers, state.layers, strict=True):
            for own, other in zip(kept, given, strict=True):
                if self._recurrent:
                    own[row] = other[0]
                    continue
                own[row, :, :filled] = other[0, :, :filled]
                own[row, :, filled:] = 0
        self._filled[row] = filled
        self._rows += 1

    def drop(self, row: int) -> None:
        assert 0 <= row < self._rows
        last = self._rows - 1
        if row != last:
            for kept in self._layers:
                for own in kept:
                    own[row] = own[last]
            self._filled[row] = self._filled[last]
        self._rows = last

    def state(self) -> Cache:
        layers = [(keys[: self._rows], values[: self._rows]) for keys, values in self._layers]
        return Cache(layers, self._filled[: self._rows], self._recurrent)

    def update(self, state: Cache) -> None:
        assert isinstance(state.filled, Tensor)
        self._filled[: self._rows] = state.filled

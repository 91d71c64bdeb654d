"""What wakes, sleeps and predicts: the interface between the stages of this system and its memories.

A variant is a `Memory`, a function `open(folder) -> Memory`, and what it makes: a scorer. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bloomery.measure import Tally


class Memory(Protocol):
    """What wakes, sleeps and predicts. Everything it knows is in what `save` writes."""

    vocab: int

    def read(self, tokens: NDArray[np.integer[Any]], boundaries: NDArray[np.integer[Any]]) -> None:
        """Wake: stream tokens [n]; boundaries: where documents begin (indices into tokens)."""
        ...

    def sleep(self, phases: Sequence[str], random: np.random.Generator) -> Mapping[str, float]:
        """phases: subset, in order, of non_rem, rem, replay, prune, merge. Returns metrics under memory/."""
        ...

    def measures(self) -> Mapping[str, float]:
        """memory/store_bytes, prototypes, schemas, compression, forgotten_share, entropy, ..."""
        ...

    def save(self, folder: Path) -> None:
        """Exact state; same bytes for the same history (hash-identical resume)."""
        ...

    def tally(self) -> Tally: ...

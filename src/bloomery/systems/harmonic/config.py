"""The shape of a harmonic transformer, and what it weighs in closed form. No torch here.

Every linear of the blocks is generated from as many components of its basis as fit into the dense count divided by
`compression` (sizes.py). Embeddings, norms and head stay dense, so the whole model shrinks by less than its linears.
Refuses a compression that leaves some linear without a single component.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig, total
from bloomery.systems.harmonic.sizes import BLOCKS, largest_compression, size

Basis = Literal["sine", "monarch", "lowrank", "kron", "hashed", "row_gauss", "row_gabor", "row_cos"]


class HarmonicConfig(DenseConfig):
    """A dense shape, and how its linears are stored."""

    basis: Basis = "sine"
    """How a linear's matrix is generated; README.md has the formulas."""
    compression: float = Field(ge=1.0)
    """How many times fewer numbers each linear stores than its matrix has; at least this, components being whole."""
    omega: float = Field(default=3.0, gt=0.0)
    """Of `sine`: its frequency. Measured: 1 behaves like a low-rank matrix, 10 is too wiggly to learn, 3 is best."""
    blocks: int = Field(default=BLOCKS, ge=1)
    """Of `monarch`: at most so many, the largest number that divides both sides of a linear."""
    atom_width: Literal["narrow", "wide"] = "narrow"
    """Of `row_gauss` and `row_gabor`, at the start: 0.7 of an index step, or, as the documented failure, half the K-th
    part of a row."""

    @model_validator(mode="after")
    def _every_linear_has_a_component(self) -> Self:
        for name, inputs, outputs in self.linear_shapes():
            if size(self.basis, inputs, outputs, self.compression).components < 1:
                most = largest_compression(self.basis, inputs, outputs)
                raise ValueError(
                    f"compression {self.compression:g} leaves {name} ({inputs} -> {outputs}) without a component;"
                    f" at most {math.floor(most * 10) / 10:g} at this width"
                )
        return self

    def linear_shapes(self) -> Iterator[tuple[str, int, int]]:
        """Name, inputs and outputs of the linears of one block."""
        yield "query", self.width, self.width
        yield "key", self.width, self.kv_width
        yield "value", self.width, self.kv_width
        yield "output", self.width, self.width
        yield "gate", self.width, self.feed_forward_width
        yield "up", self.width, self.feed_forward_width
        yield "down", self.feed_forward_width, self.width

    def dense(self) -> DenseConfig:
        """The same shape with its matrices stored."""
        return DenseConfig.model_validate(self.model_dump(include=set(DenseConfig.model_fields)))

    def tally(self, vocab: int) -> Tally:
        """Operations per token are those of the dense shape where a matrix is generated and multiplied as one. What
        generating it costs falls due per pass, not per token: `model.tally.Flops.per_pass`."""
        dense = self.dense().tally(vocab)
        linears: dict[str, list[Group]] = {"attention": [], "feed_forward": []}
        for name, inputs, outputs in self.linear_shapes():
            one = size(self.basis, inputs, outputs, self.compression)
            group = Group(one.stored, one.stored, flops_per_token=one.flops_per_token)
            linears["feed_forward" if name in ("gate", "up", "down") else "attention"] += [group] * self.layers
        tally = Tally({**dense.groups, **total(linears)})
        return tally if tally.stored == dense.stored else Tally(tally.groups, dense.stored)

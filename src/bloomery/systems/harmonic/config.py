"""The shape of a harmonic transformer, and what it weighs in closed form. No torch here.

Every linear of the blocks stores r (outputs + inputs) + outputs numbers in place of outputs * inputs; r is the largest
for which that is at most the dense count divided by `compression`. Embeddings, norms and head stay dense, so the whole
model shrinks by less than its linears. Refuses a compression that leaves some linear without a single component.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig


class HarmonicConfig(DenseConfig):
    """A dense shape, and how its linears are stored."""

    basis: Literal["sine"] = "sine"
    """W = diag(gain) sin(omega U V)."""
    compression: float = Field(ge=1.0)
    """How many times fewer numbers each linear stores than its matrix has; at least this, rank being whole."""
    omega: float = Field(default=3.0, gt=0.0)
    """Frequency of the sine. Measured: 1 behaves like a low-rank matrix, 10 is too wiggly to learn, 3 is best."""

    @model_validator(mode="after")
    def _every_linear_has_a_component(self) -> Self:
        for name, inputs, outputs in self.linear_shapes():
            if rank(inputs, outputs, self.compression) < 1:
                most = inputs * outputs / (inputs + 2 * outputs)
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
        """Operations per token are those of the dense shape: the generated matrix is multiplied as one. What generating
        it costs falls due per pass, not per token: `model.tally.Flops.per_pass`."""
        dense = self.dense().tally(vocab)
        stored = {"attention": 0, "feed_forward": 0}
        for name, inputs, outputs in self.linear_shapes():
            group = "feed_forward" if name in ("gate", "up", "down") else "attention"
            stored[group] += self.layers * stored_numbers(inputs, outputs, rank(inputs, outputs, self.compression))
        groups = dict(dense.groups)
        for group, count in stored.items():
            groups[group] = Group(count, count, flops_per_token=dense.groups[group].flops_per_token)
        tally = Tally(groups)
        return tally if tally.stored == dense.stored else Tally(groups, dense.stored)


def rank(inputs: int, outputs: int, compression: float) -> int:
    """The largest r with r (outputs + inputs) + outputs <= outputs inputs / compression; below 1: none fits."""
    return math.floor((outputs * inputs / compression - outputs) / (outputs + inputs))


def stored_numbers(inputs: int, outputs: int, components: int) -> int:
    """U [outputs r], V [r inputs] and one gain per output."""
    return components * (outputs + inputs) + outputs

"""HashedLinear: W[o, i] = sign(o, i) value[place(o, i)], weights shared at random (Chen et al. 2015, arXiv 1504.04788).

Sign and place are a 32-bit mix of the entry's number (the finaliser of MurmurHash3), computed anew in every pass, so
that nothing but the values is stored; where there are as many values as entries, each has its own. W has full rank.
value ~ N(0, gain^2 / in). Every matrix of a shape is shared alike, whatever the seed: what is drawn is the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.layers import Generated, Generator
from bloomery.systems.harmonic.metric import Metric

LOW = 0xFFFFFFFF


def places(outputs: int, inputs: int, values: int, like: Tensor) -> tuple[Int64[Tensor, " oi"], Float[Tensor, " oi"]]:
    """(which value, which sign) of every entry, row after row."""
    entry = torch.arange(outputs * inputs, device=like.device)
    if values == outputs * inputs:
        return entry, torch.ones_like(entry, dtype=like.dtype)
    mixed = mix(entry)
    return (mixed >> 1) % values, (1 - 2 * (mixed & 1)).to(like.dtype)


def mix(number: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """MurmurHash3's 32-bit finaliser: a bijection of 0 ... 2^32 - 1 in which every bit depends on every other."""
    number = (number + 0x9E3779B9) & LOW
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) & LOW
    number = ((number ^ (number >> 13)) * 0xC2B2AE35) & LOW
    return number ^ (number >> 16)


@dataclass(frozen=True, slots=True)
class Sharing(Generator):
    outputs: int
    inputs: int

    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        (value,) = factors
        place, sign = places(self.outputs, self.inputs, value.numel(), value)
        return (value[place] * sign).view(self.outputs, self.inputs)

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        (value,) = factors
        place, sign = places(self.outputs, self.inputs, value.numel(), value)
        into_value = torch.zeros_like(value).index_add(0, place, weight_gradient.reshape(-1) * sign)
        return (value[place] * sign).view(self.outputs, self.inputs), (into_value,)


class HashedLinear(Generated):
    def __init__(
        self, inputs: int, outputs: int, values: int, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(inputs, outputs, Sharing(outputs, inputs), gain=gain, compute_dtype=compute_dtype)
        self.value = nn.Parameter(torch.empty(values))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        self.value.normal_(0.0, self.scales()["value"].initial_scale, generator=generator)

    def scales(self) -> dict[str, Scale]:
        scale = self.initial_gain / math.sqrt(self.inputs)
        return {"value": Scale("factor", scale, decay=True, matrix=False)}

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """Least squares: each value the mean of its entries, weighted by the variances of their inputs."""
        place, sign = places(self.outputs, self.inputs, self.value.numel(), weight)
        weights = metric.variances(self.inputs).repeat(self.outputs)
        into = torch.zeros(self.value.numel(), dtype=torch.float64)
        total = into.index_add(0, place, weights * sign * weight.reshape(-1))
        self.value.copy_(total / into.index_add(0, place, weights).clamp_min(1e-300))

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, values={self.value.numel()}"

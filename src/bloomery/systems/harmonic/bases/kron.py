"""KronLinear: W = sum_t A_t (x) B_t, A [t p q], B [t out/p in/q]: W[a out/p + b, c in/q + d] = sum_t A[t a c] B[t b d].

p and q are the largest divisors of out and in that are not above their square roots. Rearranged to [p q, out/p in/q]
W is a product of rank t (Van Loan and Pitsianis 1993), while its own rank is full from the first term on.
A ~ N(0, 1 / q), B ~ N(0, gain^2 q / (in t)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.bases.lowrank import truncated
from bloomery.systems.harmonic.layers import Generated, Generator
from bloomery.systems.harmonic.metric import Metric
from bloomery.systems.harmonic.sizes import halves


@dataclass(frozen=True, slots=True)
class KronSum(Generator):
    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        left, right = factors
        rearranged = torch.mm(left.flatten(1).t(), right.flatten(1))
        return back(rearranged, left.shape[1:], right.shape[1:])

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        left, right = factors
        turned = rearrange(weight_gradient, left.shape[1:], right.shape[1:])
        into_left = torch.mm(right.flatten(1), turned.t()).view(left.shape)
        into_right = torch.mm(left.flatten(1), turned).view(right.shape)
        return self.generate(*factors), (into_left, into_right)


def rearrange(weight: Float[Tensor, "o i"], left: torch.Size, right: torch.Size) -> Float[Tensor, "pq rs"]:
    """One row for each entry of a left factor, the block that it multiplies laid out flat."""
    (p, q), (r, s) = left, right
    return weight.reshape(p, r, q, s).permute(0, 2, 1, 3).reshape(p * q, r * s)


def back(rearranged: Float[Tensor, "pq rs"], left: torch.Size, right: torch.Size) -> Float[Tensor, "o i"]:
    """The inverse of `rearrange`."""
    (p, q), (r, s) = left, right
    return rearranged.view(p, q, r, s).permute(0, 2, 1, 3).reshape(p * r, q * s)


class KronLinear(Generated):
    def __init__(
        self, inputs: int, outputs: int, terms: int, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(inputs, outputs, KronSum(), gain=gain, compute_dtype=compute_dtype)
        self.terms = terms
        (p, r), (q, s) = halves(outputs), halves(inputs)
        self.left = nn.Parameter(torch.empty(terms, p, q))
        self.right = nn.Parameter(torch.empty(terms, r, s))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        for name, scale in self.scales().items():
            self.get_parameter(name).normal_(0.0, scale.initial_scale, generator=generator)

    def scales(self) -> dict[str, Scale]:
        columns, rest = self.left.shape[2], self.right.shape[2]
        return {
            "left": Scale("factor", 1.0 / math.sqrt(columns), decay=True, matrix=False),
            "right": Scale("factor", self.initial_gain / math.sqrt(rest * self.terms), decay=True, matrix=False),
        }

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """The nearest sum of so many Kronecker products; a covariance is not looked at, as it has no such form."""
        left, right = truncated(rearrange(weight, self.left.shape[1:], self.right.shape[1:]), self.terms)
        self.left.copy_(left.t().reshape(self.left.shape))
        self.right.copy_(right.reshape(self.right.shape))

    def extra_repr(self) -> str:
        (p, q), (r, s) = self.left.shape[1:], self.right.shape[1:]
        return f"{self.inputs} -> {self.outputs}, terms={self.terms}, {p} x {q} by {r} x {s}"

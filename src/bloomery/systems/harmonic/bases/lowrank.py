"""LowRankLinear: W = U V, U [out r], V [r in]; applied as U (V x). r (out + in) numbers and as many multiply-adds.

V ~ N(0, 1 / in) makes r features of variance one, U ~ N(0, gain^2 / r) sums them to gain^2. The rank of W is r, which
limits it (spec 2.1): the control of every basis of full rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.kernels.factorised import LowRankDecode
from bloomery.systems.harmonic.layers import Factorised
from bloomery.systems.harmonic.metric import Metric


class LowRankLinear(Factorised):
    on_gpu = "low_rank"

    def __init__(
        self, inputs: int, outputs: int, rank: int, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
        self.rank = rank
        self.out_factor = nn.Parameter(torch.empty(outputs, rank))
        self.in_factor = nn.Parameter(torch.empty(rank, inputs))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        for name, scale in self.scales().items():
            self.get_parameter(name).normal_(0.0, scale.initial_scale, generator=generator)

    def product(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return F.linear(F.linear(x, self.in_factor.to(x.dtype)), self.out_factor.to(x.dtype))

    def pack(self) -> LowRankDecode:
        return LowRankDecode.pack(self.out_factor, self.in_factor)

    def scales(self) -> dict[str, Scale]:
        return {
            "out_factor": Scale("factor", self.initial_gain / math.sqrt(self.rank), decay=True, matrix=True),
            "in_factor": Scale("factor", 1.0 / math.sqrt(self.inputs), decay=True, matrix=True),
        }

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """The nearest matrix of this rank (Eckart and Young 1936), its singular values divided evenly."""
        left, right = truncated(metric.apply(weight), self.rank)
        self.out_factor.copy_(left)
        self.in_factor.copy_(metric.undo(right))

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, rank={self.rank}"


def truncated(matrix: Float[Tensor, "... o i"], rank: int) -> tuple[Float[Tensor, "... o r"], Float[Tensor, "... r i"]]:
    """Two factors whose product is the nearest matrix of this rank."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    roots = values[..., :rank].sqrt()
    return left[..., :rank] * roots[..., None, :], roots[..., :, None] * right[..., :rank, :]

"""MonarchLinear: block-diagonal, shuffle, block-diagonal (Dao et al. 2022, arXiv 2204.00595), with a free inner width.

    h[q] = R_q x[q]   R_q [k, in/b]        b blocks of the input, k features each
    h -> h'           [b k] read as [k b] and cut into b pieces of k: piece p has k of the b k features, from k
                      different blocks while k <= b
    y[p] = L_p h'[p]  L_p [out/b, k]

k (out + in) numbers and as many multiply-adds, as a low-rank matrix of rank k, but a rank of up to b k. Seen as b x b
blocks, block (p, q) of W is of rank k/b, rounded up or down: below k = b that leaves 1 - k/b of the blocks zero.
R ~ N(0, b / in) and L ~ N(0, gain^2 / k). b is the largest divisor of both sides that is at most `blocks`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.bases.lowrank import truncated
from bloomery.systems.harmonic.kernels.factorised import MonarchDecode
from bloomery.systems.harmonic.layers import Factorised
from bloomery.systems.harmonic.metric import Metric
from bloomery.systems.harmonic.sizes import BLOCKS, blocks_of


class MonarchLinear(Factorised):
    on_gpu = "monarch"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        block_width: int,
        *,
        blocks: int = BLOCKS,
        gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
        self.blocks, self.block_width = blocks_of(inputs, outputs, blocks), block_width
        self.in_blocks = nn.Parameter(torch.empty(self.blocks, block_width, inputs // self.blocks))
        self.out_blocks = nn.Parameter(torch.empty(self.blocks, outputs // self.blocks, block_width))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        for name, scale in self.scales().items():
            self.get_parameter(name).normal_(0.0, scale.initial_scale, generator=generator)

    def product(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        dtype, b, k = x.dtype, self.blocks, self.block_width
        rows = x.reshape(-1, b, self.inputs // b)
        inner = torch.bmm(rows.transpose(0, 1), self.in_blocks.to(dtype).transpose(1, 2))  # [b rows k]
        shuffled = inner.permute(2, 0, 1).reshape(b, k, -1).transpose(1, 2)  # [b rows k]
        out = torch.bmm(shuffled, self.out_blocks.to(dtype).transpose(1, 2))
        return out.transpose(0, 1).reshape(*x.shape[:-1], self.outputs)

    def pack(self) -> MonarchDecode:
        return MonarchDecode.pack(self.in_blocks, self.out_blocks)

    def scales(self) -> dict[str, Scale]:
        fan_in = self.inputs // self.blocks
        return {
            "in_blocks": Scale("factor", 1.0 / math.sqrt(fan_in), decay=True, matrix=False),
            "out_blocks": Scale("factor", self.initial_gain / math.sqrt(self.block_width), decay=True, matrix=False),
        }

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """Of every block the nearest matrix of as many ranks as features lead through it: blocks share no number, so
        that without a covariance this is the nearest matrix of the form. With one, inputs of different blocks are
        taken to be uncorrelated."""
        b, k = self.blocks, self.block_width
        height, width = self.outputs // b, self.inputs // b
        feature = torch.arange(b * k)
        piece, source = feature // k, feature % b
        for q in range(b):
            part = metric.part(q * width, (q + 1) * width)
            for p in range(b):
                through = feature[(piece == p) & (source == q)]
                block = weight[p * height : (p + 1) * height, q * width : (q + 1) * width]
                left, right = truncated(part.apply(block), len(through))
                found = left.shape[1]  # beyond the block's own rank features stay at zero
                self.out_blocks[p][:, through % k] = 0.0
                self.in_blocks[q][through // b] = 0.0
                self.out_blocks[p][:, through[:found] % k] = left.to(self.out_blocks.dtype)
                self.in_blocks[q][through[:found] // b] = part.undo(right).to(self.in_blocks.dtype)

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, blocks={self.blocks}, block_width={self.block_width}"

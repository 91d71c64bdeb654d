"""Decoding with factorised matrices: one vector in, one out, the factors in bfloat16 and every sum in float32.

    LowRankDecode   y = U (V x)                     U [o r], V [r i]
    MonarchDecode   y[p] = L_p shuffle(R x)[p]      R [b k i/b], L [b o/b k], as bases.monarch has it

One call reads each stored number once, in order: at batch 1 the bytes are the time, and a factorised matrix has as many
times fewer as it compresses. The C side (`factorised.c`) works on panels made by `pack`, a GPU's is `on_gpu.py`;
without them torch multiplies by the same rounded factors in float32, and the results differ by the order of sums alone.
Refuses nothing but what is no vector of the right length; gradients do not pass.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import chosen

GROUP, WIDEST = 32, 64
SOURCE = Path(__file__).parent / "factorised.c"
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64
FUNCTIONS = {
    "low_rank": (None, *[_POINTER] * 5, *[_LONG] * 3),
    "monarch": (None, *[_POINTER] * 5, *[_LONG] * 4),
}


def library() -> ctypes.CDLL | None:
    return native.load(SOURCE, FUNCTIONS)


@functools.cache
def _kernels() -> ctypes.CDLL:
    """For weights that were packed, which they are only if there is a library; looking it up again costs 20 us."""
    found = library()
    assert found is not None, "packed by this process"
    return found


def padded(count: int) -> int:
    """`count` rounded up to whole registers."""
    return -(-count // GROUP) * GROUP


def panels(matrix: Float[Tensor, "o i"]) -> BFloat16[Tensor, " n"]:
    """The matrix as factorised.c reads it: 64 outputs at a time, transposed, the last ones padded with zeros to 32."""
    return torch.cat([_panel(rows) for rows in matrix.to(torch.bfloat16).split(WIDEST)])


def _panel(rows: BFloat16[Tensor, "o i"]) -> BFloat16[Tensor, " n"]:
    wide = torch.nn.functional.pad(rows.t(), (0, padded(len(rows)) - len(rows)))
    return wide.reshape(-1, 2, GROUP // 2).transpose(1, 2).flatten()  # words of outputs j and j + 16


@dataclass(frozen=True, slots=True)
class LowRankDecode:
    out_factor: BFloat16[Tensor, "o r"]
    in_factor: BFloat16[Tensor, "r i"]
    packed: tuple[BFloat16[Tensor, " n"], BFloat16[Tensor, " m"]] | None
    """V and U in panels; None where the C library is not used."""

    @staticmethod
    def pack(out_factor: Float[Tensor, "o r"], in_factor: Float[Tensor, "r i"]) -> LowRankDecode:
        left, right = out_factor.detach().to(torch.bfloat16), in_factor.detach().to(torch.bfloat16)
        packed = (panels(right), panels(left)) if _can_pack(left) else None
        return LowRankDecode(left, right, packed)

    def __call__(self, x: Float[Tensor, " i"]) -> Float[Tensor, " o"]:
        """x in any dtype; the result is float32."""
        (outputs, rank), inputs = self.out_factor.shape, self.in_factor.shape[1]
        x = _vector(x, inputs)
        if chosen.serves(x.device, "low_rank"):
            from bloomery.systems.harmonic.kernels import on_gpu

            return on_gpu.low_rank(self.out_factor, self.in_factor, x)
        if self.packed is None:
            return torch.mv(self.out_factor.float(), torch.mv(self.in_factor.float(), x))
        right, left = self.packed
        room = x.new_empty(padded(rank) + padded(outputs))
        y = room[padded(rank) :]
        _kernels().low_rank(
            right.data_ptr(), left.data_ptr(), x.data_ptr(), room.data_ptr(), y.data_ptr(), inputs, rank, outputs
        )
        return y[:outputs]


@dataclass(frozen=True, slots=True)
class MonarchDecode:
    in_blocks: BFloat16[Tensor, "b k i"]
    out_blocks: BFloat16[Tensor, "b o k"]
    packed: tuple[BFloat16[Tensor, " n"], BFloat16[Tensor, " m"]] | None

    @staticmethod
    def pack(in_blocks: Float[Tensor, "b k i"], out_blocks: Float[Tensor, "b o k"]) -> MonarchDecode:
        first, second = in_blocks.detach().to(torch.bfloat16), out_blocks.detach().to(torch.bfloat16)
        packed = None
        if _can_pack(first):
            packed = (torch.cat([panels(block) for block in first]), torch.cat([panels(block) for block in second]))
        return MonarchDecode(first, second, packed)

    def __call__(self, x: Float[Tensor, " i"]) -> Float[Tensor, " o"]:
        """x in any dtype; the result is float32."""
        blocks, width, inputs = self.in_blocks.shape
        outputs = self.out_blocks.shape[1]
        x = _vector(x, blocks * inputs)
        if chosen.serves(x.device, "monarch"):
            from bloomery.systems.harmonic.kernels import on_gpu

            return on_gpu.monarch(self.in_blocks, self.out_blocks, x)
        if self.packed is None:
            inner = torch.bmm(self.in_blocks.float(), x.view(blocks, inputs, 1))
            shuffled = inner.view(blocks, width).t().reshape(blocks, width, 1)
            return torch.bmm(self.out_blocks.float(), shuffled).flatten()
        first, second = self.packed
        room = x.new_empty(width + GROUP + blocks * width + blocks * outputs + GROUP)
        y = room[width + GROUP + blocks * width :]
        _kernels().monarch(
            first.data_ptr(), second.data_ptr(), x.data_ptr(), room.data_ptr(), y.data_ptr(),
            blocks, inputs, width, outputs,
        )  # fmt: skip
        return y[: blocks * outputs]


def _can_pack(factor: Tensor) -> bool:
    return factor.device.type == "cpu" and library() is not None


def _vector(x: Tensor, inputs: int) -> Float[Tensor, " i"]:
    assert x.shape == (inputs,), f"a vector of {inputs}, not {tuple(x.shape)}"
    return x.detach().to(torch.float32).contiguous()

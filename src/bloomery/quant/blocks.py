"""q8_0 and q4_0, the block formats of GGUF: 32 values with one half-precision scale d, bit for bit.

q8_0, 34 bytes: d, then 32 signed bytes q. d = max|x| / 127, q = x/d rounded half away from zero, x ~ d q.
q4_0, 18 bytes: d, then 16 bytes, each with value i in its low and value i + 16 in its high half.
    d = (the value of largest magnitude, the first of such) / -8, q = min(15, trunc(x/d + 8.5)), x ~ d (q - 8).

|x - unpacked| <= |d|/2, in q4_0 up to |d| where x is near -max: 16 steps reach from -8 to 7 only. The scale is rounded
to half precision after the values were chosen, which adds at most 127 or 8 times that rounding.

Source: quantize_row_q8_0_ref and quantize_row_q4_0_ref of ggml, and gguf-py's quants.py, which rounds x/d + 8.5 once;
so does this file (in C the last bit depends on whether the compiler fuses the multiply and the add). Where 1/d is not
finite, d is zero in half precision, and so is all that is unpacked; ggml leaves q undefined there, here it is that of
x = 0.
It refuses what half precision has no scale for: values that are not finite, or too large.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

BLOCK = 32
Q8_0_BYTES, Q4_0_BYTES = 2 + BLOCK, 2 + BLOCK // 2


def pack_q8_0(blocks: Float[Tensor, "n 32"]) -> UInt8[Tensor, "n 34"]:
    """float32 in. Raises ValueError where a scale is not finite in half precision."""
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    steps = blocks * _inverse(scale)
    whole = steps.abs().floor()
    rounded = (whole + (2 * (steps.abs() - whole)).floor()) * steps.sign()
    return torch.cat((_half(scale), rounded.to(torch.int8).view(torch.uint8)), dim=1)


def unpack_q8_0(packed: UInt8[Tensor, "n 34"]) -> Float[Tensor, "n 32"]:
    scale, values = packed.split((2, BLOCK), dim=1)
    return _single(scale) * values.contiguous().view(torch.int8).float()


def pack_q4_0(blocks: Float[Tensor, "n 32"]) -> UInt8[Tensor, "n 18"]:
    """float32 in. Raises ValueError where a scale is not finite in half precision."""
    largest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = (largest + 0.0) / -8  # of a block of -0.0 GGUF's largest is 0.0, with which its loop begins
    steps = (blocks.double() * _inverse(scale).double() + 8.5).float()  # exact in double, rounded once
    low, high = steps.trunc().clamp(0, 15).to(torch.uint8).split(BLOCK // 2, dim=1)
    return torch.cat((_half(scale), low | (high << 4)), dim=1)


def unpack_q4_0(packed: UInt8[Tensor, "n 18"]) -> Float[Tensor, "n 32"]:
    scale, pairs = packed.split((2, BLOCK // 2), dim=1)
    values = torch.cat((pairs & 15, pairs >> 4), dim=1)
    return _single(scale) * (values.float() - 8)


def _inverse(scale: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
    inverse = 1 / scale
    return torch.where(inverse.isfinite(), inverse, 0.0)


def _half(scale: Float[Tensor, "n 1"]) -> UInt8[Tensor, "n 2"]:
    half = scale.half()
    if not half.isfinite().all():
        raise ValueError(f"a block's scale is {scale[~half.isfinite()][0].item():g}; half precision ends at 65504")
    return half.view(torch.uint8)


def _single(scale: UInt8[Tensor, "n 2"]) -> Float[Tensor, "n 1"]:
    return scale.contiguous().view(torch.float16).float()

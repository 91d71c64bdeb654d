"""The sine basis' matrix, W = diag(gain) sin(omega U V), in one pass over it (sine.c).

Torch takes three: the phase is written, its sine is written over it, and the gain is multiplied in. Phase, sine and
gain are float32 in both and differ by the order of sums and the last bits of the sine. It is for a matrix that is kept,
as in prefill or training: made anew for one vector it costs many times the product with a stored matrix (spec 2.6).
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.model import native

SOURCE = Path(__file__).parent / "sine.c"
FUNCTIONS = {"sine_matrix": (ctypes.c_int, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3)}


def library() -> ctypes.CDLL | None:
    return native.load(SOURCE, FUNCTIONS)


def sine_matrix(
    out_coordinates: Float[Tensor, "o r"], in_coordinates: Float[Tensor, "r i"], gain: Float[Tensor, " o"], omega: float
) -> Float[Tensor, "o i"]:
    """The matrix in float32, without gradient; phases of 2^15 and more lose accuracy in C."""
    left = (out_coordinates.detach() * omega).float().contiguous()
    right, scale = in_coordinates.detach().float().contiguous(), gain.detach().float().contiguous()
    if left.device.type == "cpu" and (kernels := library()) is not None:
        (outputs, rank), inputs = left.shape, right.shape[1]
        out = left.new_empty(outputs, inputs)
        pointers = (tensor.data_ptr() for tensor in (left, right, scale, out))
        if kernels.sine_matrix(*pointers, outputs, rank, inputs) == 0:
            return out
    return torch.mm(left, right).sin_().mul_(scale[:, None])

"""The same decoding on a GPU, in Triton: low-rank and Monarch in two launches, and the sine matrix times one vector.

Importing this needs triton (it comes with torch's CUDA builds). It was never run on a GPU: the tests compile it for one
and run it through triton's interpreter on a CPU, which proves the arithmetic and says nothing of speed; layers use
low-rank and Monarch on a GPU that finds small cases as by their formula (chosen.py), and keep the sine matrix. Weights
are bfloat16 (any type works), sums float32. A launch for each stage, as the second needs all of the first; an inner
vector of float32 between.

The sine product makes each tile of W = diag(gain) sin(omega U V) and uses it at once: it reads r (o + i) numbers in
place of o i, and pays one sine a weight. By the spec's roofline (2.6) that is 1.4 to 1.7 times faster than reading a
stored matrix at best, and only at batch 1; phases of 2^15 and more are not for it.
"""
# Kernels are written in triton's language, which is no typed Python:
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportIndexIssue=false
# pyright: reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

ROWS, COLUMNS = 16, 128
"""A tile: outputs and inputs. Small, so that a matrix of few rows still gives every multiprocessor work."""


@triton.jit
def _rows_kernel(
    weight, vector, out, outputs, inputs, out_step, block_step, in_block_step, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """out[o out_step + q block_step] = sum_i weight[q, o, i] vector[q in_block_step + i]; q: second program index."""
    o = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    q = tl.program_id(1)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for start in range(0, inputs, COLUMNS):
        i = start + tl.arange(0, COLUMNS)
        inside = (o[:, None] < outputs) & (i[None, :] < inputs)
        place = q.to(tl.int64) * outputs * inputs + o[:, None] * inputs + i[None, :]
        tile = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(vector + q * in_block_step + i, mask=i < inputs, other=0.0).to(tl.float32)
        total += tl.sum(tile * x[None, :], axis=1)
    tl.store(out + o * out_step + q * block_step, total, mask=o < outputs)


@triton.jit
def _sine_kernel(
    left, right, gain, vector, out, omega, outputs, inputs, rank,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    """out[o] = gain[o] sum_i sin(omega sum_r left[o, r] right[r, i]) vector[i]; RANK: a power of 2."""
    o, r = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, RANK)
    held = (o[:, None] < outputs) & (r[None, :] < rank)
    rows = tl.load(left + o[:, None] * rank + r[None, :], mask=held, other=0.0).to(tl.float32) * omega
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for start in range(0, inputs, COLUMNS):
        i = start + tl.arange(0, COLUMNS)
        inside = (r[:, None] < rank) & (i[None, :] < inputs)
        columns = tl.load(right + r[:, None] * inputs + i[None, :], mask=inside, other=0.0).to(tl.float32)
        # Not in TF32: ten bits of a phase of twenty are no phase.
        phase = tl.dot(rows, columns, input_precision="ieee")
        x = tl.load(vector + i, mask=i < inputs, other=0.0).to(tl.float32)
        total += tl.sum(tl.sin(phase) * x[None, :], axis=1)
    scale = tl.load(gain + o, mask=o < outputs, other=0.0).to(tl.float32)
    tl.store(out + o, total * scale, mask=o < outputs)


def low_rank(
    out_factor: Float[Tensor, "o r"], in_factor: Float[Tensor, "r i"], x: Float[Tensor, " i"]
) -> Float[Tensor, " o"]:
    """U (V x) in float32."""
    outputs, rank = out_factor.shape
    inner = torch.empty(rank, device=x.device, dtype=torch.float32)
    out = torch.empty(outputs, device=x.device, dtype=torch.float32)
    _launch(in_factor[None], x, inner, 1, 0, 0)
    _launch(out_factor[None], inner, out, 1, 0, 0)
    return out


def monarch(
    in_blocks: Float[Tensor, "b k i"], out_blocks: Float[Tensor, "b o k"], x: Float[Tensor, " n"]
) -> Float[Tensor, " m"]:
    """Block-diagonal, shuffle, block-diagonal, as bases.monarch has it; the first launch writes in shuffled order."""
    blocks, width, inputs = in_blocks.shape
    outputs = out_blocks.shape[1]
    inner = torch.empty(blocks * width, device=x.device, dtype=torch.float32)
    out = torch.empty(blocks * outputs, device=x.device, dtype=torch.float32)
    _launch(in_blocks, x, inner, blocks, 1, inputs)
    _launch(out_blocks, inner, out, 1, outputs, width)
    return out


def sine(
    out_coordinates: Float[Tensor, "o r"], in_coordinates: Float[Tensor, "r i"], gain: Float[Tensor, " o"],
    omega: float, x: Float[Tensor, " i"],
) -> Float[Tensor, " o"]:  # fmt: skip
    """diag(gain) sin(omega U V) x in float32, without W."""
    (outputs, rank), inputs = out_coordinates.shape, in_coordinates.shape[1]
    out = torch.empty(outputs, device=x.device, dtype=torch.float32)
    _sine_kernel[(triton.cdiv(outputs, ROWS),)](
        out_coordinates.contiguous(), in_coordinates.contiguous(), gain.contiguous(), x.contiguous(), out, omega,
        outputs, inputs, rank, ROWS=ROWS, COLUMNS=COLUMNS, RANK=max(16, triton.next_power_of_2(rank)),
    )  # fmt: skip
    return out


def _launch(
    weight: Float[Tensor, "q o i"], vector: Tensor, out: Tensor, out_step: int, block_step: int, in_block_step: int
) -> None:
    blocks, outputs, inputs = weight.shape
    grid = (triton.cdiv(outputs, ROWS), blocks)
    _rows_kernel[grid](
        weight.contiguous(), vector.contiguous(), out, outputs, inputs, out_step, block_step, in_block_step,
        ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip

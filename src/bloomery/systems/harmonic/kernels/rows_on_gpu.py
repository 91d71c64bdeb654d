"""Rows of atoms on a GPU, in Triton: decoding by scale space (rows.py), and the rows with their gradients (atoms.py).

    pyramid      the vector blurred by every width, a sum over REACH widths to both sides: C's recursion is no work for
                 many threads
    look_ups     y_o = the sum over atoms of four numbers of that table, weighted: W is never made
    make_rows    W[o, i] = sum_k a_ok atom_ok(i) of Gaussians, Gabor atoms or cosines, in one launch where torch takes
                 several passes over W for each of the K atoms
    rows_again   what dL/dW is to amplitudes and places, of all atoms at every index

Like on_gpu.py this was never run on a GPU: the tests compile it for one and run it through triton's interpreter, and a
GPU has to find small cases as by their formula before it is used (chosen.py). float32, no atomics: one call gives the
same bits as the next. Turns are float32, as torch's are: a frequency of f cycles a row is right to f 2^-24 turns. A
number that is not finite is not looked for.
"""
# Kernels are written in triton's language, which is no typed Python:
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.harmonic.kernels.atoms import KINDS, Kind

ROWS, COLUMNS, ATOMS, AGAIN = 16, 128, 64, 8
"""Of a tile: outputs, inputs, and how many atoms of a row are looked up, or made again, at once."""
REACH = 6.0
"""In widths: what lies beyond is below 2^-25 of a Gaussian's height."""


@triton.jit
def _pyramid_kernel(
    vector, out, inputs, step, last_level, smallest, log2_ratio, reach_in_widths,
    POSITIONS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """out[n step + l] = sum_m vector[m] exp(-(n - m)^2 / 2 s^2) / (s sqrt(2 pi)), s the width of min(l, last_level)."""
    middle = tl.program_id(0) * POSITIONS
    n = middle + tl.arange(0, POSITIONS)
    width = smallest * tl.exp2(tl.minimum(tl.program_id(1), last_level).to(tl.float32) * log2_ratio)
    # Before it is an integer: a width may be far beyond the row.
    reach = tl.minimum(reach_in_widths * width + 1.0, inputs * 1.0).to(tl.int32)
    end = tl.minimum(middle + POSITIONS + reach, inputs)
    total = tl.zeros((POSITIONS,), dtype=tl.float32)
    for start in range(tl.maximum(middle - reach, 0), end, TAPS):
        m = start + tl.arange(0, TAPS)
        u = (n[:, None] - m[None, :]).to(tl.float32) / width
        x = tl.load(vector + m, mask=m < end, other=0.0).to(tl.float32)
        total += tl.sum(tl.exp(-0.5 * u * u) * x[None, :], axis=1)
    tl.store(out + n * step + tl.program_id(1), total * (0.3989422804014327 / width), mask=n < inputs)


@triton.jit
def _look_ups_kernel(where, weights, table, out, outputs, atoms, step, ROWS: tl.constexpr, ATOMS: tl.constexpr):
    """out[o] = sum_k weights[o, k, :] . table[where[o, k] + (0, 1, step, step + 1)]."""
    o = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for start in range(0, atoms, ATOMS):
        k = start + tl.arange(0, ATOMS)
        held = (o[:, None] < outputs) & (k[None, :] < atoms)
        at = o[:, None].to(tl.int64) * atoms + k[None, :]
        first, four = table + tl.load(where + at, mask=held, other=0), weights + 4 * at
        value = tl.load(four, mask=held, other=0.0).to(tl.float32) * tl.load(first, mask=held, other=0.0)
        value += tl.load(four + 1, mask=held, other=0.0).to(tl.float32) * tl.load(first + 1, mask=held, other=0.0)
        first += step
        value += tl.load(four + 2, mask=held, other=0.0).to(tl.float32) * tl.load(first, mask=held, other=0.0)
        value += tl.load(four + 3, mask=held, other=0.0).to(tl.float32) * tl.load(first + 1, mask=held, other=0.0)
        total += tl.sum(value, axis=1)
    tl.store(out + o, total, mask=o < outputs)


@triton.jit
def _atom(i, one, two, three, four, unit, inputs, norm, KIND: tl.constexpr):
    """(the atom at i, its derivative by the angle, how far i lies from its middle, its width)

    KIND 0, Gaussian: one = centre / unit, two = log(width / unit), and how far is in widths. 1, Gabor: three = cycles
    per index step, four = phase. 2, cosine: one = cycles per row, two = phase, and how far is d angle / d one. norm:
    of an atom one index step wide, or of a cosine."""
    if KIND == 2:
        far = (i + 0.5) / inputs - 0.5
        turns, phase = one * far, two
        far *= 6.283185307179586
        width = one * 0.0 + 1.0
        height = far * 0.0 + norm
    else:
        width = unit * tl.exp(two)
        away = i - unit * one
        far = away / width
        height = tl.exp(-0.5 * far * far) * norm / tl.sqrt(width)
        turns, phase = three * away, four
    if KIND == 0:
        value, slope = height, height * 0.0
    else:
        angle = (turns - tl.floor(turns + 0.5)) * 6.283185307179586 + phase
        value, slope = height * tl.cos(angle), -height * tl.sin(angle)
    return value, slope, far, width


@triton.jit
def _make_rows_kernel(
    amplitude, one, two, three, four, out, outputs, inputs, atoms, unit, norm,
    KIND: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out[o, i] = sum_k amplitude[o, k] atom_ok(i), in the order of k."""
    o, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    index, inside = i.to(tl.float32)[None, :], o < outputs
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for k in range(atoms):
        at = o.to(tl.int64) * atoms + k
        first, second = tl.load(one + at, mask=inside, other=0.0), tl.load(two + at, mask=inside, other=0.0)
        third, fourth = tl.load(three + at, mask=inside, other=0.0), tl.load(four + at, mask=inside, other=0.0)
        value, _, _, _ = _atom(
            index, first[:, None], second[:, None], third[:, None], fourth[:, None], unit, inputs, norm, KIND
        )
        total += tl.load(amplitude + at, mask=inside, other=0.0)[:, None] * value
    held = inside[:, None] & (i[None, :] < inputs)
    tl.store(out + o[:, None].to(tl.int64) * inputs + i[None, :], total, mask=held)


@triton.jit
def _rows_again_kernel(
    gradient, amplitude, one, two, three, four, into_amplitude, into_one, into_two, into_three, into_four,
    inputs, atoms, unit, norm, KIND: tl.constexpr, ATOMS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Of one row, ATOMS at a time: the sums over i of gradient times an atom, its derivatives and their moments."""
    k, row = tl.program_id(0) * ATOMS + tl.arange(0, ATOMS), tl.program_id(1).to(tl.int64)
    at, inside = row * atoms + k, k < atoms
    first, second = tl.load(one + at, mask=inside, other=0.0), tl.load(two + at, mask=inside, other=0.0)
    third, fourth = tl.load(three + at, mask=inside, other=0.0), tl.load(four + at, mask=inside, other=0.0)
    whole = tl.zeros((ATOMS,), dtype=tl.float32)
    moment, square, turned, turned_moment = whole, whole, whole, whole
    for start in range(0, inputs, COLUMNS):
        i = start + tl.arange(0, COLUMNS)
        g = tl.load(gradient + row * inputs + i, mask=i < inputs, other=0.0)[None, :]
        value, slope, far, _ = _atom(
            i.to(tl.float32)[None, :], first[:, None], second[:, None], third[:, None], fourth[:, None],
            unit, inputs, norm, KIND,
        )  # fmt: skip
        value *= g
        whole += tl.sum(value, axis=1)
        if KIND != 2:
            value *= far
            moment += tl.sum(value, axis=1)
            square += tl.sum(value * far, axis=1)
        if KIND != 0:
            slope *= g
            turned += tl.sum(slope, axis=1)
            turned_moment += tl.sum(slope * far, axis=1)
    height = tl.load(amplitude + at, mask=inside, other=0.0)
    tl.store(into_amplitude + at, whole, mask=inside)
    if KIND == 2:
        tl.store(into_one + at, height * turned_moment, mask=inside)
        tl.store(into_two + at, height * turned, mask=inside)
    else:
        width = unit * tl.exp(second)
        by_centre = moment / width
        if KIND == 1:
            by_centre -= turned * third * 6.283185307179586
            tl.store(into_three + at, height * turned_moment * width * 6.283185307179586, mask=inside)
            tl.store(into_four + at, height * turned, mask=inside)
        tl.store(into_one + at, height * by_centre * unit, mask=inside)
        tl.store(into_two + at, height * (square - 0.5 * whole), mask=inside)


def pyramid(x: Float[Tensor, " i"], smallest: float, ratio: float, count: int, step: int) -> Float[Tensor, " n"]:
    """[i step], flat: x blurred by the widths smallest ratio^l; columns from `count` on are the last width's."""
    inputs = len(x)
    out = torch.empty(inputs * step, device=x.device, dtype=torch.float32)
    _pyramid_kernel[(triton.cdiv(inputs, ROWS), step)](
        x.contiguous(), out, inputs, step, count - 1, smallest, math.log2(ratio), REACH, POSITIONS=ROWS, TAPS=COLUMNS
    )
    return out


def look_ups(
    where: Int[Tensor, "o k"], weights: Float[Tensor, "o k 4"], table: Float[Tensor, " n"], step: int
) -> Float[Tensor, " o"]:
    """In float32; weights of any type."""
    outputs, atoms = where.shape
    out = torch.empty(outputs, device=table.device, dtype=torch.float32)
    _look_ups_kernel[(triton.cdiv(outputs, ROWS),)](
        where.contiguous(), weights.contiguous(), table.contiguous(), out, outputs, atoms, step, ROWS=ROWS, ATOMS=ATOMS
    )
    return out


def make_rows(kind: Kind, inputs: int, unit: float, factors: Sequence[Float[Tensor, "o k"]]) -> Float[Tensor, "o i"]:
    """factors: as atoms.RowKernel has them."""
    outputs, atoms = factors[0].shape
    out = torch.empty(outputs, inputs, device=factors[0].device, dtype=torch.float32)
    _make_rows_kernel[(triton.cdiv(outputs, ROWS), triton.cdiv(inputs, COLUMNS))](
        *_five(factors), out, outputs, inputs, atoms, unit, _norm(kind, inputs),
        KIND=KINDS.index(kind), ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    return out


def rows_again(
    kind: Kind, unit: float, weight_gradient: Float[Tensor, "o i"],
    factors: Sequence[Float[Tensor, "o k"]],
) -> tuple[Float[Tensor, "o k"], ...]:  # fmt: skip
    """The gradient of each factor."""
    (outputs, atoms), inputs = factors[0].shape, weight_gradient.shape[1]
    into = tuple(torch.empty_like(factor, memory_format=torch.contiguous_format) for factor in factors)
    _rows_again_kernel[(triton.cdiv(atoms, AGAIN), outputs)](
        weight_gradient.contiguous(), *_five(factors), *_five(into), inputs, atoms, unit, _norm(kind, inputs),
        KIND=KINDS.index(kind), ATOMS=AGAIN, COLUMNS=COLUMNS,
    )  # fmt: skip
    return into


def _five(factors: Sequence[Tensor]) -> list[Tensor]:
    """A kernel takes as many whatever the kind; those that a kind lacks are read and not used."""
    given = [factor.detach().contiguous() for factor in factors]
    return given + given[:1] * (5 - len(given))


def _norm(kind: Kind, inputs: int) -> float:
    """What makes the squares of a cosine, or of an atom one index step wide, sum to one."""
    return math.sqrt(2 / inputs if kind == "cos" else (2 if kind == "gabor" else 1) / math.sqrt(math.pi))

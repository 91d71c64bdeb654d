"""Small cases that a Triton kernel must find as its formula does in float64 on the CPU, before it is used (chosen.py).

Odd sizes of more than one tile. Nothing is drawn: a proof in the middle of a training step must not move its generator.
Importing this needs triton. Raises ArithmeticError.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bloomery.systems.harmonic.kernels import on_gpu, rows_on_gpu
from bloomery.systems.harmonic.kernels.atoms import KINDS, Kind
from bloomery.systems.harmonic.kernels.scale_space import Levels, blurred

TOLERANCE = 1e-4
"""Of the norm. Those in float32 are right to a few millionths; a frequency that turns 64 times a row to 1e-5."""
UNIT = 0.7


def numbers(*shape: int) -> Tensor:
    """Between -1 and 1, without order, the same everywhere; rounded to bfloat16, so that any type holds them."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64).square()).view(shape).bfloat16().double()


def atoms(kind: Kind, unit: float, inputs: int, factors: Sequence[Tensor]) -> Tensor:
    """W [o i] of factors [o k], by the formula of bases/row_gauss.py, row_gabor.py, row_cos.py."""
    amplitude, *places = (factor[..., None] for factor in factors)
    index = torch.arange(inputs, dtype=amplitude.dtype)
    if kind == "cos":
        angle = 2 * math.pi * places[0] * ((index + 0.5) / inputs - 0.5) + places[1]
        return (amplitude * torch.cos(angle)).sum(1) * math.sqrt(2 / inputs)
    width = unit * torch.exp(places[1])
    away = index - unit * places[0]
    value = torch.exp(-0.5 * (away / width).square()) * (math.sqrt(math.pi) * width).rsqrt()
    if kind == "gabor":
        value = value * math.sqrt(2) * torch.cos(2 * math.pi * places[2] * away + places[3])
    return (amplitude * value).sum(1)


def _low_rank(device: torch.device) -> None:
    left, right, x = numbers(35, 17), numbers(17, 131), numbers(131)
    found = on_gpu.low_rank(left.bfloat16().to(device), right.bfloat16().to(device), _single(x, device))
    _same(found, left @ right @ x)


def _monarch(device: torch.device) -> None:
    first, second, x = numbers(3, 5, 131), numbers(3, 17, 5), numbers(3 * 131)
    shuffled = (first @ x.view(3, -1, 1)).view(3, 5).t().reshape(3, 5, 1)
    found = on_gpu.monarch(first.bfloat16().to(device), second.bfloat16().to(device), _single(x, device))
    _same(found, (second @ shuffled).flatten())


def _scale_space(device: torch.device) -> None:
    levels, x = Levels(0.5, 5.0, 3), numbers(131)
    table = rows_on_gpu.pyramid(_single(x, device), levels.smallest, levels.ratio, levels.count, 4)
    exact = blurred(x, levels)
    _same(table, torch.cat((exact, exact[:, -1:]), dim=1).flatten())
    where = torch.arange(21 * 67).view(21, 67) * 89 % (len(table) - 5)
    weights = numbers(21, 67, 4)
    found = rows_on_gpu.look_ups(where.int().to(device), weights.bfloat16().to(device), table, 4)
    corners = table.double().cpu()[where[..., None] + torch.tensor((0, 1, 4, 5))]
    _same(found, (corners * weights).sum((1, 2)))


def _rows(kind: Kind, device: torch.device) -> None:
    for outputs, count, inputs in ((17, 2, 21), (2, 9, 131)):
        one, two, three, four = numbers(4, outputs, count).unbind()
        bell = [inputs * (0.7 + one), two]  # some of them beyond the ends
        places = {"gauss": bell, "gabor": [*bell, 0.5 * three, 3 * four], "cos": [65 * one, 3 * two]}[kind]
        leaves = [value.float().double().requires_grad_() for value in (numbers(outputs, count), *places)]
        gradient = numbers(outputs, inputs)
        with torch.enable_grad():
            exact = atoms(kind, UNIT, inputs, leaves)
        factors = [_single(leaf.detach(), device) for leaf in leaves]
        _same(rows_on_gpu.make_rows(kind, inputs, UNIT, factors), exact.detach())
        into = rows_on_gpu.rows_again(kind, UNIT, _single(gradient, device), factors)
        for found, wanted in zip(into, torch.autograd.grad(exact, leaves, gradient), strict=True):
            _same(found, wanted)


def _single(value: Tensor, device: torch.device) -> Tensor:
    return value.float().to(device)


def _same(found: Tensor, wanted: Tensor) -> None:
    error = float((found.double().cpu() - wanted).norm() / wanted.norm())
    if not error <= TOLERANCE:
        raise ArithmeticError(f"differs from its formula by {error:.1e} of the norm")


PROOFS: Mapping[str, Callable[[torch.device], None]] = {
    "low_rank": _low_rank, "monarch": _monarch, "scale_space": _scale_space,
    **{kind: functools.partial(_rows, kind) for kind in KINDS},
}  # fmt: skip

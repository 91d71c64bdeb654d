"""How many numbers each basis stores for a linear, and how many components a compression leaves it. No torch here.

Every basis stores `per_component` numbers for each of its components and `fixed` once; the components are the most for
which that is at most inputs * outputs / compression:

| basis           | W [o i]                                       | per component    | fixed | operations per token |
|-----------------|-----------------------------------------------|------------------|-------|----------------------|
| sine            | gain_o sin(omega sum_r U_or V_ri)             | o + i            | o     | those of the matrix  |
| lowrank         | sum_r U_or V_ri                               | o + i            |       | 2 r (o + i)          |
| monarch         | block-diagonal, shuffle, block-diagonal       | o + i            |       | 2 k (o + i)          |
| kron            | sum_t A_t (x) B_t, A [p q], B [o/p i/q]       | p q + o i/(p q)  |       | those of the matrix  |
| hashed          | sign(o, i) value[hash(o, i)]                  | 1                |       | those of the matrix  |
| row_gauss       | sum_k amplitude * Gaussian over i             | 3 o              |       | those of the matrix  |
| row_scale_space | the same, looked up in the scale-space of x   | 3 o              |       | those of the matrix  |
| row_gabor       | sum_k amplitude * Gaussian * cosine over i    | 5 o              |       | those of the matrix  |
| row_cos         | sum_k amplitude * cosine over i               | 3 o              |       | those of the matrix  |

A basis is a row here and a file in `bases/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """What a basis needs for one shape."""

    per_component: int
    fixed: int = 0
    most: int | None = None
    """More components than these add nothing to what can be represented."""
    factorised: bool = False
    """Applied factor by factor, two operations per stored number and token; W is never made."""


@dataclass(frozen=True, slots=True)
class Size:
    components: int
    """Rank, block rank, terms, atoms per row or shared values; below 1: none fits."""
    stored: int
    flops_per_token: float


BLOCKS = 16
"""Monarch's default number of blocks (spec 2.1)."""


def blocks_of(inputs: int, outputs: int, at_most: int) -> int:
    """The largest common divisor of both sides that is not above `at_most`."""
    common = math.gcd(inputs, outputs)
    return next(count for count in range(min(at_most, common), 0, -1) if common % count == 0)


def halves(size: int) -> tuple[int, int]:
    """(p, size / p) with p the largest divisor that is not above the square root."""
    first = next(count for count in range(math.isqrt(size), 0, -1) if size % count == 0)
    return first, size // first


def _kron(inputs: int, outputs: int) -> Form:
    (left_out, right_out), (left_in, right_in) = halves(outputs), halves(inputs)
    left, right = left_out * left_in, right_out * right_in
    return Form(left + right, most=min(left, right))


FORMS: Mapping[str, Callable[[int, int], Form]] = {
    "sine": lambda inputs, outputs: Form(outputs + inputs, fixed=outputs),
    "lowrank": lambda inputs, outputs: Form(outputs + inputs, most=min(inputs, outputs), factorised=True),
    "monarch": lambda inputs, outputs: Form(outputs + inputs, most=min(inputs, outputs), factorised=True),
    "kron": _kron,
    "hashed": lambda inputs, outputs: Form(1, most=inputs * outputs),
    "row_gauss": lambda inputs, outputs: Form(3 * outputs),
    "row_scale_space": lambda inputs, outputs: Form(3 * outputs),
    "row_gabor": lambda inputs, outputs: Form(5 * outputs),
    "row_cos": lambda inputs, outputs: Form(3 * outputs),
}
"""basis -> (inputs, outputs) -> Form"""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "sine": ("omega",),
    "monarch": ("blocks",),
    "row_gauss": ("atom_width",),
    "row_gabor": ("atom_width",),
}
"""Of a model's keys those that a basis reads beside its compression; the others read none."""


def size(basis: str, inputs: int, outputs: int, compression: float) -> Size:
    """The largest size of `basis` that stores at most inputs * outputs / compression numbers."""
    form = FORMS[basis](inputs, outputs)
    components = math.floor((outputs * inputs / compression - form.fixed) / form.per_component)
    if form.most is not None:
        components = min(components, form.most)
    stored = components * form.per_component + form.fixed
    return Size(components, stored, 2.0 * (stored if form.factorised else inputs * outputs))


def largest_compression(basis: str, inputs: int, outputs: int) -> float:
    """Above it not one component is left."""
    form = FORMS[basis](inputs, outputs)
    return inputs * outputs / (form.per_component + form.fixed)

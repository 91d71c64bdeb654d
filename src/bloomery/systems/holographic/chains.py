"""Products and commutator sums of many multivectors in a row, for all positions of a text at once.

With F_1 ... F_t in reading order, a window's product is F_(i-n+1) ... F_i: older on the left. It is associative, so
that a prefix of every length takes log2 t rounds (`scan`), one window as many as its length has bits (`window`), and
all windows 1 ... n one round each (`windows`). Every round is scaled to Frobenius norm 1: the result is the product up
to a positive factor. At a text's beginning a window holds what there is.

The commutators of neighbours are summed over a window as the difference of two prefix sums, and divided by sqrt(n - 1):
the sum of so many terms of like size grows with its window.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.systems.holographic.algebra import commutator, identity, normalised, product


def scan(factors: Float[Tensor, "... t n"]) -> Float[Tensor, "... t n"]:
    """The product of everything up to each position, of norm 1 (Hillis and Steele 1986)."""
    found, reach = normalised(factors), 1
    while reach < factors.shape[-2]:
        found = _joined(found, found, reach)
        reach *= 2
    return found


def window(factors: Float[Tensor, "... t n"], length: int) -> Float[Tensor, "... t n"]:
    """The product of the last `length` at each position: windows of powers of two, put together as its bits say."""
    assert length >= 1
    power, reach = normalised(factors), 1
    found, covered = None, 0
    while length:
        if length & 1:
            found = power if found is None else _joined(power, found, covered)
            covered += reach
        length >>= 1
        if length:
            power = _joined(power, power, reach)
            reach *= 2
    assert found is not None
    return found


def windows(factors: Float[Tensor, "... t n"], longest: int) -> Float[Tensor, "w ... t n"]:
    """The products of the last 1 ... `longest`: C_m[i] = F_(i-m+1) C_(m-1)[i]."""
    assert longest >= 1
    single = normalised(factors)
    found = [single]
    for shift in range(1, longest):
        found.append(_joined(single, found[-1], shift))
    return torch.stack(found)


def _joined(older: Tensor, newer: Tensor, shift: int) -> Tensor:
    """older[i - shift] newer[i], where there is an older."""
    before = identity(older).expand_as(older).clone()
    before[..., shift:, :] = older[..., : max(0, older.shape[-2] - shift), :]
    return normalised(product(before, newer))


def commutator_sums(factors: Float[Tensor, "... t n"], length: int) -> Float[Tensor, "... t n"]:
    """Of the last `length` at each position: sum of commutator(F_i, F_(i-1)) / sqrt(length - 1)."""
    assert length >= 2
    sums = torch.zeros_like(factors)
    sums[..., 1:, :] = commutator(factors[..., 1:, :], factors[..., :-1, :]).cumsum(-2)
    before = torch.zeros_like(sums)
    before[..., length - 1 :, :] = sums[..., : max(0, sums.shape[-2] - length + 1), :]
    return (sums - before) / math.sqrt(length - 1)

"""The theory's two memories, as pure functions: a superposition of bindings, and cells of like contexts.

    superposition   M = sum of C T / golden over (context, target) pairs;  read Grace(C^-1 M), exact for one pair
    cells           a context's even coefficients on a grid: golden^-6 wide for c0 and c15, golden^-8 for bivectors
    within a cell   golden^-2 cos(witnesses) + golden^-1 cos(signatures) says how alike two episodes are, and entries
                    vote for their targets with golden^-distance

One multivector has eight numbers: it holds about one pair. That is the theory's, not the code's, to answer for; the
tests show it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic.algebra import GOLDEN, grace, inverse, product
from bloomery.systems.holographic.contexts import similarity, witness

WITNESS_CELL, BIVECTOR_CELL = GOLDEN**-6, GOLDEN**-8


def superposed(contexts: Float[Tensor, "b n"], targets: Float[Tensor, "b n"]) -> Float[Tensor, " n"]:
    """All pairs in one multivector."""
    return product(contexts, targets).sum(0) / GOLDEN


def recalled(memory: Float[Tensor, " n"], contexts: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """What the memory holds for each context."""
    return grace(product(inverse(contexts), memory.expand_as(contexts)))


def cells(states: Float[Tensor, "... 8"]) -> Int[Tensor, "... 8"]:
    """The cell of each context: equal ones are looked up together."""
    widths = torch.full((8,), BIVECTOR_CELL, dtype=states.dtype, device=states.device)
    widths[0] = widths[-1] = WITNESS_CELL
    return torch.floor(states / widths).long()


def alike(
    state: Float[Tensor, " n"],
    signature: Float[Tensor, " n"],
    states: Float[Tensor, "b n"],
    signatures: Float[Tensor, "b n"],
) -> Float[Tensor, " b"]:
    """How like an episode each entry of its cell is, from -1 to 1."""
    return similarity(witness(state), witness(states)) / GOLDEN**2 + similarity(signature, signatures) / GOLDEN


def votes(
    state: Float[Tensor, " n"], states: Float[Tensor, "b n"], targets: Int[Tensor, " b"], vocab: int
) -> Float[Tensor, " v"]:
    """The share of each target among a cell's entries, weighted by golden^-distance; the theory takes the largest."""
    weights = GOLDEN ** -torch.linalg.vector_norm(states - state, dim=-1)
    return torch.zeros(vocab, dtype=states.dtype).index_add_(0, targets, weights) / weights.sum()

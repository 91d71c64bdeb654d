"""A window of tokens as one multivector, and the numbers the theory reads from it.

    context = Grace(P + V / golden),  P the window's product of norm 1, V its commutators (chains.commutator_sums)

    witness      w = (c0, c15), the scalar and the e1234 coefficient
    enstrophy    sum of the squared bivector coefficients
    stability    (c0^2 + c15^2) / sum of all c^2; below golden^-2 an episode is to be consolidated
    salience     |c0| + |c15| / golden

`graced` applies Grace on the way, every few tokens: that is no product of multivectors any more, as Grace is no
homomorphism, but still linear in the state, S_t = D R(F_t) S_(t-1), and so a scan of matrices on coefficients.
`graced_window` does it within a window, one token after the other, all positions at once.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bloomery.systems.holographic.algebra import (
    GOLDEN,
    grace,
    grace_scale,
    grade,
    identity,
    normalised,
    product,
    right,
)
from bloomery.systems.holographic.chains import commutator_sums, window

CONSOLIDATE_BELOW = GOLDEN**-2


def contexts(tokens: Float[Tensor, "... t n"], length: int) -> Float[Tensor, "... t n"]:
    """Of the last `length` tokens at each position."""
    found = window(tokens, length)
    return grace(found + commutator_sums(tokens, length) / GOLDEN) if length > 1 else grace(found)


def graced(tokens: Float[Tensor, "... t n"], every: int) -> Float[Tensor, "... t n"]:
    """The product of everything up to each position, with Grace after each `every` tokens; of norm 1."""
    assert every >= 1
    damped = (torch.arange(tokens.shape[-2], device=tokens.device) % every == every - 1)[:, None, None]
    steps = right(tokens)
    found = torch.where(damped, grace_scale(tokens)[:, None] * steps, steps)
    reach = 1
    while reach < tokens.shape[-2]:
        joined = found.clone()
        joined[..., reach:, :, :] = found[..., reach:, :, :] @ found[..., :-reach, :, :]
        found = joined / joined.abs().amax((-1, -2), keepdim=True)
        reach *= 2
    return normalised((found @ identity(tokens)[:, None])[..., 0])


def graced_window(tokens: Float[Tensor, "... t n"], length: int, every: int) -> Float[Tensor, "... t n"]:
    """The product of the last `length` tokens at each position, with Grace after each `every` of them; of norm 1. A
    window that reaches beyond the text's beginning has identities there, which Grace leaves alone. A round a token."""
    assert every >= 1
    single, places = normalised(tokens), tokens.shape[-2]
    found = identity(tokens).expand_as(tokens).clone()
    for step in range(length):
        shift = length - 1 - step
        if shift < places:
            moved = found[..., shift:, :].clone()
            found[..., shift:, :] = normalised(product(moved, single[..., : places - shift, :]))
        if step % every == every - 1:
            found = normalised(grace(found))
    return found


def witness(state: Float[Tensor, "... n"]) -> Float[Tensor, "... 2"]:
    return state[..., [0, -1]]


def enstrophy(state: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    return grade(state, 2).square().sum(-1)


def stability(state: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """From 0 to 1; 0 for no state at all."""
    whole = state.square().sum(-1)
    return witness(state).square().sum(-1) / torch.where(whole > 0, whole, torch.ones_like(whole))


def salience(state: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    scalar, last = witness(state).abs().unbind(-1)
    return scalar + last / GOLDEN


def consolidates(state: Float[Tensor, "b n"], target_counts: Float[Tensor, " b"]) -> Bool[Tensor, " b"]:
    """Which episodes do. target_counts: how often the buffer holds an episode's target."""
    return (stability(state) < CONSOLIDATE_BELOW) | (target_counts >= 3)


def witness_stability(states: Float[Tensor, "b n"]) -> float:
    """The mean cosine of all pairs of witnesses, b >= 2: (|sum of their directions|^2 - b) / (b^2 - b)."""
    directions = torch.nn.functional.normalize(witness(states).double(), dim=-1)
    count = len(directions)
    assert count >= 2
    return float((directions.sum(0).square().sum() - count) / (count * count - count))


def similarity(one: Float[Tensor, "... n"], two: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """The cosine of two signatures (commutator sums). A text and its reversal have -1, whatever its words."""
    return torch.nn.functional.cosine_similarity(one, two, dim=-1)

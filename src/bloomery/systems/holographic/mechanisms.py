"""What the seed's mechanisms do beside those of consolidation.py, as pure functions (spec, 1.8, by its numbers).

3  delta coding        C - nearest prototype, where cos >= golden^-2, and 0 where below golden^-8
4  predictive coding   an episode that its nearest prototype has within golden^-3 (Frobenius) teaches nothing
6  merging             two prototypes of cos > 1 - golden^-3 become one, weighted by support, then Grace
7  reconsolidation     a prototype moves by golden^-1 of the way to a context that it was wrong about, else half that
8  rehearsal           prototype + golden^-3 noise, its target drawn from its own
9  working memory      the last seven contexts, golden^-age, where cos >= 1 - golden^-3
10 completion          golden^-2 of a Grace step towards the nearest prototype, its norm kept
11 inhibition          what was retrieved t tokens ago weighs golden^-(golden^-t) of itself
12 replay              transitions of neighbours in time, chained where their commutators have cos >= golden^-1
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.systems.holographic.algebra import GOLDEN, commutator, flow, frobenius, grace, normalised
from bloomery.systems.holographic.contexts import similarity
from bloomery.systems.holographic.recall import Votes

SLOTS = 7
ALIKE = 1 - GOLDEN**-3
REMEMBERED = 3
"""Tokens for which what was retrieved is inhibited."""
COMPLETION_STEPS = 5
ROWS_AT_ONCE = 512


def own(random: np.random.Generator, name: str) -> np.random.Generator:
    """A generator of a mechanism's own, by what `random` was seeded with and the name: what one draws, or that it is
    switched off and draws nothing, changes no draw of another. Does not draw from `random`."""
    seeds = random.bit_generator.seed_seq
    assert isinstance(seeds, np.random.SeedSequence)
    return np.random.default_rng(np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, *name.encode())))


def nearest(
    states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"]
) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
    """The largest cosine, and whose."""
    one = torch.nn.functional.normalize(states, dim=-1)
    two = torch.nn.functional.normalize(prototypes, dim=-1)
    best, which = (one @ two.mT).max(-1)
    return best, which


def coded(states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"]) -> tuple[Float[Tensor, "b n"], float]:
    """What is left of states whose small differences are dropped, and the share of all numbers that went."""
    if not len(prototypes) or not len(states):
        return states, 0.0
    best, which = nearest(states, prototypes)
    difference = states - prototypes[which]
    small = (difference.abs() < GOLDEN**-8) & (best >= GOLDEN**-2)[:, None]
    return torch.where(small, prototypes[which], states), float(small.double().mean())


def surprising(states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"]) -> Bool[Tensor, " b"]:
    if not len(prototypes):
        return torch.ones(len(states), dtype=torch.bool)
    _, which = nearest(states, prototypes)
    return frobenius(states - prototypes[which])[:, 0] >= GOLDEN**-3


def completed(states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"]) -> Float[Tensor, "b n"]:
    _, which = nearest(states, prototypes)
    moved = flow(states, prototypes[which], COMPLETION_STEPS)
    return normalised(moved) * frobenius(states)


def working(states: Float[Tensor, "t n"], targets: Int[np.ndarray, " u"], first: int) -> Votes:
    """targets: the token after each state, known up to the one before each row. Rows are states from `first` on."""
    count = len(states) - first
    rows, tokens, weights = [], [], []
    for age in range(1, min(SLOTS, len(states) - 1) + 1):
        alike = (similarity(states[age:], states[:-age]) >= ALIKE).numpy()
        at = np.flatnonzero(alike) + age
        at = at[at >= first]
        rows.append(at - first)
        tokens.append(targets[at - age])
        weights.append(np.full(len(at), GOLDEN**-age))
    if not rows:
        return Votes.none()
    return Votes.of(np.concatenate(rows), np.concatenate(tokens), np.concatenate(weights), count)


def inhibited(which: Int[Tensor, " t"], near: Int[Tensor, "t k"]) -> Float[Tensor, "t k"]:
    """What each retrieved prototype still weighs. which: the nearest at each position; near: those retrieved there."""
    held = torch.zeros(near.shape, dtype=torch.float64)
    for age in range(1, min(REMEMBERED, len(which) - 1) + 1):
        held[age:] += GOLDEN**-age * (near[age:] == which[:-age, None]).to(held.dtype)
    return GOLDEN**-held


def reconsolidated(
    prototypes: Float[Tensor, "p n"], states: Float[Tensor, "b n"], which: Int[Tensor, " b"], right: Bool[Tensor, " b"]
) -> Float[Tensor, "p n"]:
    """After one retrieval following the other."""
    found = prototypes.clone()
    for state, one, was_right in zip(states, which.tolist(), right.tolist(), strict=True):
        rate = GOLDEN**-1 / 2 if was_right else GOLDEN**-1
        found[one] += rate * (state - found[one])
    return found


def chained(states: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
    """Those of episodes in time's order that a chain of like transitions goes through."""
    found = torch.zeros(len(states), dtype=torch.bool)
    if len(states) < 3:
        return found
    turns = commutator(states[:-1], states[1:])
    like = similarity(turns[:-1], turns[1:]) >= GOLDEN**-1
    for shift in range(3):
        found[shift : shift + len(like)] |= like
    return found


def merged(
    states: Float[Tensor, "p n"], support: Sequence[float], most: int = 5
) -> list[tuple[int, int, Float[Tensor, " n"]]]:
    """Pairs (kept, gone, its new state), the likest first, each prototype in one pair at most."""
    unit = torch.nn.functional.normalize(states, dim=-1)
    pairs, free = [], torch.ones(len(states), dtype=torch.bool)
    while len(pairs) < most:
        # The likest may all be of one prototype: then those are looked at that are left.
        left = torch.nonzero(free)[:, 0]
        found = [(left[one], left[two]) for cosine, one, two in _likest(unit[left], 50 * most) if cosine > ALIKE]
        if not found:
            break
        for one, two in found:
            if free[one] and free[two] and len(pairs) < most:
                free[one] = free[two] = False
                kept, gone = int(one), int(two)
                total = support[kept] + support[gone]
                both = (support[kept] * states[kept] + support[gone] * states[gone]) / total
                pairs.append((kept, gone, grace(both)))
    return pairs


def _likest(unit: Float[Tensor, "p n"], most: int) -> list[tuple[float, int, int]]:
    """(cosine, one, other) of the likest pairs, the likest first and of equals the lowest; some rows at a time, so that
    the table of all pairs never lies in memory."""
    found: list[tuple[float, int]] = []
    columns = torch.arange(len(unit))
    for start in range(0, len(unit), ROWS_AT_ONCE):
        cosines = unit[start : start + ROWS_AT_ONCE] @ unit.mT
        cosines[columns <= columns[start : start + ROWS_AT_ONCE, None]] = -2
        values, places = cosines.flatten().topk(min(most, cosines.numel()))
        found += zip(values.tolist(), (places + start * len(unit)).tolist(), strict=True)
    ranked = sorted((one for one in found if one[0] >= -1.5), key=lambda one: (-one[0], one[1]))
    return [(cosine, *divmod(place, len(unit))) for cosine, place in ranked[:most]]

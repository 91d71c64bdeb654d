"""The theory's distributed prior and its decoding, as pure functions of prototypes.

superposed      the K nearest prototypes in the plane of witnesses, weighted golden^-d sqrt(support + 1) stability
confidence      (d2 - d1) / d2 of the nearest two; 0 where there is no second
factorised      attractors as a linear map of W = (c0, c15, enstrophy, stability): A = B (C + ridge 1)^-1 W with
                C = sum W W^T, B = sum A W^T. The theory decays the sums by golden^-1 a sample, which remembers
                about one: `decayed` is that, for comparison. The theory blends the two where it is not confident and
                lets the nearest predict all the same; `blended` looks for the nearest of the blend
decoding        minmax(<A, E>) - w (golden^-1 |enstrophy difference| / max + golden^-2 |witness difference| / max)
                with w = max(golden^-2, min(1, 10 enstrophy(A))) / golden: scores to take the largest of, no
                distribution, and so without a perplexity
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic.algebra import GOLDEN
from bloomery.systems.holographic.contexts import enstrophy, stability, witness

NEAREST = 8
RIDGE = 1e-3


class Prototypes(NamedTuple):
    states: Float[Tensor, "p n"]
    targets: Float[Tensor, "p v"]
    """What each predicts; rows sum to one."""
    support: Float[Tensor, " p"]
    """How many episodes went into it."""


class Prior(NamedTuple):
    targets: Float[Tensor, "b v"]
    confidence: Float[Tensor, " b"]


class Weighed(NamedTuple):
    weights: Float[Tensor, "b k"]
    which: Int[Tensor, "b k"]
    confidence: Float[Tensor, " b"]


def weighed(
    states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"], support: Float[Tensor, " p"], nearest: int = NEAREST
) -> Weighed:
    """The nearest prototypes of each state and what each weighs, the nearest first. Asserts that there is one."""
    count = len(prototypes)
    assert count
    distances = torch.cdist(witness(states), witness(prototypes), compute_mode="donot_use_mm_for_euclid_dist")
    near, which = distances.topk(min(nearest, count), largest=False)
    weights = GOLDEN**-near * torch.sqrt(support + 1)[which] * stability(prototypes)[which]
    weights = weights / weights.sum(-1, keepdim=True)
    if count == 1:
        return Weighed(weights, which, torch.zeros(len(states), dtype=states.dtype))
    first, second = near[:, 0], near[:, 1]
    return Weighed(weights, which, (second - first) / torch.where(second > 0, second, torch.ones_like(second)))


def distributed(states: Float[Tensor, "b n"], prototypes: Prototypes, nearest: int = NEAREST) -> Prior:
    """Refuses (by assertion) to ask no prototypes."""
    found = weighed(states, prototypes.states, prototypes.support, nearest)
    return Prior(torch.einsum("bk,bkv->bv", found.weights, prototypes.targets[found.which]), found.confidence)


def features(states: Float[Tensor, "b n"]) -> Float[Tensor, "b 4"]:
    """W: witness, enstrophy, stability."""
    return torch.cat((witness(states), enstrophy(states)[:, None], stability(states)[:, None]), dim=-1)


def factorised(states: Float[Tensor, "b n"], attractors: Float[Tensor, "b n"], ridge: float) -> Float[Tensor, "n 4"]:
    """The map from W to an attractor, by ridge regression."""
    w = features(states)
    gram = w.mT @ w + ridge * torch.eye(4, dtype=w.dtype, device=w.device)
    return torch.linalg.solve(gram, w.mT @ attractors).mT


def decayed(states: Float[Tensor, "b n"], attractors: Float[Tensor, "b n"], ridge: float) -> Float[Tensor, "n 4"]:
    """The same with C <- (1 - rate) C + rate W W^T and B alike, rate = 1 / golden, one sample after the other."""
    rate = 1 / GOLDEN
    ages = torch.arange(len(states) - 1, -1, -1, dtype=states.dtype, device=states.device)
    weights = torch.sqrt(rate * (1 - rate) ** ages)[:, None]
    w = features(states) * weights
    gram = w.mT @ w + ridge * torch.eye(4, dtype=w.dtype, device=w.device)
    return torch.linalg.solve(gram, w.mT @ (attractors * weights)).mT


def blended(
    states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"], support: Float[Tensor, " p"], *, decay: bool
) -> Float[Tensor, "b n"]:
    """Where prototypes are looked for: a state whose margin is below golden^-2 becomes margin x what its nearest say +
    (1 - margin) x what the map of its features says, found on the prototypes, the oldest first; others stay."""
    near = weighed(states, prototypes, support)
    local = torch.einsum("bk,bkn->bn", near.weights, prototypes[near.which])
    found = (decayed if decay else factorised)(prototypes, prototypes, RIDGE)
    sure = near.confidence[:, None]
    mixed = sure * local + (1 - sure) * features(states) @ found.mT
    return torch.where(sure < GOLDEN**-2, mixed, states)


def decoded(
    attractor: Float[Tensor, " n"], embeddings: Float[Tensor, "v n"], *, penalty: bool = True
) -> Float[Tensor, " v"]:
    """A score for every token. penalty False: of similarity alone."""
    overlap = embeddings @ attractor
    spread = overlap.max() - overlap.min()
    scores = (overlap - overlap.min()) / torch.where(spread > 0, spread, torch.ones_like(spread))
    if not penalty:
        return scores
    turning = (enstrophy(embeddings) - enstrophy(attractor)).abs()
    seen = (witness(embeddings) - witness(attractor)).abs().sum(-1)
    weight = max(GOLDEN**-2, min(1.0, 10 * float(enstrophy(attractor)))) / GOLDEN
    return scores - weight * (_of_largest(turning) / GOLDEN + _of_largest(seen) / GOLDEN**2)


def _of_largest(values: Float[Tensor, " v"]) -> Float[Tensor, " v"]:
    largest = values.max()
    return values / torch.where(largest > 0, largest, torch.ones_like(largest))

"""What sleep does with episodes, as pure functions: what matters, what is kept, and what becomes of it.

    novelty      1 - the largest cosine to a prototype; 1 where there is none
    priority     salience / golden + novelty / golden^2 + error / golden^3
    room         max(5000, 10 golden^2 (prototypes + 100)) episodes, or that in proportion to another number than 5000;
                 above it, P(stay) = golden^(-k (1 - priority)) with k = log_golden(episodes / room)
    threshold    golden^-2 - golden^-3 (schemas / (prototypes + 1) - golden), held between golden^-3 and 1 - golden^-3
    non-REM      leaders by falling priority: an episode joins the leader it is likest, if (1 - s) cos(contexts) +
                 s cos(signatures) reaches the threshold, s the mean stability; else it leads. Groups of three and more
                 become prototypes: centroid weighted by priority, targets by 1 + priority, support, radius

The theory claims no free constants; 5000, 100, 10 and three are some.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic.algebra import GOLDEN
from bloomery.systems.holographic.contexts import salience, similarity, stability
from bloomery.systems.holographic.prior import Prototypes

LEAST_GROUP = 3
ROOM = 5000
"""Of the seed."""


class Episodes(NamedTuple):
    states: Float[Tensor, "b n"]
    signatures: Float[Tensor, "b n"]
    targets: Int[Tensor, " b"]
    priorities: Float[Tensor, " b"]
    """From 0 on."""


def novelty(states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"]) -> Float[Tensor, " b"]:
    if not len(prototypes):
        return torch.ones(len(states), dtype=states.dtype)
    return 1 - similarity(states[:, None], prototypes[None]).amax(-1)


def priority(
    states: Float[Tensor, "b n"], prototypes: Float[Tensor, "p n"], errors: Float[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """errors: from 0 to 1."""
    return salience(states) / GOLDEN + novelty(states, prototypes) / GOLDEN**2 + errors / GOLDEN**3


def room(prototypes: int, least: int = ROOM) -> float:
    """How many episodes stay without being asked. least: while there are few prototypes."""
    return least / ROOM * max(ROOM, GOLDEN**2 * (prototypes + 100) * 10)


def staying(priorities: Float[Tensor, " b"], allowed: float) -> Float[Tensor, " b"]:
    """The probability of each episode to survive forgetting; 1 for all where there is room."""
    excess = len(priorities) / allowed
    if excess <= 1:
        return torch.ones_like(priorities)
    steps = math.log(excess, GOLDEN)
    return GOLDEN ** (-steps * (1 - priorities.clamp(0, 1)))


def threshold(prototypes: int, schemas: int) -> float:
    """How alike episodes of one group are."""
    wanted = GOLDEN**-2 - GOLDEN**-3 * (schemas / (prototypes + 1) - GOLDEN)
    return min(max(wanted, GOLDEN**-3), 1 - GOLDEN**-3)


def groups(episodes: Episodes, least: float) -> Int[Tensor, " b"]:
    """The number of each episode's group; groups are numbered as their leaders come, ties by place."""
    mean = float(stability(episodes.states).mean())
    found = torch.zeros(len(episodes.states), dtype=torch.int64)
    leaders: list[int] = []
    for number in torch.argsort(episodes.priorities, descending=True, stable=True).tolist():
        if leaders:
            one = similarity(episodes.states[number], episodes.states[leaders])
            two = similarity(episodes.signatures[number], episodes.signatures[leaders])
            best, which = ((1 - mean) * one + mean * two).max(0)
            if float(best) >= least:
                found[number] = which
                continue
        found[number] = len(leaders)
        leaders.append(number)
    return found


class Consolidated(NamedTuple):
    prototypes: Prototypes
    signatures: Float[Tensor, "p n"]
    radius: Float[Tensor, " p"]
    """The largest distance of an episode from its prototype."""


def consolidated(episodes: Episodes, least: float, vocab: int) -> Consolidated:
    """The prototypes of all groups that are large enough."""
    group = groups(episodes, least)
    sizes = torch.bincount(group)
    kept = torch.nonzero(sizes >= LEAST_GROUP)[:, 0]
    member = (group[None] == kept[:, None]).to(episodes.states.dtype)
    # Where every priority is zero a group's centroid is its plain mean.
    weights = member * episodes.priorities.clamp_min(torch.finfo(episodes.states.dtype).tiny)
    weights = weights / weights.sum(-1, keepdim=True)
    centroids = weights @ episodes.states
    targets = torch.zeros(len(kept), vocab, dtype=episodes.states.dtype)
    targets.index_add_(1, episodes.targets, member * (1 + episodes.priorities))
    away = torch.linalg.vector_norm(episodes.states[None] - centroids[:, None], dim=-1)
    prototypes = Prototypes(centroids, targets / targets.sum(-1, keepdim=True), sizes[kept].to(episodes.states.dtype))
    return Consolidated(prototypes, weights @ episodes.signatures, (away * member).amax(-1))

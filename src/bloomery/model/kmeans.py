"""Weighted k-means (Lloyd 1982), seeded by k-means++ (Arthur and Vassilvitskii 2007).

Minimises sum_t weight(t) |row(t) - centre(nearest)|^2 by turns: every row to its nearest centre, every centre to the
weighted mean of its rows. Sums in float64. A centre that loses its rows stays where it was.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 20


def centres(
    rows: Float[Tensor, "v d"], weight: Float[Tensor, " v"], count: int, *, seed: int, rounds: int = ROUNDS
) -> Float[Tensor, "k d"]:
    """`count` of them; where there are fewer different rows, some coincide. A pure function of its arguments."""
    generator = torch.Generator().manual_seed(seed)
    rows, weight = rows.double(), weight.double()
    found = rows[torch.multinomial(weight, 1, generator=generator)]
    nearest = torch.full_like(weight, torch.inf)
    while len(found) < count:
        nearest = torch.minimum(nearest, torch.cdist(rows, found[-1:])[:, 0])
        cost = weight * nearest.square()
        chances = cost if float(cost.sum()) > 0 else weight
        found = torch.cat([found, rows[torch.multinomial(chances, 1, generator=generator)]])
    for _ in range(rounds):
        nearest = torch.cdist(rows, found).argmin(dim=1)
        mass = torch.zeros(count, dtype=rows.dtype).index_add_(0, nearest, weight)
        sums = torch.zeros_like(found).index_add_(0, nearest, rows * weight[:, None])
        found = torch.where(mass[:, None] > 0, sums / mass.clamp(min=1e-300)[:, None], found)
    return found

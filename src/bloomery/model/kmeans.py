"""Weighted k-means (Lloyd 1982), seeded by k-means++ (Arthur and Vassilvitskii 2007).

Minimises sum_t weight(t) |row(t) - centre(nearest)|^2 by turns: every row to its nearest centre, every centre to the
weighted mean of its rows. Sums in float64; which centre is nearest, in the rows' own precision. A centre that loses its
rows stays where it was.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDS = 20
AT_ONCE = 2048
"""Rows whose distances are held: they fit into a cache."""


def centres(
    rows: Float[Tensor, "v d"], weight: Float[Tensor, " v"], count: int, *, seed: int, rounds: int = ROUNDS
) -> Float[Tensor, "k d"]:
    """`count` of them; where there are fewer different rows, some coincide. A pure function of its arguments."""
    generator = torch.Generator().manual_seed(seed)
    given, rows, weight = rows, rows.double(), weight.double()
    squares = rows.square().sum(1)
    chosen = torch.multinomial(weight, 1, generator=generator)
    nearest = torch.full_like(weight, torch.inf)
    while len(chosen) < count:
        last = chosen[-1]
        away = torch.addmv(squares + squares[last], rows, rows[last], alpha=-2).clamp_min(0)
        away[last] = 0
        nearest = torch.minimum(nearest, away)
        cost = weight * nearest
        chances = cost if float(cost.sum()) > 0 else weight
        chosen = torch.cat([chosen, torch.multinomial(chances, 1, generator=generator)])
    found, weighted = rows[chosen], rows * weight[:, None]
    for _ in range(rounds):
        own = nearest_of(given, found.to(given.dtype))
        mass = torch.zeros(count, dtype=rows.dtype).index_add_(0, own, weight)
        sums = torch.zeros_like(found).index_add_(0, own, weighted)
        found = torch.where(mass[:, None] > 0, sums / mass.clamp(min=1e-300)[:, None], found)
    return found


def nearest_of(rows: Float[Tensor, "v d"], centres: Float[Tensor, "k d"]) -> Int[Tensor, " v"]:
    """The number of each row's nearest centre: where row . centre - |centre|^2 / 2 is largest."""
    half = centres.square().sum(1) / -2
    scores = (torch.addmm(half, part, centres.t()) for part in rows.split(AT_ONCE))
    return torch.from_numpy(np.concatenate([one.numpy().argmax(1) for one in scores]))  # three times torch's rate

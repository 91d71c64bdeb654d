"""What the prototypes of the theory say to a probe: which of them a text wakes, and how sure the prior is.

    fired      contexts that fall to each prototype: that of the nearest witness
    answered   the prior's likeliest token after each context, and its margin (d2 - d1) / d2 (prior.py)

Pure functions of a Sleeper and of contexts.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic.prior import weighed
from bloomery.systems.holographic.sleeping import ROWS_AT_ONCE, Sleeper


def fired(sleeper: Sleeper, states: Float[Tensor, "t n"]) -> Float[np.ndarray, " p"]:
    """One zero where there is no prototype."""
    count = len(sleeper.attractors)
    if not count:
        return np.zeros(1)
    return np.bincount(sleeper.basin(states).numpy(), minlength=count).astype(np.float64)


def answered(sleeper: Sleeper, states: Float[Tensor, "t n"]) -> tuple[Int[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """-1, and a margin of zero, where there is no prototype."""
    own = sleeper.attractors
    if not len(own):
        return np.full(len(states), -1, dtype=np.int64), np.zeros(len(states))
    support = torch.from_numpy(own.support)
    margins = [weighed(part, own.states, support).confidence for part in states.split(ROWS_AT_ONCE)]
    return sleeper.votes(states, 0).best(len(states)), torch.cat(margins).numpy()

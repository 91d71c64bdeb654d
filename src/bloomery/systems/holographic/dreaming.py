"""REM of the theory as written: recombine prototypes, let Grace act, keep what it leaves alone, count what comes back.

    candidates   of pairs of prototypes a b, a b^T or a + golden^-4 noise, each drawn alike; as control drawn at random
    test         ten steps x <- golden^-2 Grace(x) + 0.0618 x; kept if the last two have cos >= golden^-1
    schema       a form that comes back three times, its norm set to one and its numbers rounded to two decimals

Grace leaves nothing alone but the scalar, so whatever goes in comes out near +-1: the test selects nothing, which the
random control shows.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.systems.holographic.algebra import EVEN, GOLDEN, from_matrix, grace, normalised, product, to_matrix
from bloomery.systems.holographic.contexts import similarity

KEEP, MIX = GOLDEN**-2, 0.0618
"""Of Grace's and of the state before: two of the theory's constants."""
STEPS, MOST, RECURS = 10, 1000, 3
Form = tuple[int, ...]


def candidates(
    states: Float[Tensor, "p n"], count: int, random: np.random.Generator, *, at_random: bool
) -> Float[Tensor, "c n"]:
    numbers = states.shape[1]
    noise = torch.from_numpy(random.standard_normal((count, numbers)))
    if at_random:
        return normalised(noise)
    first, second = (states[torch.from_numpy(random.integers(0, len(states), count))] for _ in range(2))
    turned = from_matrix(to_matrix(second).mT)
    turned = turned[..., list(EVEN)] if numbers == len(EVEN) else turned
    ways = torch.stack((product(first, second), product(first, turned), first + GOLDEN**-4 * noise))
    return ways[torch.from_numpy(random.integers(0, 3, count)), torch.arange(count)]


def settled(found: Float[Tensor, "c n"]) -> tuple[Float[Tensor, "c n"], Float[Tensor, "c n"]]:
    """The last two of ten steps x <- golden^-2 Grace(x) + 0.0618 x, scaled to norm one, as the steps shrink alike."""
    before = found
    for _ in range(STEPS):
        before, found = found, normalised(KEEP * grace(found) + MIX * found)
    return before, found


def dream(
    states: Float[Tensor, "p n"], cycles: int, random: np.random.Generator, known: Counter[Form], *, at_random: bool
) -> tuple[int, int]:
    """Counts the forms of `cycles` cycles into `known`; (candidates, survivors)."""
    drawn = kept = 0
    for _ in range(cycles if len(states) else 0):
        count = min(10 * len(states), MOST)
        before, found = settled(candidates(states, count, random, at_random=at_random))
        survivors = found[similarity(before, found) >= GOLDEN**-1]
        drawn, kept = drawn + count, kept + len(survivors)
        forms = torch.round(100 * survivors).to(torch.int64).tolist()
        known.update(tuple(one) for one in forms)
    return drawn, kept


def commonest(known: Counter[Form], most: int) -> Counter[Form]:
    """The most frequent, of equals the lowest: a form that came once may be forgotten before it comes back."""
    if len(known) <= most:
        return known
    return Counter(dict(sorted(known.items(), key=lambda one: (-one[1], one[0]))[:most]))


def schemas(known: Counter[Form]) -> int:
    return sum(times >= RECURS for times in known.values())

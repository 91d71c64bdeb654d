"""The order and the cutoffs of an n-gram table, chosen on a part that nothing else is judged on.

Everything is counted once, at the highest order. Tried are all orders asked for, and for each: nothing left out, and
n-grams read once, or at most twice, left out from an order m = 3 ... n on. The lowest loss of held-out documents wins,
of equals the smaller table; where bytes are limited, among those that keep to it. An order of which none does leaves
out more, from bigrams on: those read at most 1, 2, 4, 8 ... times, until it fits. Refuses a limit that none keeps to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.errors import PlanError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_counts import Counts, Integers

LOWEST_ORDER = 2
RARE = (1, 2)


@dataclass(frozen=True, slots=True)
class Trial:
    order: int
    cutoffs: tuple[int, ...]
    """As `ngram_counts.without_rare` takes them."""
    loss: float
    """Nats per token of the held-out documents."""
    bytes: float


def cutoffs_of(order: int) -> Iterator[tuple[int, ...]]:
    """All that is tried for an order."""
    yield ()
    for first in range(3, order + 1):
        for rare in RARE:
            yield (*(0,) * (first - 1), rare)


def tune(
    counts: Counts,
    documents: Sequence[Integers],
    *,
    orders: Sequence[int],
    cutoffs: tuple[int, ...] | None = None,
    most_bytes: float | None = None,
) -> tuple[NGram, tuple[Trial, ...]]:
    """The best table, and every trial, the best first.

    documents: each [n + 1], end_of_document first. cutoffs: these alone; None tries all. Raises PlanError where no
    trial keeps to `most_bytes`.
    """
    limit = math.inf if most_bytes is None else most_bytes
    trials: list[Trial] = []
    for order in orders:
        part = counts.up_to(order)
        own = [_trial(part, order, some, documents) for some in (cutoffs_of(order) if cutoffs is None else [cutoffs])]
        rare, most = 1, max((int(level.raw.max()) for level in part.levels), default=0)
        while cutoffs is None and min(one.bytes for one in own) > limit and rare <= 2 * most:
            own.append(_trial(part, order, (0, rare), documents))
            rare *= 2
        trials += own
    kept = [one for one in trials if one.bytes <= limit]
    if not kept:
        least = min(one.bytes for one in trials)
        raise PlanError("baselines", f"at most {most_bytes:.0f} bytes", f"{least:.0f}, which the smallest table takes")
    best = min(kept, key=lambda one: (one.loss, one.bytes))
    rest = sorted((one for one in trials if one is not best), key=lambda one: (one.loss, one.bytes))
    return NGram.of(counts.up_to(best.order), best.cutoffs), (best, *rest)


def _trial(counts: Counts, order: int, cutoffs: tuple[int, ...], documents: Sequence[Integers]) -> Trial:
    table = NGram.of(counts, cutoffs)
    losses = np.concatenate([-table.document_logprobs(document) for document in documents])
    return Trial(order, cutoffs, float(losses.mean()), table.tally().bytes)

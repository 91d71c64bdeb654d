"""Intervals by drawing items anew: the percentile bootstrap (Efron 1979), for statistics that have no closed form.

    weights of one draw ~ multinomial(n, 1/n);  statistic(weights @ table);  the middle `level` of many such values

`table` holds one row of sums for each item, so a draw is one matrix product. Always the same draws: the generator is
seeded. The interval is widened to hold the value itself, which a biased statistic (a calibration error) can fall out
of.
Refuses an interval where there are fewer than two items, or where every draw says the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bloomery.measure import Interval

Reals = NDArray[np.float64]
DRAWS = 2000
_AT_ONCE = 250


def bootstrap_interval(
    table: Reals, statistic: Callable[[Reals], Reals], *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """table [n k]: sums of each item. statistic: sums [d k] of d draws -> their values [d]."""
    n = len(table)
    if n < 2:
        return None
    generator = np.random.default_rng(seed)
    values: list[Reals] = []
    for start in range(0, draws, _AT_ONCE):
        weights = generator.multinomial(n, np.full(n, 1 / n), size=min(_AT_ONCE, draws - start))
        values.append(statistic(weights.astype(np.float64) @ table))
    found = np.concatenate(values)
    found = found[np.isfinite(found)]
    value = float(statistic(table.sum(0, keepdims=True))[0])
    if not len(found) or not np.isfinite(value) or found.max() == found.min():
        return None
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return Interval(min(float(low), value), max(float(high), value), level)


def ratio(sums: Reals) -> Reals:
    """Of tables with two columns: the first sum over the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[:, 0] / sums[:, 1]

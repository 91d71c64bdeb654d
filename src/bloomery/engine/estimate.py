"""From measurements to the number that a condition compares, and its intervals: over seeds, and over items.

The wider of the two counts. It refuses an interval where neither items nor three seeds give a spread. Items that do not
make up the measured value (sums of nats beside a perplexity, unless they say that it is exp of their mean) are set
aside. Where both parties agree to the last bit on every item, there is no interval either: these items cannot tell the
two apart, and an interval that took them for independent would say that they may differ, one of no width that they
never do. (Yes/no items have one all the same: that of Bonett and Price, which is sound without a single disagreement.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bloomery.engine.evidence import BySeed, Missing
from bloomery.engine.intervals import (
    Comparison,
    items_interval,
    mean_interval,
    mean_of_bounds,
    paired_interval,
    ratio_of,
    unpaired_interval,
    wilson_interval,
)
from bloomery.measure import Interval, Items, Measurement

SEEDS_FOR_AN_INTERVAL: Final = 3
SHARE: Final = "share"
"""The unit of values from 0 to 1 that count successes among n."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One seed: the judged value and, if the condition is relative, the reference's."""

    seed: int | None
    judged: Measurement
    reference: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a condition looks at. `unit` is the declared one."""

    pairs: tuple[Pair, ...]
    comparison: Comparison
    unit: str = ""

    def value(self, pair: Pair) -> float:
        if pair.reference is None:
            return pair.judged.value
        if self.comparison == "difference":
            return pair.judged.value - pair.reference.value
        return pair.judged.value / pair.reference.value

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(self.value(pair) for pair in self.pairs)

    @property
    def n(self) -> int:
        """Items behind the value: of the seed, and of the party, that has fewest."""
        both = [one for pair in self.pairs for one in (pair.judged, pair.reference) if one is not None]
        return min(len(one.items.sums) if one.items else one.n for one in both)

    @property
    def tied(self) -> bool:
        """Whether judged and reference are alike to the last bit on every item of every seed."""
        both = [(_usable(pair.judged), pair.reference and _usable(pair.reference)) for pair in self.pairs]
        return all(items is not None and items == other for items, other in both)

    def mean_interval(self, level: float) -> Interval | None:
        """For the mean over seeds: the wider of the intervals over items and over seeds."""
        over_items = self._over_items(self.pairs, level)
        over_seeds = mean_interval(self.values, level) if len(self.pairs) >= SEEDS_FOR_AN_INTERVAL else None
        known = [one for one in (over_items, over_seeds) if one is not None]
        return max(known, key=lambda one: one.high - one.low) if known else None

    def seed_intervals(self, level: float) -> tuple[Interval, ...] | None:
        """For each seed, over its items; None if one of them has none."""
        found = [self._over_items((pair,), level) for pair in self.pairs]
        known = tuple(one for one in found if one is not None)
        return known if len(known) == len(found) else None

    def _over_items(self, pairs: Sequence[Pair], level: float) -> Interval | None:
        judged = [_usable(pair.judged) for pair in pairs]
        whole = [items for items in judged if items is not None]
        if pairs[0].reference is None:
            if len(whole) == len(pairs) and (interval := items_interval(whole, level)):
                return interval
        else:
            both = [
                (items, other)
                for items, pair in zip(judged, pairs, strict=True)
                if items is not None and pair.reference is not None and (other := _usable(pair.reference)) is not None
            ]
            if len(both) == len(pairs) and (interval := paired_interval(both, self.comparison, level)):
                return interval
            if len(both) == len(pairs) and all(items == other for items, other in both):
                return None
        if len(pairs) > 1:
            single = self.seed_intervals(level)
            return None if single is None else mean_of_bounds(single)
        own = self._own_interval(pairs[0].judged, level)
        reference = pairs[0].reference
        if own is None or reference is None:
            return own
        others = self._own_interval(reference, level)
        if others is None:
            return None
        return unpaired_interval(pairs[0].judged.value, own, reference.value, others, self.comparison)

    def _own_interval(self, one: Measurement, level: float) -> Interval | None:
        """Of one measurement alone: over its items, or as measured if its level is high enough, or as a share of n."""
        items = _usable(one)
        if items is not None and (interval := items_interval([items], level)):
            return interval
        given = one.interval
        if given is not None and given.level >= level and _is_sound(given, one.value):
            return given
        if SHARE in (self.unit, one.unit) and one.n > 1 and 0 <= one.value <= 1:
            return wilson_interval(min(one.value * one.n, float(one.n)), one.n, level)
        return None


def alone(judged: BySeed) -> tuple[Pair, ...]:
    """Without a reference."""
    return tuple(Pair(seed, judged[seed]) for seed in sorted(judged, key=_seed_order))


def pair_up(judged: BySeed, reference: BySeed, who: str, *, may_share: bool) -> tuple[Pair, ...]:
    """Paired by seed. A single reference serves all seeds where `may_share` (a baseline, a stage) or it has no seed."""
    order = sorted(judged, key=_seed_order)
    if len(reference) == 1 and (may_share or None in reference):
        only = next(iter(reference.values()))
        return tuple(Pair(seed, judged[seed], only) for seed in order)
    if set(judged) <= set(reference):
        return tuple(Pair(seed, judged[seed], reference[seed]) for seed in order)
    if None in judged:
        return tuple(Pair(seed, judged[None], reference[seed]) for seed in sorted(reference, key=_seed_order))
    absent = sorted(set(judged) - set(reference), key=_seed_order)
    raise Missing(f"{who} has no seed {', '.join(map(str, absent))} to pair with")


def check_ratio(pairs: Sequence[Pair], who: str) -> None:
    """Raises Missing where a reference is zero, negative, or so small that the ratio is no number."""
    for pair in pairs:
        assert pair.reference is not None
        if pair.reference.value <= 0 or not math.isfinite(pair.judged.value / pair.reference.value):
            raise Missing(f"no ratio to {who}: its value is {pair.reference.value:.6g}; `as: difference` has one")


def _seed_order(seed: int | None) -> float:
    return -math.inf if seed is None else seed


def _usable(one: Measurement) -> Items | None:
    """The items, if they make up the value."""
    if one.items is None or not one.items.sums:
        return None
    found = ratio_of(one.items)
    return one.items if found is not None and math.isclose(found, one.value, rel_tol=1e-6, abs_tol=1e-9) else None


def _is_sound(interval: Interval, value: float) -> bool:
    finite = math.isfinite(interval.low) and math.isfinite(interval.high)
    return finite and interval.low <= value <= interval.high and interval.low < interval.high

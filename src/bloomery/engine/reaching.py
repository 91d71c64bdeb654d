"""`M/tokens_to_reference`: how many tokens one party needed until its M was as good as the last M of another.

Relative to that party: divided by the tokens that it had read when it ended, or minus them. Only looks that say how
many tokens had been read count, without interpolation, so the answer is never too early. A party that never gets there
has needed more than all it read: that bound decides a condition where it can, and is Missing where it cannot. A mean
with such a seed in it is a bound too: it can be shown to be too high, never to be low enough.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from bloomery.engine.estimate import Pair, Sample, alone, pair_up
from bloomery.engine.evidence import Evidence, Missing
from bloomery.engine.intervals import exact_mean
from bloomery.measure import Measurement
from bloomery.plan.schema import Condition

Seeds = Collection[int] | None


def tokens_to_reference(
    condition: Condition, index: Evidence, metric: str, reference: str, seeds: tuple[Seeds, Seeds]
) -> Sample:
    """The ratio (or difference) of tokens for every seed. `metric` is M; `seeds` of the judged and of the reference.

    Raises Missing where M has no better direction, or a look on either side does not say its tokens.
    """
    emitted = index.emitted(metric)
    if emitted is None or not emitted.better:
        raise Missing(f"'{metric}' has no better direction, so nothing can reach it")
    judged = index.by_seed(condition.of, metric, seeds[0])
    others = index.by_seed(reference, metric, seeds[1])
    pairs = pair_up(judged, others, reference, may_share=reference.startswith(("baseline:", "stage:")))
    found = {pair.seed: _needed(condition, index, metric, reference, pair, emitted.better) for pair in pairs}
    bounds = [seed for seed, one in found.items() if one.is_bound]
    mean = exact_mean([one.told.value for one in found.values()])
    if bounds and condition.aggregate == "mean" and mean <= condition.value:
        never = ", ".join(map(str, bounds))
        raise Missing(
            f"{condition.of} never got there with seed {never}: the mean is more than {mean:.4g}, how much is not known"
        )
    return Sample(alone({seed: one.told for seed, one in found.items()}), condition.as_)


@dataclass(frozen=True, slots=True)
class _Needed:
    """What one seed needed. is_bound: more than that, by how much is not known."""

    told: Measurement
    is_bound: bool = False


def _needed(condition: Condition, index: Evidence, metric: str, reference: str, pair: Pair, better: str) -> _Needed:
    assert pair.reference is not None
    target = pair.reference.value
    theirs = _last_tokens(index, reference, metric, pair.reference.seed)
    looks = index.looks(condition.of, metric, pair.seed)
    if not looks:
        raise Missing(f"no look at '{metric}' of {condition.of} says after how many tokens it was taken")
    for look in looks:
        if look.value <= target if better == "lower" else look.value >= target:
            return _Needed(_told(look, _compared(condition, look.tokens or 0, theirs)))
    least = _compared(condition, looks[-1].tokens or 0, theirs)
    if least < condition.value:
        raise Missing(
            f"{condition.of} never reached {target:.6g} within its {looks[-1].tokens:,} tokens: more than "
            f"{least:.4g} were needed, how many is not known"
        )
    return _Needed(_told(looks[-1], math.nextafter(least, math.inf)), is_bound=True)


def _compared(condition: Condition, tokens: int, theirs: int) -> float:
    return float(tokens - theirs) if condition.as_ == "difference" else tokens / theirs


def _told(look: Measurement, value: float) -> Measurement:
    return replace(look, value=value, n=1, interval=None, items=None, unit="")


def _last_tokens(index: Evidence, who: str, metric: str, seed: int | None) -> int:
    looks = index.looks(who, metric, seed)
    if not looks or not looks[-1].tokens:
        raise Missing(f"no look at '{metric}' of {who} says after how many tokens it was taken")
    return looks[-1].tokens

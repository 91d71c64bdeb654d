"""The minimum detectable difference of every gate on shares whose number of items is known before the run.

A share is judged by Wilson's interval, which is the score test turned round: of n items the bound clears v when

    k >= n v + z sqrt(n v (1 - v)),   z the normal quantile of the confidence (divided among the members of an `any`)

and mirrored for an upper limit. The smallest difference is that between v and the true share at which so many come out
with probability 80 % (exactly, by the binomial distribution). Without `confidence` there is no bound to clear: then it
is half of a 95 % interval at v. A difference from another party is paired item by item, and how often the two agree is
not known before: were they independent, it would deviate by sqrt(1/2) an item at most, hence "at most".

Nothing is said of losses and other means: how much their items or seeds vary is known only after the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from bloomery.plan.check_enough import share_items
from bloomery.plan.look import Asked, Look, asked
from bloomery.plan.schema import Condition

POWER = 0.8
READERS_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Detectable:
    """Of one condition. `difference` in shares: 0.018 is 1.8 points."""

    stage: str
    condition: str
    items: int
    difference: float
    at_most: bool
    """A bound: how often the two parties agree is not known."""
    means: str


def detectable(look: Look) -> tuple[Detectable, ...]:
    """In the order of the plan; of gates only, as rules and claims decide no promotion."""
    found = [
        one
        for placed in look.stages
        for condition in asked(placed)
        if condition.place == "gate" and (one := _of(look, placed.id, condition)) is not None
    ]
    return tuple(found)


def _of(look: Look, stage: str, found: Asked) -> Detectable | None:
    condition = found.condition
    items = share_items(look, condition)
    if items is None or condition.op in ("==", "!="):
        return None
    error = (1 - condition.confidence) / found.alternatives if condition.confidence is not None else None
    if condition.relative_to is not None:
        return _relative(stage, condition, items, error) if condition.as_ == "difference" else None
    value = float(condition.value)
    if not 0 < value < 1:
        return None
    if error is None:
        half = NormalDist().inv_cdf((1 + READERS_CONFIDENCE) / 2) * math.sqrt(value * (1 - value) / items)
        means = "without `confidence` the value alone decides; this is half of its 95 % interval"
        return Detectable(stage, _words(condition), items, half, False, means)
    upper = condition.op in ("<", "<=")
    least = least_successes(1 - value if upper else value, items, error, strict=condition.op in ("<", ">"))
    if least is None:
        return None
    share = share_that_passes(least, items)
    count = f"at most {items - least}" if upper else f"at least {least}"
    true = f"{100 * (1 - share if upper else share):.4g} %"
    means = f"passes with {count} of {items}; four times in five where the true share is {true}"
    return Detectable(stage, _words(condition), items, share - (1 - value if upper else value), False, means)


def _relative(stage: str, condition: Condition, items: int, error: float | None) -> Detectable:
    z = NormalDist().inv_cdf(1 - (error if error is not None else 1 - READERS_CONFIDENCE))
    most = (z + NormalDist().inv_cdf(POWER)) * math.sqrt(0.5 / items)
    means = "beyond the value, four times in five; less, the more often the two answer alike"
    if error is None:
        means = "what 95 % confidence could tell, four times in five; without it the value alone decides"
    return Detectable(stage, _words(condition), items, min(1.0, most), True, means)


def least_successes(value: float, items: int, error: float, *, strict: bool = False) -> int | None:
    """The fewest of `items` whose lower Wilson bound is at least (strict: above) `value`; None if all are too few."""
    bound = items * value + NormalDist().inv_cdf(1 - error) * math.sqrt(items * value * (1 - value))
    least = math.floor(bound + 1e-9) + 1 if strict else math.ceil(bound - 1e-9)
    return least if least <= items else None


def share_that_passes(least: int, items: int, power: float = POWER) -> float:
    """The true share at which at least `least` of `items` succeed with this probability, by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if _tail(least, items, middle) >= power else (middle, high)
    return high


def _tail(least: int, items: int, share: float) -> float:
    """P(X >= least), X binomial; terms are summed from the likelier end."""
    if not 0 < share < 1:
        return float(share >= 1 or least <= 0)
    logs = [
        math.lgamma(items + 1) - math.lgamma(k + 1) - math.lgamma(items - k + 1)
        + k * math.log(share) + (items - k) * math.log1p(-share)
        for k in range(least, items + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(one) for one in logs)


def _words(condition: Condition) -> str:
    of = "" if condition.of == "candidate" else f" of {condition.of}"
    against = f" - {condition.relative_to}" if condition.relative_to is not None else ""
    sure = f" with {100 * condition.confidence:g} %" if condition.confidence is not None else ""
    return f"{condition.metric}{of}{against} {condition.op} {condition.value:g}{sure}"

"""The dense control that weighs as much as a given model. Pure arithmetic on closed-form tallies; no torch here.

Layers and heads are the template's. Widths go in steps of two features per head (rotary positions turn pairs), those
that are multiples of eight first; for each the feed-forward width is solved for, in the roundest numbers within half a
per cent. Taken is the width that bends the template's ratio of feed-forward to width least. Refuses a target that no
such shape meets within the tolerance: a control of another size would be no control.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bloomery.errors import PlanError, nearest
from bloomery.measure import Tally
from bloomery.model.config import DenseConfig

QUANTITIES = {"stored": "stored", "active": "active", "bytes": "bytes", "flops": "flops_per_token"}
AIM = 0.005
"""Relative error below which a rounder feed-forward width is preferred to a closer match."""
WORTHWHILE = math.log(1.25)
"""A width that is a multiple of eight may bend the feed-forward ratio by this much before others are considered."""
FARTHEST = math.log(4.0)


@dataclass(frozen=True, slots=True)
class _Candidate:
    config: DenseConfig
    error: float
    bend: float
    """|log(feed-forward ratio / the template's)|"""


def solve(
    target: Tally,
    template: DenseConfig,
    vocab: int,
    *,
    match: str = "stored",
    tolerance: float = 0.02,
    context: int = 1,
) -> DenseConfig:
    """The dense config whose `match` (stored, active, flops or bytes) is `target`'s within the relative `tolerance`.

    template: the model's shape without its system's own keys. context: tokens that attention looks at, for `flops`; the
    target's attention is taken to be that of the template. Raises PlanError where no width and feed-forward width fit.
    """
    if match not in QUANTITIES:
        raise PlanError("control.match", f"'{match}'", ", ".join(QUANTITIES), nearest(match, QUANTITIES))
    wanted = target.total(QUANTITIES[match])
    if match == "flops":
        wanted += template.attention_flops_per_token(context)
    closest = math.inf
    fitting: list[_Candidate] = []
    for candidate in _candidates(wanted, template, vocab, match, min(AIM, tolerance), context):
        closest = min(closest, candidate.error)
        if candidate.error <= tolerance:
            fitting.append(candidate)
    if not fitting:
        raise _impossible(wanted, template, vocab, match, tolerance, context, closest)
    even = [each for each in fitting if each.config.width % 8 == 0 and each.bend <= WORTHWHILE]
    return min(even or fitting, key=lambda each: (each.bend, each.error)).config


def quantity(config: DenseConfig, vocab: int, match: str, context: int) -> float:
    """What of a dense model is matched."""
    found = config.tally(vocab).total(QUANTITIES[match])
    return found + config.attention_flops_per_token(context) if match == "flops" else found


def _candidates(
    wanted: float, template: DenseConfig, vocab: int, match: str, aim: float, context: int
) -> Iterator[_Candidate]:
    """One for each width that is not too large with a feed-forward width of one."""
    ratio = template.feed_forward_width / template.width
    width = 0
    while True:
        width += 2 * template.heads
        smallest = _shape(template, width, 1)
        floor = quantity(smallest, vocab, match, context)
        if floor > wanted:
            return
        slope = quantity(_shape(template, width, 2), vocab, match, context) - floor
        exact = 1 + (wanted - floor) / slope
        if abs(math.log(exact / (ratio * width))) > FARTHEST:
            continue
        for grain in (16, 8, 4, 2, 1):
            inner = max(1, grain * round(exact / grain))
            error = abs(floor + slope * (inner - 1) - wanted) / wanted
            if error <= aim or grain == 1:
                bend = abs(math.log(inner / (ratio * width)))
                yield _Candidate(_shape(template, width, inner), error, bend)
                break


def _shape(template: DenseConfig, width: int, feed_forward: int) -> DenseConfig:
    return DenseConfig.model_validate({**template.model_dump(), "width": width, "feed_forward": feed_forward})


def _impossible(
    wanted: float, template: DenseConfig, vocab: int, match: str, tolerance: float, context: int, closest: float
) -> PlanError:
    smallest = _shape(template, 2 * template.heads, 1)
    least = quantity(smallest, vocab, match, context)
    found = f"no dense model of {template.layers} layers and {template.heads} heads has {match} = {wanted:,.0f}"
    if least > wanted:
        hint = (
            f"the smallest, of width {smallest.width}, has {least:,.0f}; a smaller vocabulary, or fewer layers or heads"
        )
    elif math.isfinite(closest):
        hint = (
            f"the closest is {closest:.1%} off: raise control.tolerance, or take fewer heads, for finer steps of width"
        )
    else:
        hint = "every width would need a feed-forward width far from the template's: take fewer heads or layers"
    return PlanError("control", found, f"within {tolerance:.1%}", hint)

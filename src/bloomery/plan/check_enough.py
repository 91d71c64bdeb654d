"""Whether the items and seeds of a condition are enough for the confidence that it asks for; warns where they are not.

A proportion judged on n items can clear a threshold only if a perfect result on n items would (Clopper-Pearson); a
metric without items has an interval over seeds only, from three on. train/non_finite is judged as its mean over seeds,
the share of them that diverged: a threshold that takes one of several otherwise than all of them is warned about.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from bloomery.plan import metrics
from bloomery.plan.look import Asked, Look, Placed
from bloomery.plan.schema import Condition

_SHARES = ("accuracy", "_rate", "_share", "survival", "retention")
"""Endings of quantities that are proportions of items."""

_WITHOUT_ITEMS = ("train", "tally", "cost", "repeat")
"""Sources whose metrics are one number for a run, not a mean over items."""

_FEWEST_SEEDS = 3

_FLAG = "train/non_finite"
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def check(look: Look, found: Asked, placed: Placed) -> None:
    """Warn where the items or seeds that a confidence needs are known to be too few."""
    condition = found.condition
    _any_seed(look, found, placed)
    if condition.confidence is None or not 0.5 < condition.confidence < 1:
        return
    error = (1 - condition.confidence) / found.alternatives
    seeds = len(look.seeds(placed))
    source = metrics.source(condition.metric)
    if source in _WITHOUT_ITEMS and condition.aggregate == "worst":
        what = f"{condition.metric} has no items, and the worst of {seeds} seeds has an interval over its items only"
        look.warn((*found.path, "confidence"), what, "without `confidence`, or the mean over seeds")
    elif source in _WITHOUT_ITEMS and seeds < _FEWEST_SEEDS:
        pairs = "pairs of seeds" if condition.relative_to is not None else "seeds"
        what = f"{condition.metric} has no items, and an interval over {pairs} needs {_FEWEST_SEEDS}; there are {seeds}"
        look.warn((*found.path, "confidence"), what, "without `confidence`, or with more seeds")
    items = share_items(look, condition)
    if items is None or condition.relative_to is not None:
        return
    needed = items_needed(float(condition.value), error, upper=condition.op in ("<", "<="))
    if needed is not None and items < needed:
        what = f"even a perfect result on {items} items cannot clear {condition.value:g}; it takes {needed}"
        look.warn((*found.path, "value"), what, f"suites.{source}.items: {needed}, or a lower confidence")


def share_items(look: Look, condition: Condition) -> int | None:
    """How many items a share is judged on, where the plan or the suite's kind says so; None for what is no share."""
    suite = look.plan.suites.get(metrics.source(condition.metric))
    if suite is None or not metrics.base(condition.metric).rpartition("/")[2].endswith(_SHARES):
        return None
    if suite.items is not None:
        return suite.items
    kind = look.catalogue.suites().get(suite.kind)
    default = kind.config_model().model_fields.get("items") if kind is not None else None
    return default.default if default is not None and isinstance(default.default, int) else None


def _any_seed(look: Look, found: Asked, placed: Placed) -> None:
    condition, seeds = found.condition, len(look.seeds(placed))
    if condition.metric != _FLAG or condition.aggregate != "mean" or condition.relative_to is not None or seeds < 2:
        return
    compare = _COMPARE[condition.op]
    if compare(1 / seeds, condition.value) == compare(1.0, condition.value):
        return
    asked = f"{condition.op} {condition.value:g}"
    what = f"{_FLAG} is the share of seeds that diverged, and {asked} takes one of {seeds} otherwise than all"
    look.warn((*found.path, "value"), what, "`> 0` asks whether any seed diverged, `== 0` whether none did")


def items_needed(value: float, error: float, *, upper: bool) -> int | None:
    """The fewest items on which a perfect result clears `value` with one-sided error `error` (Clopper-Pearson).

    All of n right: the lower bound is error^(1/n). None of n wrong: the upper bound is 1 - error^(1/n).
    """
    target = 1 - value if upper else value
    if not 0 < target < 1:
        return None
    return math.ceil(math.log(error) / math.log(target) - 1e-9)

"""Checks of `stop_if`: conditions that can be known while one cell runs.

One party and one seed are looked at alone, on what the stage itself measures on its way: there is nothing to compare
with, to aggregate or to be confident about, and no suite has judged yet.
"""

from __future__ import annotations

from bloomery.plan import metrics
from bloomery.plan.look import Asked, Look, Placed, asked


def check(look: Look) -> None:
    for placed in look.stages:
        for found in asked(placed):
            if found.place == "stop_if":
                _condition(look, placed, found)


def _condition(look: Look, placed: Placed, found: Asked) -> None:
    condition, path = found.condition, found.path
    alone = "one cell is looked at alone"
    if condition.relative_to is not None:
        look.problem((*path, "relative_to"), f"`relative_to` in stop_if: {alone}", "a condition on its own value")
    if condition.aggregate != "mean" or (*path, "aggregate") in look.loaded.lines:
        look.problem((*path, "aggregate"), f"`aggregate` in stop_if: {alone}", "a condition on one seed")
    if condition.confidence is not None:
        look.problem((*path, "confidence"), f"`confidence` in stop_if: {alone}", "a condition on what was measured")
    if condition.after is not None and condition.after >= 1:
        look.problem((*path, "after"), "a look after the last one", "a share from 0% to less than 100%")
    source = metrics.source(condition.metric)
    if source in look.plan.suites:
        what = f"the suite '{source}' judges only what a stage has made"
        look.problem((*path, "metric"), what, "a metric that the stage measures on its way")
    elif metrics.find(condition.metric, metrics.ENGINE) is not None:
        what = f"{condition.metric} is known only when the stage has ended"
        look.problem((*path, "metric"), what, "a metric that the stage measures on its way")

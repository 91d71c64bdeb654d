"""Warns about what a plan declares and never uses: a hypothesis without a gate, a control, baselines and suites."""

from __future__ import annotations

from bloomery.plan import metrics
from bloomery.plan.look import Look, asked, claimed
from bloomery.plan.schema import Condition


def check(look: Look) -> None:
    if look.plan.hypothesis is not None and not any(placed.spec.gate for placed in look.stages):
        look.warn(("hypothesis",), "a hypothesis, but no gate that could refute it", "give a stage a `gate`")
    conditions = _every_condition(look)
    parties = {condition.relative_to or "" for condition in conditions} | {condition.of for condition in conditions}
    if look.plan.control is not None and not any(party == "control" or party.endswith("@control") for party in parties):
        look.warn(("control",), "nothing is compared with the control, so it does not run", "relative_to: control")
    for name in look.plan.baselines:
        if f"baseline:{name}" not in parties and "baseline:*" not in parties:
            look.warn(("baselines", name), f"nothing is compared with '{name}', so it is not fitted")
    used = {metrics.source(condition.metric) for condition in conditions}
    used |= {suite for placed in look.stages for suite in placed.spec.evaluate}
    for name in look.plan.suites:
        if name not in used:
            look.warn(("suites", name), f"no stage uses the suite '{name}'")


def _every_condition(look: Look) -> list[Condition]:
    found = [one for placed in look.stages for one in asked(placed)] + list(claimed(look.plan))
    return [one.condition for one in found]

"""What to do after a verdict: go on, try again with a rule's patch, go on without the stage, or stop. Pure.

The first rule that matches the verdict and whose `when` holds on the evidence, and that is not used up; else *not
promoted* where the stage is optional; else stop. A `when` that is missing or inconclusive does not hold, and the reason
says so. It may look at what a party measured before it broke, which a gate may not. It knows nothing of walks or
attempts: `used` counts how often each rule of this stage was applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bloomery.engine.evidence import Cast
from bloomery.engine.gate import judge
from bloomery.engine.verdict import ConditionResult, Verdict
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import Rule, StageSpec


@dataclass(frozen=True, slots=True)
class GoOn:
    """The stage's own result is handed on. With a rule: although its gate did not pass."""

    reason: str
    rule: Rule | None = None
    action: ClassVar[str] = "go_on"


@dataclass(frozen=True, slots=True)
class Retry:
    """The rule's patch joins the plan, which is walked again from the top."""

    reason: str
    rule: Rule
    action: ClassVar[str] = "retry"


@dataclass(frozen=True, slots=True)
class NotPromoted:
    """What came in is handed on."""

    reason: str
    rule: None = None
    action: ClassVar[str] = "not_promoted"


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends here, failed."""

    reason: str
    rule: Rule | None = None
    action: ClassVar[str] = "stop"


Decision = GoOn | Retry | NotPromoted | Stop


def next_attempt(
    stage: StageSpec,
    verdict: Verdict,
    evidence: Sequence[Measurement],
    used: Mapping[str, int],
    declared: Mapping[str, Emitted] | None = None,
    cast: Cast | None = None,
) -> Decision:
    """The decision after an attempt. `declared` is for the rules' `when`; without it, whatever was measured counts."""
    if verdict.passed:
        return GoOn("the gate passed" if stage.gate else "there is no gate")
    known = declared if declared is not None else {one.name: Emitted(one.unit) for one in evidence}
    lacking: list[str] = []
    for rule in stage.on_fail:
        lack = _lack(rule, verdict, evidence, used, known, cast)
        if lack:
            lacking.append(f"rule '{rule.name}' {lack}")
        elif rule.then == "stop":
            return Stop(rule.because, rule)
        elif rule.then == "go_on":
            return GoOn(rule.because, rule)
        else:
            return Retry(rule.because, rule)
    why = "; ".join(lacking) or "the stage has no remedies"
    outcome = f"the gate's verdict is {verdict.status}"
    outcome += f" ({verdict.reason}); {why}" if verdict.reason else f"; {why}"
    if stage.optional:
        return NotPromoted(f"{outcome}; the stage is optional")
    return Stop(outcome)


def _lack(
    rule: Rule,
    verdict: Verdict,
    evidence: Sequence[Measurement],
    used: Mapping[str, int],
    declared: Mapping[str, Emitted],
    cast: Cast | None,
) -> str:
    """What keeps a rule from being used; empty if nothing does. Only retries are used up."""
    if verdict.status not in rule.verdict:
        return f"is for a verdict of {' or '.join(rule.verdict)}"
    times = used.get(rule.name, 0)
    if rule.then is None and times >= rule.max_attempts:
        return f"is used up ({times} of {rule.max_attempts})"
    when = judge(rule.when, evidence, declared, cast=replace(cast, lost=frozenset()) if cast is not None else None)
    if when.passed:
        return ""
    return "does not apply: " + "; ".join(_said(one) for one in when.conditions if one.status != "pass")


def _said(result: ConditionResult) -> str:
    return f"{result.words} ({result.reason})" if result.reason else result.words
